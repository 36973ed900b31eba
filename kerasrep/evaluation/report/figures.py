"""Bars of every representation on every task by metric, and confusion matrices of the headline probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import one_line
from kerasrep.evaluation.base import Evaluation
from kerasrep.evaluation.report.overview import Overview, chance_probe
from kerasrep.evaluation.results import safe_name
from kerasrep.report.drawing import (
    INK,
    Picture,
    drawing,
    grid,
    heat,
    label,
    look,
    new_figure,
    one_panel,
    picture,
    rendered_png,
)
from kerasrep.report.wording import counted, display_width, listing, metric_label, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_INCHES = 0.21
LOWEST_SHOWN = -1.0  # R² has no lower bound; worse than that needs no bar, only its number

HEADER = ("task", "metric", "representation", "probe", "mean", "low", "high", "chance")
MOST_WITH_COUNTS = 24
MOST_WITH_NAMES = 60
CELL_INCHES = 0.34
CHARACTER_INCHES = 0.072  # of a tick label
CONFUSION_HEADER = ("true", "predicted", "count", "share_of_true")


def draw_bars(overview: Overview) -> list[Picture]:
    """Grouped bars of the headline probe with 95% intervals, and chance as a line across each group.

    Args:
        overview: Evaluations.

    Returns:
        One figure a metric, in order of tasks.
    """
    metrics = dict.fromkeys(overview.metric(task) for task in overview.tasks)
    return [_picture(overview, metric) for metric in metrics]


def _picture(overview: Overview, metric: str) -> Picture:
    tasks = [task for task in overview.tasks if overview.metric(task) == metric]
    title = f"{metric_label(metric)} by task and representation"
    sentence = _sentence(overview, tasks, metric)
    rows = [_row(evaluation) for task in tasks for evaluation in overview.of_task(task)]
    n_bars = len(tasks) * (len(overview.representations) + 1)
    with one_panel(1.1 + BAR_INCHES * n_bars) as (figure, axes):
        draw_tasks(axes, overview, tasks)
        axes.set_title(f"{title}, 95% intervals", fontsize=10, loc="left")
        axes.set_xlabel(metric_label(metric))
        _add_legend(figure, axes)
        return picture(safe_name(metric), title, sentence, figure, HEADER, rows)


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Below the bars: representations in their order, then chance."""
    from matplotlib.lines import Line2D

    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True), key=lambda e: isinstance(e[0], Line2D)
    )
    handles, labels = zip(*entries, strict=True)
    n_columns = len(labels) if sum(map(len, labels)) + 6 * len(labels) <= 66 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=n_columns, frameon=False)


def _row(evaluation: Evaluation) -> Sequence[Any]:
    probe, chance = evaluation.probes[0], chance_probe(evaluation)
    names = (evaluation.task, evaluation.metric, evaluation.representation, probe.probe)
    scores = (float(probe.mean), float(probe.low), float(probe.high))
    return (*names, *scores, "" if chance is None else float(chance.mean))


def draw_tasks(axes: Axes, overview: Overview, tasks: Sequence[str]) -> None:
    """Draw the groups of some tasks, first above, into axes."""
    names = overview.representations
    height = 1.0 / (len(names) + 1)
    shown = [e.probes[0] for task in tasks for e in overview.of_task(task)]
    chances = [score for task in tasks for score in overview.chance(task)]
    lowest = max(LOWEST_SHOWN, min([0.0, *chances, *(probe.low for probe in shown)]))
    highest = max([0.0, *chances, *(probe.high for probe in shown), lowest + 1e-9])
    for place, name in enumerate(names):
        rows = [row for row, task in enumerate(tasks) if (task, name) in overview.cells]
        probes = [overview.cells[tasks[row], name].probes[0] for row in rows]
        middles = [row + (place - (len(names) - 1) / 2) * height for row in rows]
        means = [probe.mean for probe in probes]
        ends = [[max(0.0, p.mean - p.low) for p in probes], [max(0.0, p.high - p.mean) for p in probes]]
        bars = axes.barh(
            middles, means, height * 0.92, label=_legend_label(name), edgecolor="white", linewidth=0.4
        )
        for bar in bars:
            bar.set(**look(place))
        axes.errorbar(means, middles, xerr=ends, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.8)
        for task, probe, middle in zip((tasks[row] for row in rows), probes, middles, strict=True):
            text = number(probe.mean, overview.decimals(task))
            text = f"◂ {text}" if probe.mean < lowest else text
            at = max(probe.high, 0.0, lowest) + 0.012 * (highest - lowest)
            axes.text(at, middle, text, va="center", fontsize=7, color=INK)
    _mark_chance(axes, overview, tasks)
    axes.set_yticks(range(len(tasks)), [label(task, 20) for task in tasks])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(tasks) - 0.45, -0.55)
    axes.set_xlim(lowest - 0.01 * (highest - lowest), highest + 0.13 * (highest - lowest))
    axes.axvline(0.0, color="#888888", linewidth=0.8)
    grid(axes)


