"""Figures of the design (efficiency, balance, aliasing) and of scores (sources, sizes, learning curves)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kerasrep.experiments.study.analysis import Analysis
from kerasrep.experiments.study.cells import Factors
from kerasrep.experiments.study.collect import Curve
from kerasrep.experiments.study.design import Aliasing, Balance, Efficiency
from kerasrep.experiments.study.scores import Compactness
from kerasrep.report.drawing import (
    MARKERS,
    PALETTE,
    ROW_INCHES,
    WIDTH_INCHES,
    Picture,
    colour,
    drawing,
    grid,
    heat,
    new_figure,
    one_panel,
    picture,
)
from kerasrep.report.wording import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: A design of less efficiency cannot estimate all terms, but for rounding.
SINGULAR = 0.1
#: Colour of single-source runs, beside those of the strategies.
SINGLE = "#555555"


def draw_efficiency(efficiency: Efficiency, kind: str) -> Picture:
    """Random designs as a histogram, the design and the full one as lines."""
    rows = [("this design", efficiency.design), ("all possible runs", efficiency.full)]
    rows += [("random", float(value)) for value in efficiency.random]
    usable = 100 * efficiency.random[efficiency.random > SINGULAR]
    with one_panel(2.6) as (figure, axes):
        axes.hist(usable, bins=24, color="#b8c4d0", label="random designs of the same size")
        axes.axvline(100 * efficiency.design, color=PALETTE[5], linewidth=2.2, label=f"this design ({kind})")
        full = 100 * efficiency.full
        axes.axvline(full, color=PALETTE[2], linewidth=1.6, linestyle="--", label="all possible runs")
        axes.set_xlabel("D-efficiency, %")
        axes.set_ylabel("designs")
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
        header = ("design", "d_efficiency")
        return picture("design-efficiency", "D-efficiency", efficiency.sentence, figure, header, rows)


def draw_balance(balance: Balance, factors: Factors) -> Picture:
    """Runs by source and strategy, and by number of sources and strategy."""
    counts = balance.by_source
    times = " to ".join(dict.fromkeys(map(str, (counts.min(), counts.max()))))
    used = [number for number in range(len(balance.by_number)) if balance.by_number[number].any()]
    mean = (np.arange(len(balance.by_number)) @ balance.by_number).sum() / balance.by_strategy.sum()
    sentence = (
        f"Of {int(balance.by_strategy.sum())} runs, every source stands {times} times with each strategy; "
        f"runs have {min(used)} to {max(used)} sources, {mean:.1f} on average."
    )
    rows = [(source, *map(int, row)) for source, row in zip(factors.sources, counts, strict=True)]
    rows += [(f"{n} sources", *map(int, balance.by_number[n])) for n in used]
    rows.append(("all", *map(int, balance.by_strategy)))
    with drawing():
        figure = new_figure(WIDTH_INCHES, 4.9)
        ratios = {"height_ratios": [len(counts), len(used)]}
        above, below = figure.subplots(2, 1, gridspec_kw=ratios)  # type: ignore[misc]
        numbers = balance.by_number[used]
        for axes, found, names in (
            (above, counts, factors.sources),
            (below, numbers, [f"{n} sources" for n in used]),
        ):
            heat(axes, found.astype(float), names, factors.strategies, found.astype(str), around_zero=False)
        above.set_xticklabels([])
        above.set_title("runs that have a source (above) and so many sources (below)", fontsize=9, loc="left")
        header = ("runs with", *factors.strategies)
        return picture("design-balance", "Balance of the design", sentence, figure, header, rows)


def draw_aliasing(aliasing: Aliasing) -> Picture:
    """Correlations of main effects; the number of sources is the sum of the presences."""
    names = aliasing.names
    largest = listing([f"{one} with {other} ({value:+.2f})" for one, other, value in aliasing.largest(3)])
    with_number = float(np.abs(aliasing.correlations[-1, :-1]).max())
    sentence = (
        f"The largest correlations between main effects are {largest}. The number of sources correlates up "
        f"to {with_number:.2f} with single presences, because it is their sum; this is why the two are "
        "analysed in two models."
    )
    values = aliasing.correlations.copy()
    np.fill_diagonal(values, np.nan)
    rows = [(name, *map(float, row)) for name, row in zip(names, aliasing.correlations, strict=True)]
    with one_panel(min(5.4, 0.36 * len(names) + 0.9)) as (figure, axes):
        heat(axes, values, names, names, limit=1.0)
        return picture(
            "design-aliasing", "Correlations between effects", sentence, figure, ("", *names), rows
        )


def draw_singles(analysis: Analysis) -> Picture | None:
    """Standardised scores of single-source runs and baselines on each task; means over seeds."""
    table = analysis.scores.table
    lines: dict[str, list[list[float]]] = {}
    for row, run in enumerate(table.runs):
        if run.kind != "multi":
            name = run.sources[0] if run.kind == "single" else f"({run.strategy})"
            lines.setdefault(name, []).append(table.values[row].tolist())
    if not lines:
        return None
    values = np.array([np.mean(rows, axis=0) for rows in lines.values()])
    means = values.mean(axis=1)
    order = np.argsort(-np.where(np.isfinite(means), means, -np.inf))
    names = [list(lines)[place] for place in order]
    shown = np.column_stack([values, means])[order]
    columns = [*table.tasks, "mean"]
    rows = [(name, *map(float, line)) for name, line in zip(names, shown, strict=True)]
    with one_panel(1.3 + ROW_INCHES * len(names)) as (figure, axes):
        heat(axes, shown, names, columns)
        sentence = _singles_sentence(dict(zip(names, shown[:, -1].tolist(), strict=True)))
        return picture("single-sources", "One source alone", sentence, figure, ("run", *columns), rows)


def _singles_sentence(means: dict[str, float]) -> str:
    """The best and the worst source; names of baselines are in brackets."""
    singles = [name for name, mean in means.items() if not name.startswith("(") and np.isfinite(mean)]
    if not singles:
        return "Scores are in standard deviations of the multi-source runs, whose mean is 0."
    best, worst = singles[0], singles[-1]
    above = sum(means[name] > 0 for name in singles)
    return (
        f"Alone, {best} scores highest on average ({means[best]:+.2f} SD of the multi-source runs, whose "
        f"mean is 0) and {worst} lowest ({means[worst]:+.2f}); {above} of {len(singles)} single sources lie "
        "above the mean of several."
    )


def draw_compactness(analysis: Analysis, strategies: Sequence[str]) -> Picture | None:
    """Score against dimensions and parameters, with the runs that no other beats."""
    found = analysis.compactness
    if not found.runs:
        return None
    dimensions = [run.dimension for run in found.runs]
    parameters = [max(run.parameters, 1) for run in found.runs]
    with drawing():
        figure = new_figure(WIDTH_INCHES, 5.6)
        above, below = figure.subplots(2, 1)  # type: ignore[misc]
        _draw_sizes(above, found, strategies, dimensions, found.front_dimension, sorted(set(dimensions)))
        above.set_xlabel("dimensions of an embedding")
        ticks = _round_numbers(min(parameters), max(parameters))
        _draw_sizes(below, found, strategies, parameters, found.front_parameters, ticks)
        below.set_xlabel("trained parameters, heads included")
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        rows = [
            (
                *(run.run_id, run.strategy, len(run.sources), run.dimension, run.parameters, float(score)),
                *(int(row in front) for front in (found.front_dimension, found.front_parameters)),
            )
            for row, (run, score) in enumerate(zip(found.runs, found.scores, strict=True))
        ]
        header = (
            *("run", "strategy", "n_sources", "dimension", "parameters"),
            *("score", "front_dimension", "front_parameters"),
        )
        sentence = _compactness_sentence(found)
        return picture("compactness", "Accuracy against size", sentence, figure, header, rows)


def _draw_sizes(
    axes: Axes,
    found: Compactness,
    strategies: Sequence[str],
    sizes: Sequence[int],
    front: Sequence[int],
    ticks: Sequence[int],
) -> None:
    """Points of every run by strategy, and a step line through the front."""
    for place, strategy in enumerate(("ss-r", *strategies)):
        at = [row for row, run in enumerate(found.runs) if run.strategy == strategy]
        marker = ("x", *MARKERS)[place % 6]
        tone = colour(place - 1) if place else SINGLE
        x = [sizes[row] for row in at]
        axes.plot(x, found.scores[at], marker, color=tone, markersize=5, alpha=0.75, label=strategy)
    axes.step([sizes[row] for row in front], found.scores[list(front)], where="post", color="black", lw=1)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [_short(tick) for tick in ticks], rotation=45, ha="right")
    axes.minorticks_off()
    axes.set_ylabel("mean score, SD")
    grid(axes, "y")


def _compactness_sentence(found: Compactness) -> str:
    smallest, best = (found.runs[found.front_dimension[end]] for end in (0, -1))
    low, high = (found.scores[found.front_dimension[end]] for end in (0, -1))
    return (
        f"The best run is {best.run_id} with {best.dimension:,} dimensions ({high:+.2f}); with "
        f"{smallest.dimension:,} dimensions {smallest.run_id} reaches {low:+.2f}. Size is not "
        "tested: dimensions follow from the strategy and the number of sources, and runs share networks."
    )


def draw_curves(curves: Sequence[Curve]) -> Picture | None:
    """Validation loss in units of that before training."""
    if not curves:
        return None
    ends = listing([f"{curve.strategy} {curve.mean[-1]:.0%}" for curve in curves])
    lowest = min(curves, key=lambda curve: curve.mean[-1])
    sentence = (
        f"At the end the validation loss, relative to that before training, is {ends} (mean over sources "
        f"and runs); it is lowest for {lowest.strategy}. Losses of different sources are on different "
        "scales, so strategies can be compared here only as far as the design balances their sources."
    )
    with one_panel(3.4) as (figure, axes):
        for place, curve in enumerate(curves):
            tone = SINGLE if curve.strategy == "ss-r" else colour(place - (curves[0].strategy == "ss-r"))
            x, name = 100 * curve.progress, f"{curve.strategy} ({curve.n_runs})"
            axes.plot(x, 100 * curve.mean, color=tone, linewidth=1.8, label=name)
            axes.fill_between(x, 100 * curve.low, 100 * curve.high, color=tone, alpha=0.08, lw=0)
        axes.set_xlabel("part of the training, %")
        axes.set_ylabel("validation loss, % of that untrained")
        grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        rows = [
            (curve.strategy, *map(float, line), curve.n_runs)
            for curve in curves
            for line in zip(curve.progress, curve.mean, curve.low, curve.high, strict=True)
        ]
        header = ("strategy", "progress", "mean", "lowest", "highest", "n_runs")
        return picture("learning-curves", "Learning curves", sentence, figure, header, rows)


def _round_numbers(low: float, high: float) -> list[int]:
    """1, 2 and 5 times powers of ten, from just below `low` to just above `high`."""
    steps = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
    below = [step for step in steps if step <= low][-1:]
    above = [step for step in steps if step >= high][:1]
    return sorted({*below, *(step for step in steps if low < step < high), *above})


def _short(value: float) -> str:
    """`512`, `1,024`, `0.2 million`."""
    return f"{value / 1e6:g} million" if value >= 100_000 else f"{value:,.0f}"
