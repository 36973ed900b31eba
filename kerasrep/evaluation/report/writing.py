"""Everything that is written after an evaluation, in one call.

The page has the items that were got wrong most, to listen to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from kerasrep.errors import DataError
from kerasrep.evaluation.base import Comparison, Evaluation
from kerasrep.evaluation.report.files import (
    write_comparisons_csv,
    write_event_files,
    write_predictions,
    write_scores_csv,
    write_scores_json,
    write_summary_csv,
)
from kerasrep.evaluation.report.overview import (
    Overview,
    findings,
    overview_of,
    pair_sentences,
    sensitivity_sentences,
    win_sentences,
)
from kerasrep.evaluation.report.tables import (
    class_table,
    comparison_table,
    data_lines,
    detail_tables,
    score_table,
)
from kerasrep.evaluation.results import summary_of, to_json
from kerasrep.report.drawing import Picture, write_picture
from kerasrep.report.page import render_page
from kerasrep.report.table import Table
from kerasrep.storage.run_directory import read_json, write_text

SCORES_JSON = "scores.json"
PAGE = "report.html"
TITLE = "Frozen representations on downstream tasks"
NEXT_STEPS = (
    "Listen to the worst items of a task: what they have in common says more than a score.",
    "Train the best recipe again with other seeds: the intervals do not cover another training.",
    "For a difference that was not significant, add items: above stands how many it would need.",
)
#: Of each task.
SHOWN = 10


def write_report(
    folder: Path,
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    audio: Mapping[str, Mapping[str, Path]] | None = None,
) -> list[Path]:
    """Write tables, figures, the page and TensorBoard's files; each appears whole or not at all.

    `report.html` is the page. `scores.csv` has every metric of every fold, `summary.csv` means and intervals,
    `comparisons.csv` the paired tests, `scores.json` all of it. `plots/` has each figure as PNG with its data
    as CSV, `predictions/REPRESENTATION/TASK.csv` what the first probe said of each item, `tensorboard/` one
    run a representation. What an earlier report wrote there and this one does not is removed.

    Args:
        folder: Made where it is missing.
        evaluations: Tasks and representations stand in order of first appearance.
        comparisons: Of pairs of representations; p values are corrected here.
        provenance: Versions and settings, ready for JSON; `command`, a line or its words, is how to run it
            again.
        notes: What the reader must know before any number.
        audio: Task -> item -> file, for players of the items that were got wrong most.

    Returns:
        The files, the page first.

    Raises:
        DataError: Where nothing was evaluated, one representation stands twice for a task, or a score is not
            finite.
        RunError: Where the folder cannot be written.
    """
    overview = overview_of(evaluations, comparisons)
    to_json([provenance, list(notes), *map(summary_of, evaluations), *map(vars, comparisons)])  # or nothing
    earlier = _earlier_files(folder)
    written = [
        *_write_page(folder, overview, provenance, notes, audio or {}),
        *_write_tables(folder, overview),
    ]
    names = sorted(path.relative_to(folder).as_posix() for path in written)
    write_scores_json(folder / SCORES_JSON, overview, provenance, notes, names)
    for name in earlier - set(names):
        _remove(folder, name)
    return [*written, folder / SCORES_JSON]


def _write_tables(folder: Path, overview: Overview) -> list[Path]:
    tables = {
        folder / "scores.csv": write_scores_csv,
        folder / "summary.csv": write_summary_csv,
        folder / "comparisons.csv": write_comparisons_csv,
    }
    for path, write in tables.items():
        write(path, overview)
    predictions = write_predictions(folder / "predictions", overview)
    return [*tables, *predictions, *write_event_files(folder / "tensorboard", overview)]


def _write_page(
    folder: Path,
    overview: Overview,
    provenance: Mapping[str, Any],
    notes: Sequence[str],
    audio: Mapping[str, Mapping[str, Path]],
) -> list[Path]:
    from kerasrep.evaluation.report.figures import draw_bars, draw_confusions

    bars, confusions = draw_bars(overview), draw_confusions(overview)
    page = folder / PAGE
    worst = worst_items(overview, audio, folder)
    write_text(page, build_page(overview, bars, confusions, provenance, notes, worst))
    plots = [path for picture in (*bars, *confusions.values()) for path in write_picture(folder, picture)]
    return [page, *plots]


def _earlier_files(folder: Path) -> set[str]:
    """What the report that lies there says it wrote."""
    try:
        files = read_json(folder / SCORES_JSON)["files"]
        return {name for name in files if isinstance(name, str)}
    except (DataError, KeyError, TypeError):
        return set()


def _remove(folder: Path, name: str) -> None:
    """Remove a file that only an earlier report wrote, and its folder when that is empty."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[0] not in {"plots", "predictions", "tensorboard"} or ".." in parts:
        return
    path = folder.joinpath(*parts)
    if path.is_symlink() or not path.is_file():
        return
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def build_page(
    overview: Overview,
    bars: Sequence[Picture],
    confusions: Mapping[tuple[str, str], Picture],
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    worst: Mapping[str, Sequence[WorstItem]] | None = None,
) -> str:
    """The page as text.

    Args:
        overview: Evaluations and comparisons.
        bars: One figure a metric.
        confusions: (task, representation) -> figure.
        provenance: Versions and settings, nested as one likes; `command`, a line or its words, is how to run
            it again.
        notes: What the reader must know before any number.
        worst: Task -> the items that were got wrong most.

    Returns:
        HTML in UTF-8; every name in it is escaped.
    """
    compared = comparison_table(overview, overview.comparisons) if overview.comparisons else None
    classes: dict[str, list[tuple[Picture, Table | None]]] = {}
    for (task, representation), picture in confusions.items():
        classes.setdefault(task, []).append((picture, class_table(overview.cells[task, representation])))
    answer, *sentences = [
        *win_sentences(overview),
        *(finding.sentence for finding in findings(overview)),
        *sensitivity_sentences(overview),
    ]
    return render_page(
        "evaluation.html",
        TITLE,
        notes,
        provenance,
        answer,
        NEXT_STEPS,
        sentences=sentences,
        scores=score_table(overview),
        bars=bars,
        pairs=list(pair_sentences(overview)),
        comparisons=compared,
        details=detail_tables(overview),
        classes=classes,
        worst=worst or {},
        data=data_lines(overview),
    )


