import csv
import dataclasses
import functools
import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_evaluations import (
    NOTES,
    PROVENANCE,
    REPRESENTATIONS,
    TASKS,
    make_comparisons,
    make_evaluation,
    make_evaluations,
    with_left_out,
)
from scipy import stats

from kerasrep.errors import DataError, RunError
from kerasrep.evaluation.base import Comparison, Evaluation, FoldScore, ProbeResult
from kerasrep.evaluation.report import terminal_report, write_report
from kerasrep.evaluation.report.figures import draw_bars, draw_confusions, draw_tasks
from kerasrep.evaluation.report.overview import (
    findings,
    overview_of,
    pair_sentences,
    sensitivity_sentences,
    win_sentences,
)
from kerasrep.evaluation.results import safe_name
from kerasrep.evaluation.significance import holm
from kerasrep.report.drawing import drawing, new_figure
from kerasrep.report.wording import decimals_for, number

ROOT = Path(__file__).parents[2]


one_evaluation = functools.cache(make_evaluation)


BY = "by 0.200 [0.150, 0.250]"


def scored(representation: str, mean: float, task: str = "dance", **changes) -> Evaluation:
    """An evaluation with a chosen score, an interval from 0.1 below to 0.1 above it, and 0.2 by chance."""
    made = one_evaluation()
    probe = dataclasses.replace(made.probes[0], mean=mean, low=mean - 0.1, high=mean + 0.1)
    chance = dataclasses.replace(made.probes[-1], mean=0.2, low=0.1, high=0.3)
    changes |= {"representation": representation, "task": task, "probes": (probe, chance)}
    return dataclasses.replace(made, **changes)


