"""The best state: all sources' together where they share something, each network's own where they do not."""

from dataclasses import replace

import numpy as np
import pytest

from kerasrep.model.blocks import BlockOptions
from kerasrep.model.restore import weight_arrays
from kerasrep.model.strategies import build_network
from kerasrep.storage.run_directory import read_arrays
from kerasrep.training.checkpoint import ALL, Best, choice_of, choices, improved, keep
from kerasrep.training.summary import Summary, SummaryRow
from kerasrep.training.validation import Outcomes

SOURCES = ("tag", "bpm")


@pytest.fixture(scope="module")
def apart():
    return network_of_strategy("mss-cr")


def network_of_strategy(strategy):
    return build_network(strategy, SOURCES, {"tag": 4, "bpm": 3}, options=BlockOptions(width=0.125))


def set_all(network, value):
    for group in network.groups:
        for variable in network.variables(group):
            variable.assign(np.full(variable.shape, value, np.float32))


def test_sources_that_share_nothing_choose_for_themselves_and_others_together(apart):
    assert choices(apart) == {"tag": ("tag",), "bpm": ("bpm",)}
    assert choices(network_of_strategy("ms-cr@2")) == {ALL: SOURCES}
    assert choices(network_of_strategy("ms-sr@fc")) == {ALL: SOURCES}


def test_only_a_lower_loss_is_better(apart):
    best = {"tag": Best(1.0, 4), "bpm": Best(2.0, 4)}
    assert improved(apart, {"tag": 1.0, "bpm": 1.5}, best, 8) == {"bpm": Best(1.5, 8)}
    assert improved(apart, {"tag": 3.0, "bpm": 3.5}, {}, 4) == {"tag": Best(3.0, 4), "bpm": Best(3.5, 4)}
    joint = network_of_strategy("ms-cr@6")
    assert improved(joint, {"tag": 1.0, "bpm": 1.5}, {ALL: Best(1.3, 4)}, 8) == {ALL: Best(1.25, 8)}
    assert improved(joint, {"tag": 1.2, "bpm": 1.5}, {ALL: Best(1.3, 4)}, 8) == {}


def test_a_source_finds_the_choice_that_decided_about_it():
    assert choice_of("tag", {"tag": Best(1.0, 3), "bpm": Best(1.0, 5)}).epoch == 3
    assert choice_of("tag", {ALL: Best(1.0, 7)}).epoch == 7


def test_a_better_network_takes_no_other_network_past_its_best(apart, tmp_path):
    path = tmp_path / "best.npz"
    keep(path, apart, lambda: set_all(apart, 1.0), {"tag": Best(1.0, 1), "bpm": Best(1.0, 1)})
    keep(path, apart, lambda: set_all(apart, 2.0), {"bpm": Best(0.5, 2)})
    kept = read_arrays(path)
    assert set(kept) == set(weight_arrays(apart))
    of_bpm = {variable.path for variable in apart.variables("bpm")}
    assert of_bpm and of_bpm < set(kept)
    for name, values in kept.items():
        assert (values == (2.0 if name in of_bpm else 1.0)).all(), name


def test_the_last_state_is_kept_where_the_recipe_says_so_even_if_it_is_worse(make_run):
    network = make_run("ms-sr@fc").network
    before = {"all": Best(0.1, 1)}
    losses = dict.fromkeys(network.sources, 5.0)
    assert improved(network, losses, before, 2) == {}
    assert improved(network, losses, before, 2, last=True) == {"all": Best(5.0, 2)}


def test_the_table_says_which_state_it_is_about():
    row = SummaryRow("tag", 2.0, 1.0, 1.5, 0.5, 0.2, 7)
    assert (
        Summary([row], 7, 1.0, "last").table().startswith("validation loss (the last of 7 epochs is kept)\n")
    )
    assert Summary([row], 7, 1.0).table().startswith("validation loss (the best of 7 epochs is kept)\n")


def test_sources_that_lost_what_the_start_had_are_named_and_no_others():
    row = SummaryRow("tag", 2.0, 2.0, 1.5, 0.5, 0.2, 7)
    said = "worse than before the training"
    assert said not in Summary([row], 7, 1.0).table()
    rows = [row, replace(row, source="self", after=2.1), replace(row, source="key", after=3.0)]
    assert Summary(rows, 7, 1.0).table().splitlines()[-2] == f"{said}: self, key"


