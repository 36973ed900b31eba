"""Scores as files for other programs: JSON and CSV, UTF-8 with a header; and for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasrep.evaluation.base import Evaluation, ProbeResult
from kerasrep.evaluation.report.overview import Overview, seen_of
from kerasrep.evaluation.results import safe_name, summary_of, to_json
from kerasrep.storage.run_directory import write_text
from kerasrep.storage.tables import write_table

FORMAT = 1

Row = Sequence[Any]


def write_scores_csv(path: Path, overview: Overview) -> None:
    """Every metric of every fold: representation, task, probe, fold, metric, value."""
    rows = (
        (e.representation, e.task, probe.probe, score.fold, score.metric, float(score.value))
        for e, probe in _probes(overview)
        for score in probe.scores
    )
    write_table(path, ("representation", "task", "probe", "fold", "metric", "value"), rows)


def write_summary_csv(path: Path, overview: Overview) -> None:
    """One line a metric: names, metric, mean, low, high, n_items, seen, seen_scored.

    The task's score comes first, with its 95% interval, averaged over what was tested. The other metrics
    are averaged over folds and have no interval: `low` and `high` are empty. `seen` items were in the
    training of a model that is compared; `seen_scored` of them are among `n_items`, others are left out.
    """
    rows: list[Row] = []
    for evaluation, probe in _probes(overview):
        names = (evaluation.representation, evaluation.task, probe.probe)
        scores = (float(probe.mean), float(probe.low), float(probe.high))
        seen = seen_of(evaluation)
        items = (evaluation.n_items, *((seen.n_items, seen.n_scored) if seen else (0, 0)))
        rows.append((*names, probe.metric, *scores, *items))
        for metric in dict.fromkeys(score.metric for score in probe.scores):
            values = [float(score.value) for score in probe.scores if score.metric == metric]
            if metric != probe.metric:
                rows.append((*names, metric, sum(values) / len(values), "", "", *items))
    scores_of = ("representation", "task", "probe", "metric", "mean", "low", "high")
    write_table(path, (*scores_of, "n_items", "seen", "seen_scored"), rows)


def write_comparisons_csv(path: Path, overview: Overview) -> None:
    """One line a paired test, with the p value as it is and after Holm's correction."""
    header = (
        *("task", "probe", "metric", "first", "second", "difference"),
        *("low", "high", "p_value", "p_holm", "n_units", "n_groups"),
    )
    found = [vars(adjusted.comparison) | {"p_holm": adjusted.p_holm} for adjusted in overview.comparisons]
    write_table(path, header, [[values[name] for name in header] for values in found])


def write_scores_json(
    path: Path, overview: Overview, provenance: Mapping[str, Any], notes: Sequence[str], files: Sequence[str]
) -> None:
    """Everything that tables and plots show, with where it comes from; no predictions.

    Args:
        path: The JSON file.
        overview: Evaluations and comparisons.
        provenance: Versions, settings and the command, ready for JSON.
        notes: Lines the reader must know.
        files: What else was written, relative to the folder of `path`.
    """
    evaluations = []
    for evaluation in overview.cells.values():
        record = summary_of(evaluation)
        for probe, saved in zip(evaluation.probes, record["probes"], strict=True):
            saved["confusion"] = None if probe.confusion is None else probe.confusion.tolist()
        evaluations.append(record)
    value = {
        "format": FORMAT,
        "provenance": provenance,
        "notes": list(notes),
        "evaluations": evaluations,
        "comparisons": [vars(a.comparison) | {"p_holm": a.p_holm} for a in overview.comparisons],
        "files": list(files),
    }
    write_text(path, to_json(value))


def write_predictions(folder: Path, overview: Overview) -> list[Path]:
    """What the headline probe said of every tested item: item, fold, truth, prediction, score.

    Returns:
        The files, one for each representation and task that has predictions.
    """
    written = []
    for evaluation in overview.cells.values():
        probe = evaluation.probes[0]
        if probe.truths is None or probe.predictions is None:
            continue
        path = folder / safe_name(evaluation.representation) / f"{safe_name(evaluation.task)}.csv"
        columns = (probe.unit_ids, probe.unit_folds, probe.truths, probe.predictions, probe.unit_scores)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        write_table(path, ("item", "fold", "truth", "prediction", "score"), rows)
        written.append(path)
    return written


def _probes(overview: Overview) -> Iterable[tuple[Evaluation, ProbeResult]]:
    return ((evaluation, probe) for evaluation in overview.cells.values() for probe in evaluation.probes)


def write_event_files(folder: Path, overview: Overview) -> list[Path]:
    """Write one TensorBoard run per representation, with the tags `TASK/PROBE/METRIC` and folds as steps.

    Returns:
        The event files.
    """
    from kerasrep.report.event_files import scalars_event, write_events

    written = []
    for name in overview.representations:
        events = []
        for evaluation, probe in _probes(overview):
            for score in probe.scores if evaluation.representation == name else ():
                tag = "/".join(map(_tag_part, (evaluation.task, probe.probe, score.metric)))
                events.append(scalars_event({tag: float(score.value)}, int(score.fold)))
        written.append(write_events(folder / safe_name(name), events, time.time()))
    return written


def _tag_part(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode().replace("/", "_")