def compared(
    first: str, second: str, difference: float, p_value: float, task: str = "dance", probe: str = "linear_svm"
) -> Comparison:
    ends = (difference - 0.05, difference + 0.05)
    return Comparison(task, probe, "accuracy", first, second, difference, *ends, p_value, 160, 80)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on one task of each kind, its evaluations and its comparisons."""
    folder = tmp_path_factory.mktemp("report")
    evaluations = make_evaluations(tasks=("demo_dance", "demo_tempo", "demo_recommendation"))
    comparisons = make_comparisons(evaluations)
    files = write_report(folder, evaluations, comparisons, PROVENANCE, NOTES)
    return folder, files, evaluations, comparisons


# ---------------------------------------------------------------- what the numbers say


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_corrected_p_values_are_those_of_the_closed_test_of_bonferroni(p_values):
    n = len(p_values)
    comparisons = [compared("a", "b", 0.1, p, f"task {i}") for i, p in enumerate(p_values)]
    evaluations = [scored("a", 0.5, f"task {i}") for i in range(n)]
    subsets = [s for size in range(1, n + 1) for s in combinations(range(n), size)]
    for i, adjusted in enumerate(overview_of(evaluations, comparisons).comparisons):
        closed = max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s)
        assert adjusted.p_holm == pytest.approx(closed, abs=1e-12)


def test_p_values_of_headlines_are_corrected_together_and_those_of_each_other_probe_by_themselves():
    tempo = scored("a", 0.5, "tempo")
    tempo = dataclasses.replace(tempo, probes=(dataclasses.replace(tempo.probes[0], probe="ridge"),))
    headlines = [compared("a", "b", 0.1, 0.02), compared("a", "b", 0.1, 0.03, "tempo", "ridge")]
    others = [
        compared("a", "b", 0.1, 0.04, probe="mlp"),
        compared("a", "b", 0.1, 0.05, "tempo", "linear_svm"),
    ]
    overview = overview_of([scored("a", 0.5), tempo], [*headlines, *others])
    assert [a.p_holm for a in overview.comparisons] == pytest.approx([0.04, 0.04, 0.04, 0.05])
    assert [a.comparison for a in overview.headline_comparisons()] == headlines


@pytest.mark.parametrize(
    ("p_value", "turned", "verdict"),
    [
        (0.01, False, "a significant difference between mss/1 and mfcc, 0.200 [0.150, 0.250] (p = 0.010); "),
        (0.01, True, "a significant difference between mss/1 and mfcc, 0.200 [0.150, 0.250] (p = 0.010); "),
        (
            0.0001,
            False,
            "a significant difference between mss/1 and mfcc, 0.200 [0.150, 0.250] (p < 0.001); ",
        ),
        (0.05, False, "no significant difference between mss/1 and mfcc, 0.200 [0.150, 0.250] (p = 0.050); "),
        (None, False, ""),
    ],
)
def test_the_best_is_compared_with_the_next(p_value, turned, verdict):
    evaluations = [scored("mfcc", 0.5), scored("mss/1", 0.7), scored("random", 0.4)]
    pair = (
        compared("mfcc", "mss/1", -0.2, p_value or 0)
        if turned
        else compared("mss/1", "mfcc", 0.2, p_value or 0)
    )
    (finding,) = findings(overview_of(evaluations, [] if p_value is None else [pair]))
    assert finding.best == ("mss/1",)
    score = "mss/1 has the highest score (accuracy 0.700 [0.600, 0.800], chance 0.200)"
    untested = "" if verdict else "; its lead of 0.200 over mfcc was not tested"
    assert finding.sentence == f"dance: {verdict}{score}{untested}."


def test_a_lead_that_is_not_significant_is_never_called_best_first():
    evaluations = [scored("starter/1", 0.7), scored("mfcc", 0.69)]
    overview = overview_of(evaluations, [compared("starter/1", "mfcc", 0.01, 0.64)])
    assert list(win_sentences(overview)) == []  # of one task the finding says it
    (finding,) = findings(overview)
    assert finding.sentence.startswith("dance: no significant difference between starter/1 and mfcc, 0.010 ")


def test_where_only_the_first_is_compared_its_test_with_the_best_stands_first():
    evaluations = [scored("mine", 0.5), scored("other", 0.6), scored("mfcc", 0.7)]
    comparisons = [compared("mine", "other", -0.1, 0.2), compared("mine", "mfcc", -0.2, 0.3)]
    overview = overview_of(evaluations, comparisons)
    (finding,) = findings(overview)
    assert finding.behind is None
    assert finding.sentence.startswith("dance: no significant difference between mfcc and mine, 0.200 ")
    assert "its lead of 0.100 over other was not tested" in finding.sentence
    (sentence,) = sensitivity_sentences(overview)
    assert "between mfcc and mine would be found" in sentence


def test_what_could_have_been_found_is_what_a_power_of_80_percent_finds():
    evaluations = [scored("a", 0.7), scored("b", 0.68)]
    half_width = 0.05
    overview = overview_of(evaluations, [compared("a", "b", 0.02, 0.4)])
    (sentence,) = sensitivity_sentences(overview)
    error = half_width / stats.norm.ppf(0.975)
    smallest = float(re.search(r"a difference of ([\d.]+) between a and b would", sentence)[1])
    power = stats.norm.sf(stats.norm.ppf(0.975) - smallest / error)
    assert power == pytest.approx(0.8, abs=0.01)
    needed = int(re.search(r"about ([\d,]+) items", sentence)[1].replace(",", ""))
    error_then = error * np.sqrt(160 / needed)
    assert stats.norm.sf(stats.norm.ppf(0.975) - 0.02 / error_then) == pytest.approx(0.8, abs=0.02)
    assert sentence.startswith("dance: with 160 items in 80 groups, a difference of 0.071 ")
    assert list(sensitivity_sentences(overview_of(evaluations, [compared("a", "b", 0.02, 0.01)]))) == []


def test_a_score_beside_chance_is_called_so():
    (finding,) = findings(overview_of([scored("a", 0.29), scored("b", 0.1)]))
    assert finding.sentence.endswith("; its interval includes chance.")
    (finding,) = findings(overview_of([scored("a", 0.31), scored("b", 0.1)]))
    assert "reaches down" not in finding.sentence


def test_what_is_level_or_alone_is_called_so():
    (finding,) = findings(overview_of([scored("a", 0.5), scored("b", 0.50001), scored("c", 0.4)]))
    assert finding.best == ("b", "a")
    assert "b and a are level at the top" in finding.sentence
    (finding,) = findings(overview_of([scored("a", 0.5)]))
    assert "a alone was evaluated (accuracy 0.500" in finding.sentence


def test_tasks_won_and_pairs_are_counted():
    scores = {"x": (0.7, 0.5), "y": (0.7, 0.5), "z": (0.4, 0.6)}
    evaluations = [scored(n, s, t) for t, pair in scores.items() for n, s in zip("ab", pair, strict=True)]
    p_values = {"x": 0.001, "y": 0.9, "z": 0.002}
    comparisons = [compared("a", "b", a - b, p_values[t], t) for t, (a, b) in scores.items()]
    overview = overview_of(evaluations, comparisons)
    assert list(win_sentences(overview)) == [
        "a is significantly ahead of the next one on 1 of 3 tasks: x by 0.200 [0.150, 0.250]; its score is "
        "the highest on 2 of 3 tasks.",
        "b is significantly ahead of the next one on 1 of 3 tasks: z by 0.200 [0.150, 0.250]; its score is "
        "the highest on 1 of 3 tasks.",
    ]
    assert list(pair_sentences(overview)) == [
        "a scores above b on 2 of 3 tasks: significantly better on 1, significantly worse on 1.",
    ]


@pytest.mark.parametrize(
    ("n_tested", "words"),
    [
        (0, "was not tested against the next one"),
        (1, f"is significantly ahead of the next one on 1 of 5 tasks (1 tested): v {BY}"),
        (2, f"is significantly ahead of the next one on 2 of 5 tasks (2 tested): v {BY} and w {BY}"),
        (5, f"is significantly ahead of the next one on 5 of 5 tasks: v {BY}, w {BY}, x {BY} and 2 more"),
    ],
)
def test_only_what_was_tested_is_called_significant(n_tested, words):
    evaluations = [scored(name, mean, task) for task in "vwxyz" for name, mean in (("a", 0.7), ("b", 0.5))]
    comparisons = [compared("a", "b", 0.2, 0.001, task) for task in "vwxyz"[:n_tested]]
    (sentence,) = win_sentences(overview_of(evaluations, comparisons))
    assert sentence == f"a {words}; its score is the highest on 5 of 5 tasks."


def test_leads_that_are_not_significant_are_none():
    evaluations = [scored(name, mean, task) for task in "xy" for name, mean in (("a", 0.7), ("b", 0.5))]
    comparisons = [compared("a", "b", 0.2, 0.3, task) for task in "xy"]
    (sentence,) = win_sentences(overview_of(evaluations, comparisons))
    assert sentence.startswith("a has a significant lead over the next one on none of 2 tasks; its score is ")


def test_nothing_twice_and_nothing_that_is_not_finite_is_reported():
    with pytest.raises(DataError, match="nothing was evaluated"):
        terminal_report([])
    with pytest.raises(DataError, match="a on dance was evaluated twice"):
        terminal_report([scored("a", 0.5), scored("a", 0.6)])
    with pytest.raises(DataError, match="a on dance: a score of the probe linear_svm is not finite"):
        terminal_report([scored("a", float("nan"))])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7123, "0.712"),
        (0.0546, "0.0546"),
        (0.00154, "0.00154"),
        (12.345, "12.35"),
        (123.4, "123.4"),
        (0, "0.000"),
    ],
)
def test_three_digits_or_so_are_shown(value, text):
    assert number(value, decimals_for([value])) == text


def test_zero_has_no_sign():
    assert number(-0.0001, 3) == "0.000"
    assert number(-0.0005001, 3) == "-0.001"


# ---------------------------------------------------------------- the terminal


def test_three_representations_on_six_tasks_fit_100_columns():
    evaluations = make_evaluations()
    comparisons = make_comparisons(evaluations)
    text = terminal_report(evaluations, comparisons)
    assert max(map(len, text.splitlines())) <= 100
    table = text.split("\n\n")[0].splitlines()
    assert len(table) == 3 + len(TASKS)  # the title takes two lines
    assert table[2].split() == ["task", "metric", "chance", *REPRESENTATIONS]
    for line, task in zip(table[3:], TASKS, strict=True):
        of_task = [e for e in evaluations if e.task == task]
        assert line.split()[0] == task
        values = [float(v) for v in re.findall(r"(?<![\[.\d-])-?\d+\.\d+(?= \[|  )", line)]
        expected = [of_task[0].probes[-1].mean, *(e.probes[0].mean for e in of_task)]
        assert values == pytest.approx(expected, abs=6e-4)
        ends = [float(v) for v in re.findall(r"-?\d*\.\d+(?=[,\]])", line)]
        assert ends == pytest.approx(
            [x for e in of_task for x in (e.probes[0].low, e.probes[0].high)], abs=6e-3
        )


def test_the_verbose_report_fits_and_shows_every_probe_and_metric():
    evaluations = make_evaluations()
    comparisons = make_comparisons(evaluations)
    text = terminal_report(evaluations, comparisons, verbose=True)
    assert max(map(len, text.splitlines())) <= 100
    for name in ("logistic", "mlp", "balanced accuracy", "macro F1", "RMSE", "NDCG"):
        assert name in text
    blocks = text[text.index("Every probe") : text.index("Paired tests")].split("\n\n")
    assert not [line for block in blocks for line in block.splitlines() if line.endswith(" -")]
    assert "logistic" not in terminal_report(evaluations, comparisons)


def test_wide_tables_become_blocks_of_whole_columns():
    names = [f"representation-{i}" for i in range(9)]
    text = terminal_report([scored(name, 0.5 + i / 100) for i, name in enumerate(names)], width=80)
    blocks = text.split("\n\n")[:3]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 80
    headers = [block.splitlines()[-2].split() for block in blocks]
    assert all(header[:3] == ["task", "metric", "chance"] for header in headers)
    assert [name for header in headers for name in header[3:]] == names


def test_long_and_wide_names_keep_columns_aligned():
    names = ["exported/" + "a" * 80 + "/1", "音楽表現", "b"]
    text = terminal_report([scored(name, 0.5, "舞曲" * 30) for name in names], width=70)
    assert "exported/aa…aaaaaaaaaa/1" in text
    widths = {c: 2 if ord(c) > 0x2E80 else 1 for c in text}
    for block in text.split("\n\n")[:2]:
        header, row = block.splitlines()[-2:]
        assert max(sum(map(widths.get, line)) for line in (header, row)) <= 70
        starts = [
            sum(map(widths.get, line[: line.index(word)]))
            for line, word in ((header, "metric"), (row, "accuracy"))
        ]
        assert starts[0] == starts[1]


def test_names_cannot_steer_the_terminal():
    text = terminal_report([scored("\x1b[2J\nevil\u202e", 0.5)], [compared("\x1b[2J", "\x07", 0.1, 0.1)])
    assert "\\x1b[2J\\nevil\\u202e" in text
    assert not {c for c in text if not c.isprintable()} - {"\n"}


def test_a_failed_task_leaves_a_gap():
    text = terminal_report([scored("a", 0.5), scored("b", 0.6), scored("a", 0.7, "metre")])
    assert re.search(r"^metre +accuracy +0\.200 +0\.700 \[\.60, \.80\] +-$", text, re.MULTILINE)


def test_headline_probes_are_named_by_kind_of_task():
    other = scored("a", 0.5, "tempo", kind="regression")
    other = dataclasses.replace(other, probes=(dataclasses.replace(other.probes[0], probe="ridge"),))
    text = terminal_report([scored("a", 0.5), other])
    assert "probe: linear_svm for classification, ridge for regression" in " ".join(text.split())


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"items": {"found": 930, "published": 930}}, "dance: 930 items found, 930 published: verified"),
        ({"items": {"found": 24, "published": 1000}}, "dance: 24 items found, 1,000 published: unverified"),
        ({"items": {"found": 24, "published": None}}, "dance: 24 items found"),
        (
            {"items": {"found": 9, "published": 9}, "classes": {"found": 3, "published": 4}},
            "dance: 9 items found, 9 published; 3 classes found, 4 published: unverified",
        ),
    ],
)
def test_counts_are_held_against_the_published_numbers(counts, line):
    assert line in terminal_report([scored("a", 0.5, counts=counts)]).splitlines()


def test_what_was_left_out_is_counted_with_a_reason():
    left_out = {"t1": "cannot be decoded", "t2": "is silent"}
    both = [with_left_out(scored(name, 0.5), **left_out) for name in "ab"]
    assert "dance: 2 items left out (t1: cannot be decoded; and 1 other)" in terminal_report(both)
    assert "2 items left out with a (t1" in terminal_report([both[0], scored("b", 0.4)])


# ---------------------------------------------------------------- files


def test_scores_csv_has_every_metric_of_every_fold(report):
    folder, _, evaluations, _ = report
    assert (folder / "scores.csv").read_text().splitlines()[
        0
    ] == "representation,task,probe,fold,metric,value"
    found = [tuple(row.values()) for row in rows_of(folder / "scores.csv")]
    expected = [
        (e.representation, e.task, p.probe, str(s.fold), s.metric, repr(s.value))
        for e in evaluations
        for p in e.probes
        for s in p.scores
    ]
    assert found == expected


def test_summary_csv_has_means_and_intervals(report):
    folder, _, evaluations, _ = report
    rows = rows_of(folder / "summary.csv")
    scores = ["representation", "task", "probe", "metric", "mean", "low", "high"]
    assert list(rows[0]) == [*scores, "n_items", "seen", "seen_scored"]
    assert {(row["seen"], row["seen_scored"]) for row in rows} == {("0", "0")}
    by_name = {(r["representation"], r["task"], r["probe"], r["metric"]): r for r in rows}
    assert (
        len(by_name)
        == len(rows)
        == sum(len({s.metric for s in p.scores}) for e in evaluations for p in e.probes)
    )
    probe = evaluations[0].probes[0]
    row = by_name["mss/1", "demo_dance", "linear_svm", "accuracy"]
    assert [float(row[k]) for k in ("mean", "low", "high")] == [probe.mean, probe.low, probe.high]
    row = by_name["mss/1", "demo_dance", "linear_svm", "macro_f1"]
    expected = np.mean([s.value for s in probe.scores if s.metric == "macro_f1"])
    assert float(row["mean"]) == pytest.approx(expected, rel=1e-12)
    assert (row["low"], row["high"], row["n_items"]) == ("", "", "160")


def test_comparisons_csv_has_both_p_values(report):
    folder, *_, comparisons = report
    rows = rows_of(folder / "comparisons.csv")
    assert [float(row["p_value"]) for row in rows] == [c.p_value for c in comparisons]
    assert [float(row["p_holm"]) for row in rows] == holm([c.p_value for c in comparisons]).tolist()


def test_scores_json_is_enough_to_draw_tables_and_plots_again(report):
    folder, _, evaluations, comparisons = report
    stored = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert stored["provenance"] == PROVENANCE
    assert stored["notes"] == list(NOTES)
    nothing = {name: np.array([]) for name in ("unit_ids", "unit_folds", "unit_scores")}

    def probe(record) -> ProbeResult:
        scores = tuple(FoldScore(**score) for score in record.pop("scores"))
        confusion = record.pop("confusion")
        confusion = None if confusion is None else np.array(confusion)
        return ProbeResult(**record | nothing, scores=scores, confusion=confusion)

    rebuilt = [
        Evaluation(**record | {"probes": tuple(map(probe, record["probes"]))})
        for record in stored["evaluations"]
    ]
    fields = {f.name for f in dataclasses.fields(Comparison)}
    again = [Comparison(**{k: v for k, v in c.items() if k in fields}) for c in stored["comparisons"]]
    assert terminal_report(rebuilt, again, verbose=True) == terminal_report(
        evaluations, comparisons, verbose=True
    )
    dance = [[e for e in some if e.task == "demo_dance"] for some in (rebuilt, evaluations)]
    pictures = [{**draw_confusions(overview_of(es)), "bars": draw_bars(overview_of(es))[0]} for es in dance]
    assert pictures[0] == pictures[1]


def test_predictions_say_what_the_headline_probe_said_of_each_item(report):
    folder, _, evaluations, _ = report
    probe = evaluations[0].probes[0]
    rows = rows_of(folder / "predictions" / safe_name("mss/1") / "demo_dance.csv")
    assert [row["item"] for row in rows] == probe.unit_ids.tolist()
    assert np.mean([row["truth"] == row["prediction"] for row in rows]) == probe.mean
    assert not (folder / "predictions" / safe_name("mss/1") / "demo_recommendation.csv").exists()


def test_every_file_named_is_there_and_nothing_else(report):
    folder, files, *_ = report
    assert sorted(files) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert files[0] == folder / "report.html"
    kinds = {path.suffix for path in files}
    assert kinds == {".html", ".json", ".csv", ".png", ".kerasrep"}
    pictures = [path for path in files if path.suffix == ".png"]
    assert len(pictures) == 3 + len(REPRESENTATIONS)
    assert all(path.with_suffix(".csv").is_file() for path in pictures)


def test_a_second_report_replaces_the_first_and_leaves_other_files_alone(tmp_path):
    write_report(tmp_path, [scored("a", 0.5), scored("b", 0.4)], [], {})
    mine = tmp_path / "plots" / "mine.png"
    mine.write_text("kept")
    files = write_report(tmp_path, [scored("b", 0.4)], [], {})
    assert sorted([*files, mine]) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert not (tmp_path / "tensorboard" / "a").exists()
    before = {path: path.read_bytes() for path in files}
    assert write_report(tmp_path, [scored("b", 0.4)], [], {}) == files
    changed = {path for path in files if path.read_bytes() != before[path]}
    assert {path.suffix for path in changed} <= {".kerasrep"}  # event files hold the time


@pytest.mark.parametrize("name", ["plots/../../victim", "../victim", "/victim", "victim", "plots", 5])
def test_what_an_earlier_report_claims_can_remove_nothing_else(tmp_path, name):
    folder = tmp_path / "report"
    victims = [tmp_path / "victim", folder / "victim"]
    folder.mkdir()
    for victim in victims:
        victim.write_text("kept")
    name = str(victims[0]) if name == "/victim" else name
    (folder / "scores.json").write_text(json.dumps({"files": [name]}))
    write_report(folder, [scored("a", 0.5)], [], {})
    assert all(victim.exists() for victim in victims)
    assert list((folder / "plots").iterdir())


def test_settings_that_are_no_numbers_and_folders_that_cannot_be_written_are_one_line(tmp_path):
    with pytest.raises(DataError, match="not finite"):
        write_report(tmp_path / "a", [scored("a", 0.5)], [], {"loss": float("nan")})
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_report(tmp_path / "file", [scored("a", 0.5)], [], {})


# ---------------------------------------------------------------- TensorBoard


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_tensorboard_reads_every_score_of_every_representation(report):
    folder, _, evaluations, _ = report
    for name in REPRESENTATIONS:
        expected: dict[str, list[tuple[int, float]]] = {}
        for evaluation in (e for e in evaluations if e.representation == name):
            for probe in evaluation.probes:
                for s in probe.scores:
                    tag = f"{evaluation.task}/{probe.probe}/{s.metric}"
                    expected.setdefault(tag, []).append((s.fold, float(np.float32(s.value))))
        assert scalars_of(folder / "tensorboard" / safe_name(name)) == expected


def test_a_second_report_repeats_no_point(tmp_path):
    for mean in (0.5, 0.6):
        write_report(tmp_path, [scored("a", mean)], [], {})
    points = scalars_of(tmp_path / "tensorboard" / "a")["dance/linear_svm/accuracy"]
    assert [step for step, _ in points] == [0, 1, 2, 3, 4]


def test_a_report_imports_neither_tensorflow_nor_pyplot_and_leaves_matplotlib_as_it_was(tmp_path):
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import matplotlib
matplotlib.rcParams["font.size"] = 17.0
before = dict(matplotlib.rcParams)
from pathlib import Path
from made_evaluations import make_evaluation
from kerasrep.evaluation.report import write_report
write_report(Path({str(tmp_path)!r}), [make_evaluation()], [], {{}})
assert dict(matplotlib.rcParams) == before
print(sorted({{"tensorflow", "matplotlib.pyplot", "keras"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"
    assert result.stderr == ""


# ---------------------------------------------------------------- figures


def test_bars_end_at_scores_and_chance_is_marked():
    skewed = scored("b", 0.4)
    probes = (dataclasses.replace(skewed.probes[0], low=0.35), skewed.probes[1])
    skewed = dataclasses.replace(skewed, probes=probes)
    overview = overview_of([scored("a", 0.5), skewed, scored("b", 0.7, "metre")])
    with drawing():
        axes = new_figure(5, 5).add_subplot()
        draw_tasks(axes, overview, ("dance", "metre"))
    bars = sorted((round(bar.get_y(), 2), bar.get_width()) for bar in axes.patches)
    assert [width for _, width in bars] == pytest.approx([0.5, 0.4, 0.7])
    marks = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [set(mark.get_xdata()) for mark in marks] == [{0.2}, {0.2}]
    ends = [segment[:, 0] for c in axes.collections for segment in c.get_segments()]
    np.testing.assert_allclose(sorted(map(tuple, ends)), [(0.35, 0.5), (0.4, 0.6), (0.6, 0.8)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dance", "metre"]


def test_a_score_far_below_zero_leaves_the_others_readable():
    bad = scored("b", -300.0)
    overview = overview_of([scored("a", 0.5), bad])
    with drawing():
        axes = new_figure(5, 5).add_subplot()
        draw_tasks(axes, overview, ("dance",))
    assert axes.get_xlim()[0] > -1.1
    assert "◂ -300.0" in [text.get_text() for text in axes.texts]


@pytest.mark.filterwarnings("error")  # of a layout that is not applied
def test_scores_all_far_below_zero_are_drawn_in_their_places():
    bad = scored("a", -3.0, metric="r2")
    chance = dataclasses.replace(bad.probes[1], mean=-3.0, low=-3.0, high=-3.0)
    overview = overview_of([dataclasses.replace(bad, probes=(bad.probes[0], chance))])
    draw_bars(overview)
    with drawing():
        axes = new_figure(5, 5).add_subplot()
        draw_tasks(axes, overview, ("dance",))
    (text,) = axes.texts
    left, right = axes.get_xlim()
    assert left <= text.get_position()[0] <= right


def test_the_sentence_of_a_figure_counts_what_lies_above_chance():
    (picture,) = draw_bars(overview_of([scored("a", 0.5), scored("b", 0.25), scored("c", 0.4)]))
    assert picture.sentence == (
        "The highest accuracy is 0.500, of a on dance; 2 of 3 intervals lie above chance, not b on dance."
    )


def test_a_confusion_matrix_has_its_counts_and_a_true_sentence():
    evaluation = make_evaluation("a", "demo_metre", 0.8)
    probe = dataclasses.replace(
        evaluation.probes[0],
        classes=("x", "y", "z"),
        confusion=np.array([[8, 2, 0], [1, 2, 1], [0, 0, 0]]),
    )
    (picture,) = draw_confusions(overview_of([dataclasses.replace(evaluation, probes=(probe,))])).values()
    assert picture.sentence == (
        "a on demo_metre: 10 of 14 are right (71%); the most confused class is y, taken for x in 1 of 4."
    )
    assert [row[2] for row in picture.rows] == [8, 2, 0, 1, 2, 1, 0, 0, 0]
    assert [row[3] for row in picture.rows] == pytest.approx([0.8, 0.2, 0, 0.25, 0.5, 0.25, 0, 0, 0])


@pytest.mark.parametrize("n_classes", [1, 16, 40, 100])
def test_confusions_of_any_size_and_with_any_names_are_drawn(n_classes, recwarn):
    names = [f"$\\frac{i}^_ 音\x1b\ud800" + "long " * i for i in range(n_classes)]
    evaluation = make_evaluation("$x$", "demo_metre")
    probe = dataclasses.replace(
        evaluation.probes[0], classes=tuple(names), confusion=np.eye(n_classes, dtype=np.int64) * 1234
    )
    (picture,) = draw_confusions(overview_of([dataclasses.replace(evaluation, probes=(probe,))])).values()
    assert picture.png.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture.png[i : i + 4], "big") for i in (16, 20))
    assert max(width, height) < 1600
    assert not recwarn


def test_hostile_names_are_drawn_in_bars(recwarn):
    names = ["_hidden", "$x^{$", "音楽", "\x1b\ud800", "a" * 300]
    (picture,) = draw_bars(overview_of([scored(name, 0.5, "$_{") for name in names]))
    assert picture.png.startswith(b"\x89PNG")
    assert [row[2] for row in picture.rows] == names
    assert not recwarn
