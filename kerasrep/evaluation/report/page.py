"""The page of an evaluation: everything in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasrep.evaluation.report.overview import (
    Overview,
    findings,
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
from kerasrep.evaluation.report.worst import WorstItem
from kerasrep.report.drawing import Picture
from kerasrep.report.page import render_page
from kerasrep.report.table import Table

TITLE = "Frozen representations on unseen tasks"
NEXT_STEPS = (
    "Listen to the worst items of a task: what they have in common says more than a score.",
    "Train the best recipe again with other seeds: the intervals do not cover another training.",
    "For a difference that was not significant, add items: above stands how many it would need.",
)


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
