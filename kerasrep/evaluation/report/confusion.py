"""Confusion matrices of the headline probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kerasrep.evaluation.base import Evaluation
from kerasrep.evaluation.report.overview import Overview
from kerasrep.evaluation.results import safe_name
from kerasrep.report.charts import heat
from kerasrep.report.drawing import Picture, drawing, label, new_figure, rendered_png
from kerasrep.report.wording import display_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_WITH_COUNTS = 24
MOST_WITH_NAMES = 60
CELL_INCHES = 0.34
CHARACTER_INCHES = 0.072  # of a tick label

HEADER = ("true", "predicted", "count", "share_of_true")


def draw_confusions(overview: Overview) -> dict[tuple[str, str], Picture]:
    """One figure for each representation on each classification, rows normalised, counts as text.

    Args:
        overview: Evaluations.

    Returns:
        (task, representation) -> figure, in order of tasks and representations.
    """
    return {
        (task, evaluation.representation): _picture(evaluation, evaluation.probes[0].confusion)
        for task in overview.tasks
        for evaluation in overview.of_task(task)
        if evaluation.probes[0].confusion is not None
    }


def _picture(evaluation: Evaluation, confusion: NDArray[np.int64] | None) -> Picture:
    counts = np.asarray(confusion)
    classes = evaluation.probes[0].classes
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = (label(evaluation.representation, 36), label(evaluation.task, 36))
    title = f"{names[0]} on {names[1]}" if len(names[0] + names[1]) <= 36 else f"{names[0]}\non {names[1]}"
    sentence = _sentence(evaluation, counts, shares)
    rows = [
        (classes[i], classes[j], int(counts[i, j]), float(shares[i, j])) for i, j in np.ndindex(*counts.shape)
    ]
    shown = [label(name) for name in classes]
    with drawing():
        figure, axes = _canvas(shown, title.count("\n") + 1)
        _draw_cells(axes, counts, shares, shown)
        figure.text(
            0.1 / figure.get_figwidth(), 1 - 0.1 / figure.get_figheight(), title, va="top", fontsize=10
        )
        png = rendered_png(figure, sentence)
    name = f"confusion/{safe_name(evaluation.representation)}/{safe_name(evaluation.task)}"
    return Picture(name, title.replace("\n", " "), sentence, png, None, HEADER, rows)


def _canvas(names: Sequence[str], lines: int) -> tuple[Figure, Axes]:
    """Room for the cells, for the names left and below, and for the lines of the title.

    Matplotlib's own layout draws everything three times, which takes half a second for 16 classes.
    """
    cells = float(np.clip(CELL_INCHES * len(names), 2.0, 8.0))
    shown = names if len(names) <= MOST_WITH_NAMES else []
    text = max((display_width(name) for name in shown), default=0) * CHARACTER_INCHES
    left, below = text + 0.85, text + 0.4
    width, height = max(left + cells + 0.25, 3.9), below + cells + (0.5 if lines == 2 else 0.35)
    figure = new_figure(width, height, layout=None)
    return figure, figure.add_axes((left / width, below / height, cells / width, cells / height))


def _draw_cells(
    axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str]
) -> None:
    """Shares as colours, counts as texts and names beside, as far as there is room for them."""
    texts = np.where((counts > 0) & (len(names) <= MOST_WITH_COUNTS), counts.astype(str), "")
    totals = [f"{name} ({n:,})" for name, n in zip(names, counts.sum(axis=1), strict=True)]
    size = 7.5 if counts.max(initial=0) < 1000 else 5.5
    heat(axes, shares, totals, names, texts, limit=1.0, around_zero=False, size=size, turn=90)
    axes.set_aspect("equal")
    axes.set(xlabel="predicted; colour: share of the true class", ylabel="true (items)")
    axes.tick_params(labelsize=8.5 if len(names) <= MOST_WITH_COUNTS else 5.5)
    if len(names) > MOST_WITH_NAMES:
        axes.set(xticks=[], yticks=[])


def _sentence(evaluation: Evaluation, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> str:
    """How many are right, and which confusion is the most frequent for its class."""
    classes = evaluation.probes[0].classes
    total, right = int(counts.sum()), int(np.trace(counts))
    who = f"{printable(evaluation.representation)} on {printable(evaluation.task)}"
    text = f"{who}: {right:,} of {total:,} are right ({right / max(total, 1):.0%})"
    wrong = np.where(np.eye(len(classes), dtype=bool), 0.0, shares)
    if not wrong.any():
        return f"{text}."
    i, j = np.unravel_index(np.argmax(wrong), wrong.shape)
    return (
        f"{text}; the most confused class is {printable(classes[i])}, taken for {printable(classes[j])} "
        f"in {counts[i, j]:,} of {counts[i].sum():,}."
    )
