"""The best state: all sources' together where they share something, each network's own where they do not."""

import numpy as np
import pytest

from kerasrep.model.blocks import BlockOptions
from kerasrep.model.restore import weight_arrays
from kerasrep.model.strategies import build_network
from kerasrep.storage.run_directory import read_arrays
from kerasrep.training.best import ALL, Best, choice_of, choices, improved, keep
from kerasrep.training.summary import Summary, SummaryRow

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
    assert Summary([row], 7, 1.0, "last").table().startswith("validation loss (last of 7 epochs)\n")
    assert Summary([row], 7, 1.0).table().startswith("validation loss (best of 7 epochs)\n")