def _legend_label(name: str) -> str:
    """Matplotlib leaves names that begin with `_` out of legends."""
    return f" {label(name, 20)}" if name.startswith("_") else label(name, 20)


def _mark_chance(axes: Axes, overview: Overview, tasks: Sequence[str]) -> None:
    n_names = len(overview.representations)
    reach = n_names / (n_names + 1) / 2 + 0.04
    name: str | None = "chance"
    for row, task in enumerate(tasks):
        for score in overview.chance(task):
            axes.plot([score, score], [row - reach, row + reach], color="white", linewidth=3.0, zorder=3)
            axes.plot([score, score], [row - reach, row + reach], "k--", linewidth=1.3, zorder=4, label=name)
            name = None


def _sentence(overview: Overview, tasks: Sequence[str], metric: str) -> str:
    """How many scores lie above chance by their whole interval, and where the highest and lowest are."""
    found = [evaluation for task in tasks for evaluation in overview.of_task(task)]
    best = max(found, key=lambda evaluation: evaluation.probes[0].mean)
    score = number(best.probes[0].mean, overview.decimals(best.task))
    text = (
        f"The highest {metric_label(metric)} is {score}, "
        f"of {one_line(best.representation)} on {one_line(best.task)}"
    )
    beside = [
        (evaluation, chance) for evaluation in found if (chance := chance_probe(evaluation)) is not None
    ]
    not_above = [e for e, chance in beside if e.probes[0].low <= chance.mean]
    if not beside:
        return text + "."
    if not not_above:
        return f"{text}; the intervals of all {counted(len(beside), 'score')} lie above chance."
    named = listing([f"{one_line(e.representation)} on {one_line(e.task)}" for e in not_above[:3]])
    more = f" and {len(not_above) - 3} more" if len(not_above) > 3 else ""
    n_above = len(beside) - len(not_above)
    return f"{text}; {n_above} of {counted(len(beside), 'interval')} lie above chance, not {named}{more}."


def draw_confusions(overview: Overview) -> dict[tuple[str, str], Picture]:
    """One figure for each representation on each classification, rows normalised, counts as text.

    Args:
        overview: Evaluations.

    Returns:
        (task, representation) -> figure, in order of tasks and representations.
    """
    return {
        (task, evaluation.representation): _matrix(evaluation, evaluation.probes[0].confusion)
        for task in overview.tasks
        for evaluation in overview.of_task(task)
        if evaluation.probes[0].confusion is not None
    }


def _matrix(evaluation: Evaluation, confusion: NDArray[np.int64] | None) -> Picture:
    counts = np.asarray(confusion)
    classes = evaluation.probes[0].classes
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = (label(evaluation.representation, 36), label(evaluation.task, 36))
    title = f"{names[0]} on {names[1]}" if len(names[0] + names[1]) <= 36 else f"{names[0]}\non {names[1]}"
    sentence = _confusion_sentence(evaluation, counts, shares)
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
    return Picture(name, title.replace("\n", " "), sentence, png, None, CONFUSION_HEADER, rows)


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


def _confusion_sentence(
    evaluation: Evaluation, counts: NDArray[np.int64], shares: NDArray[np.float64]
) -> str:
    """How many are right, and which confusion is the most frequent for its class."""
    classes = evaluation.probes[0].classes
    total, right = int(counts.sum()), int(np.trace(counts))
    who = f"{one_line(evaluation.representation)} on {one_line(evaluation.task)}"
    text = f"{who}: {right:,} of {total:,} are right ({right / max(total, 1):.0%})"
    wrong = np.where(np.eye(len(classes), dtype=bool), 0.0, shares)
    if not wrong.any():
        return f"{text}."
    i, j = np.unravel_index(np.argmax(wrong), wrong.shape)
    return (
        f"{text}; the most confused class is {one_line(classes[i])}, taken for {one_line(classes[j])} "
        f"in {counts[i, j]:,} of {counts[i].sum():,}."
    )
