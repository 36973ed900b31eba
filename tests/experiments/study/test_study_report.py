"""The report of made-up scores: what it says follows from the numbers, and it can be read anywhere."""

import csv
import html
import re

import numpy as np
import pytest
from made_study import RECIPE, TASKS, make_study, write_outcomes

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.experiments.study.collect import collect, learning_curves, score_table
from kerasrep.experiments.study.report import write_study_report
from kerasrep.storage.run_directory import read_json, write_json


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    study, design, runs, folder = make_study(tmp_path_factory.mktemp("made"))
    write_outcomes(folder, runs)
    failures = {"ms-cr-2.<script>": "the disk & more"}
    page = write_study_report(folder, study, design, runs, failures, ["kerasrep-study", "a b.yaml"])
    return design, runs, folder, page.read_text()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_says_what_was_planted(written):
    *_, text = written
    assert "1 of 8 effects is significant after Holm's correction: tag (+" in html.unescape(text)
    assert "4 of 10 pairs differ significantly" in text
    assert "and ms-sr@fc lowest (-" in text
    assert "29 of 29 runs lie above random and 29 of 29 runs lie above mfcc" in text
    assert "Alone, tag scores highest on average" in text


def test_where_mss_cr_is_compared_the_page_says_that_its_runs_share_networks(written):
    *_, text = written
    assert 'class="note">All mss-cr runs of a seed are made of the same single-source networks' in text


def test_size_is_not_tested_and_no_note_stands_twice(written):
    *_, text = written
    assert "dimensions follow from the strategy and the number of sources" in html.unescape(text)
    assert "rank correlation" not in text
    notes = re.findall(r'<p class="note">(.+?)</p>', text, re.DOTALL)
    assert len(notes) == len(set(notes)) >= 2


def test_every_figure_has_a_picture_its_data_and_its_sentence(written):
    _, _, folder, text = written
    names = sorted(path.stem for path in (folder.root / "plots").glob("*.png"))
    assert names == sorted(path.stem for path in (folder.root / "plots").glob("*.csv"))
    assert len(names) == 12
    for name in names:
        assert f"Data: plots/{name}.csv" in text
        assert rows_of(folder.root / "plots" / f"{name}.csv")
    captions = re.findall(r"<figcaption>(.+?)<span", text)
    assert len(captions) == len(set(captions)) == len(names)


def test_tables_hold_every_score_effect_and_budget(written):
    _, runs, folder, _ = written
    tables = folder.root / "tables"
    assert len(rows_of(tables / "scores.csv")) == len(runs) * len(TASKS)
    assert {row["run"] for row in rows_of(tables / "runs.csv")} == {run.name for run in runs}
    effects = {(row["family"], row["effect"]): row for row in rows_of(tables / "effects.csv")}
    tag = effects["source", "tag"]
    assert float(tag["low"]) < float(tag["value"]) < float(tag["high"])
    assert float(tag["p"]) <= float(tag["p_holm"]) < 0.001
    assert {row["term"] for row in rows_of(tables / "anova.csv")} >= {"strategy", "number of sources", "tag"}
    assert {row["component"] for row in rows_of(tables / "variances.csv")} >= {"run", "residual"}


def test_the_page_loads_nothing_escapes_names_and_says_how_to_run_it_again(written):
    *_, text = written
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;known&lt;/b&gt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "kerasrep-study &#39;a b.yaml&#39;" in text
    assert "statsmodels" in text


def test_scores_are_those_of_the_runs_and_stale_ones_are_left_out(written):
    _, runs, folder, _ = written
    table = score_table(collect(folder, runs))
    assert table.values.shape == (39, 6)
    assert np.isfinite(table.values).all()
    path = folder.run(runs[0].name).scores
    whole = path.read_text()
    path.write_text(whole.replace(runs[0].job.key, "0" * 16))
    try:
        assert len(collect(folder, runs)) == 38
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda values: values["tasks"]["demo_metre"].pop("score"), "lacks 'score'"),
        (lambda values: values["tasks"]["demo_metre"].update(low="little"), "is damaged"),
        (lambda values: values.update(tasks=[1]), "is damaged"),
        (lambda values: values.update(seconds={"train": "long"}), "is damaged"),
        (lambda values: values.pop("dimension"), "lacks 'dimension'"),
    ],
)
def test_a_damaged_file_of_scores_is_one_line(tmp_path, damage, words):
    _, _, runs, folder = make_study(tmp_path)
    write_outcomes(folder, runs[:2])
    path = folder.run(runs[1].name).scores
    values = read_json(path)
    damage(values)
    write_json(path, values)
    with pytest.raises(DataError, match=f"scores.json: {words}.*; delete it and start the study again"):
        collect(folder, runs)


