"""Bars of every representation on every task, one figure a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kerasrep.evaluation.base import Evaluation
from kerasrep.evaluation.report.overview import Overview, chance_probe
from kerasrep.evaluation.results import safe_name
from kerasrep.report.charts import grid
from kerasrep.report.drawing import INK, Picture, label, look, one_panel, picture
from kerasrep.report.wording import counted, listing, metric_label, number, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_INCHES = 0.21
LOWEST_SHOWN = -1.0  # R² has no lower bound; worse than that needs no bar, only its number

HEADER = ("task", "metric", "representation", "probe", "mean", "low", "high", "chance")


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
    highest = max([*chances, *(probe.high for probe in shown), lowest + 1e-9])
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
    text = (
        f"The highest {metric_label(metric)} is {_score(overview, best)}, "
        f"of {printable(best.representation)} on {printable(best.task)}"
    )
    beside = [
        (evaluation, chance) for evaluation in found if (chance := chance_probe(evaluation)) is not None
    ]
    not_above = [e for e, chance in beside if e.probes[0].low <= chance.mean]
    if not beside:
        return text + "."
    if not not_above:
        return f"{text}; the intervals of all {counted(len(beside), 'score')} lie above chance."
    named = listing([f"{printable(e.representation)} on {printable(e.task)}" for e in not_above[:3]])
    more = f" and {len(not_above) - 3} more" if len(not_above) > 3 else ""
    n_above = len(beside) - len(not_above)
    return f"{text}; {n_above} of {counted(len(beside), 'interval')} lie above chance, not {named}{more}."


def _score(overview: Overview, evaluation: Evaluation) -> str:
    return number(evaluation.probes[0].mean, overview.decimals(evaluation.task))