@dataclass(frozen=True)
class WorstItem:
    """An item, and what was said of it.

    Attributes:
        item: Its name.
        truth: Its label.
        predictions: Representation -> what the first probe said.
        address: Of its audio, from the page on; empty where there is none.
    """

    item: str
    truth: str
    predictions: Mapping[str, str]
    address: str


def worst_items(
    overview: Overview, audio: Mapping[str, Mapping[str, Path]], folder: Path
) -> dict[str, list[WorstItem]]:
    """Of each task with labels, the items of the lowest mean score over all representations, the worst first.

    Args:
        overview: Evaluations.
        audio: Task -> item -> file.
        folder: That the page lies in.
    """
    found = {}
    for task in overview.tasks:
        evaluations = [one for one in overview.of_task(task) if one.probes[0].predictions is not None]
        if evaluations and (worst := _worst(evaluations, audio.get(task, {}), folder)):
            found[task] = worst
    return found


def _worst(evaluations: Sequence[Evaluation], audio: Mapping[str, Path], folder: Path) -> list[WorstItem]:
    scores: dict[str, list[float]] = {}
    for evaluation in evaluations:
        probe = evaluation.probes[0]
        for item, score in zip(probe.unit_ids.tolist(), probe.unit_scores.tolist(), strict=True):
            scores.setdefault(item, []).append(score)
    means = {item: float(np.mean(values)) for item, values in scores.items()}
    order = sorted((item for item in means if means[item] < 1), key=lambda item: means[item])[:SHOWN]
    said = {evaluation.representation: _by_item(evaluation) for evaluation in evaluations}
    return [
        WorstItem(
            item,
            next(words[item][0] for words in said.values() if item in words),
            {name: words[item][1] for name, words in said.items() if item in words},
            _address(audio.get(item), folder),
        )
        for item in order
    ]


def _by_item(evaluation: Evaluation) -> dict[str, tuple[str, str]]:
    """Item -> its label, and what was said of it in the first fold that tested it."""
    probe = evaluation.probes[0]
    assert probe.truths is not None and probe.predictions is not None
    found: dict[str, tuple[str, str]] = {}
    for item, truth, said in zip(probe.unit_ids.tolist(), probe.truths, probe.predictions, strict=True):
        found.setdefault(item, (_text(truth), _text(said)))
    return found


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _address(path: Path | None, folder: Path) -> str:
    if path is None or not path.is_file():
        return ""
    return quote(os.path.relpath(path.absolute(), folder.absolute()), errors="surrogateescape")