def test_curves_start_at_one_and_a_concatenation_has_the_mean_of_its_parts(written):
    design, runs, folder, _ = written
    outcomes = collect(folder, runs)
    curves = learning_curves(folder, outcomes, ("ss-r", *design.factors.strategies))
    assert [curve.strategy for curve in curves] == ["ss-r", *design.factors.strategies]
    for curve in curves:
        assert curve.mean[0] == pytest.approx(1)
        assert (curve.low <= curve.mean + 1e-12).all()
        assert (curve.mean <= curve.high + 1e-12).all()
    everything = [
        o
        for o in outcomes
        if o.run.facts.kind == "single"
        or (o.run.facts.strategy == "mss-cr" and len(o.run.facts.sources) == len(constants.SOURCES))
    ]
    single, concatenated = learning_curves(folder, everything, ("ss-r", "mss-cr"))
    assert (single.n_runs, concatenated.n_runs) == (8, 1)
    np.testing.assert_allclose(concatenated.mean, single.mean)


def test_pairs_of_sources_that_the_design_names_have_a_figure(tmp_path):
    design = "{kind: full, sources: [self, bpm, year, tag], strategies: [mss-cr, ms-cr@2], interactions: "
    design += "['bpm:tag', 'year:sources']}\nbaselines: []"
    text = RECIPE.replace("{kind: d-optimal, runs: 24, starts: 2}", design)
    study, design, runs, folder = make_study(tmp_path, text)
    write_outcomes(folder, runs)
    write_study_report(folder, study, design, runs, {}, ["kerasrep-study"])
    names = {row["effect"] for row in rows_of(folder.root / "plots" / "source-pairs.csv")}
    assert names == {"bpm with tag", "self with year", "bpm with year", "year with tag"}


def test_an_unfinished_study_has_a_report_that_says_so(tmp_path):
    study, design, runs, folder = make_study(tmp_path)
    write_outcomes(folder, runs[:9])
    page = write_study_report(folder, study, design, runs, {}, ["kerasrep-study"]).read_text()
    assert "No analysis yet: 0 multi-source runs have scores on all tasks" in page
    assert "30 of 39 runs are not done" in page
    assert "D-efficiency" in page


def test_a_study_in_which_no_source_varies_has_a_report(tmp_path):
    design = "{kind: full, sources: [tag, year]}"
    text = RECIPE.replace("{kind: d-optimal, runs: 24, starts: 2}", design)
    study, design, runs, folder = make_study(tmp_path, text + "seeds: [0, 1, 2]\n")
    write_outcomes(folder, runs)
    page = write_study_report(folder, study, design, runs, {}, ["kerasrep-study"]).read_text()
    assert "Accuracy against size" in page
    assert "Effect of each source" not in page
    assert "are made of the same single-source networks" not in page  # nothing is compared


@pytest.mark.browser
@pytest.mark.parametrize("width_pixels", [1200, 500])
def test_a_browser_shows_the_page(written, open_page, tmp_path, width_pixels):
    page = open_page(written[2].report, width_pixels, 3000)
    page.screenshot(path=tmp_path / "shot.png")
    from matplotlib.image import imread

    pixels = imread(tmp_path / "shot.png")[:, :, :3]
    assert pixels.shape[1] == width_pixels
    inked = (np.abs(pixels - pixels[2, 2]) > 0.2).any(axis=2)
    assert inked.mean() > 0.03  # text and figures down the page
    assert inked[-500:].any()
    assert not inked[:, -4:].any()  # nothing runs out of the page sideways