def test_a_loss_is_no_share_of_a_baseline_whose_loss_is_zero():
    rows = [SummaryRow("tag", 2.0, 0.3, 0.6, 0.5, 0.2, 7), SummaryRow("tempo", 2.0, 0.3, 3e-8, 0.5, 0.2, 7)]
    summary = Summary(rows, 7, 1.0)
    tag, tempo = (line.split() for line in summary.table().splitlines()[2:4])
    assert (tag[4], tempo[4], len(tag)) == ("50.0%", "-", len(tempo))
    assert [row["per_cent"] for row in summary.as_dict()["sources"].values()] == [50.0, None]


def outcomes_of(gains, weights=None, losses=None):
    n = len(gains)
    gains = np.array([gains, np.zeros(n)])
    scores = np.array([np.ones(n) if losses is None else losses, np.zeros(n)])
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    return Outcomes(np.arange(n) // 2, weights, scores, gains)


ROW = SummaryRow("tag", 2.0, 1.0, 1.5, 0.5, 0.2, 7)


def test_a_source_beats_the_baseline_only_beyond_the_interval_over_tracks():
    sure = ROW.with_intervals(outcomes_of(0.5 + 0.1 * np.sin(np.arange(40))))
    lucky = ROW.with_intervals(outcomes_of([*np.full(30, -1.0), *np.full(10, 3.1)]))
    assert (sure.tracks, sure.learnt, lucky.learnt) == (20, True, False)
    assert lucky.gain[0] < 0 < lucky.gain[1]
    table = Summary([sure, replace(lucky, source="year")], 7, 1.0).table()
    assert "1 of 2 sources beat the baseline" in table
    assert table.endswith("; better, but within the interval: year (20)")
    worse = replace(lucky, source="year", after=1.6)
    assert Summary([sure, worse], 7, 1.0).table().endswith("; not year")


def test_crops_of_a_track_are_drawn_together_and_unknown_ones_not_at_all():
    means = np.random.default_rng(0).normal(size=30)
    row = ROW.with_intervals(outcomes_of(np.repeat(means, 2), losses=np.repeat(means, 2)))
    margin = 1.96 * means.std() / np.sqrt(30)
    assert row.interval == pytest.approx((means.mean() - margin, means.mean() + margin), abs=0.1 * margin)
    masked = outcomes_of(np.repeat(means, 2), np.repeat(np.arange(30) % 2, 2), np.repeat(means, 2))
    assert ROW.with_intervals(masked).tracks == 15


def test_few_validation_tracks_allow_no_statement():
    row = ROW.with_intervals(outcomes_of([1.0, 1.0]))
    assert (row.tracks, row.learnt, row.interval) == (1, None, None)
    nothing = "nothing can be said of tag: fewer than 5 validation tracks"
    assert Summary([row], 7, 1.0).table().splitlines()[-1] == nothing
    sure = replace(ROW.with_intervals(outcomes_of(0.5 + 0.1 * np.sin(np.arange(40)))), source="year")
    said = Summary([row, sure], 7, 1.0).table().splitlines()[-1]
    assert said.startswith("1 of 1 sources beat the baseline") and said.endswith(f"; {nothing}")


def test_an_accuracy_that_is_no_top_1_is_explained():
    rows = [ROW, replace(ROW, source="valence", loss="squared"), replace(ROW, source="mood", loss="sigmoid")]
    assert Summary(rows, 7, 1.0).table().splitlines()[-2] == (
        "accuracy of valence: share of values within 0.5 standard deviations; "
        "mood: share of labels on the right side of one half"
    )
    assert "accuracy of" not in Summary([ROW], 7, 1.0).table()


def test_the_last_state_is_kept_where_all_sources_have_too_few_tracks_to_decide(apart):
    best = {"tag": Best(1.0, 4), "bpm": Best(2.0, 4)}
    losses = {"tag": 3.0, "bpm": 3.5}
    assert improved(apart, losses, best, 8, few={"tag"}) == {"tag": Best(3.0, 8)}
    joint = network_of_strategy("ms-cr@6")
    assert improved(joint, losses, {ALL: Best(1.0, 4)}, 8, few={"tag"}) == {}
    assert improved(joint, losses, {ALL: Best(1.0, 4)}, 8, few=set(losses)) == {ALL: Best(3.25, 8)}
