"""Everything that is written after an evaluation, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

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
from kerasrep.evaluation.report.overview import Overview, overview_of
from kerasrep.evaluation.results import summary_of, to_json
from kerasrep.report.drawing import write_picture
from kerasrep.storage.run_directory import read_json, write_text

SCORES_JSON = "scores.json"
PAGE = "report.html"


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
    from kerasrep.evaluation.report.bars import draw_bars
    from kerasrep.evaluation.report.confusion import draw_confusions
    from kerasrep.evaluation.report.page import build_page
    from kerasrep.evaluation.report.worst import worst_items

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
