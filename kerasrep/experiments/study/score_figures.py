"""Figures of scores beside what they cost: single sources, compactness, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerasrep.experiments.study.analysis import Analysis
from kerasrep.experiments.study.collect import Curve
from kerasrep.experiments.study.pictures import MARKERS, ROW_INCHES, WIDTH_INCHES, colour, grid, heat, picture
from kerasrep.report.drawing import Picture, drawing, new_figure
from kerasrep.report.wording import listing, p_equation


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
    names = list(lines)
    means = values.mean(axis=1)
    order = np.argsort(-np.where(np.isfinite(means), means, -np.inf))
    singles = [place for place in order if not names[place].startswith("(") and np.isfinite(means[place])]
    sentence = "Scores are in standard deviations of the multi-source runs, whose mean is 0."
    if singles:
        best, worst = singles[0], singles[-1]
        above = sum(bool(means[place] > 0) for place in singles)
        sentence = (
            f"Alone, {names[best]} scores highest on average ({means[best]:+.2f} SD of the "
            "multi-source "
            f"runs, whose mean is 0) and {names[worst]} lowest ({means[worst]:+.2f}); {above} of "
            f"{len(singles)} "
            "single sources lie above the mean of several."
        )
    shown = np.column_stack([values, means])[order]
    columns = [*table.tasks, "mean"]
    with drawing():
        figure = new_figure(WIDTH_INCHES, 1.3 + ROW_INCHES * len(names))
        heat(figure.add_subplot(), shown, [names[place] for place in order], columns)
        rows = [(names[place], *map(float, line)) for place, line in zip(order, shown, strict=True)]
        return picture("single-sources", "One source alone", sentence, figure, ("run", *columns), rows)


def draw_compactness(analysis: Analysis, strategies: Sequence[str]) -> Picture:
    """Score against dimension and parameters, with the runs that no other beats."""
    found = analysis.compactness
    looks = ["ss-r", *strategies]
    fronts = (found.front_dimension, found.front_parameters)
    last = found.runs[found.front_dimension[-1]]
    first = found.runs[found.front_dimension[0]]
    sign = "significant" if found.p_value < 0.05 else "not significant"
    sentence = (
        f"The best run is {last.run_id} with {last.dimension:,} values "
        f"({found.scores[fronts[0][-1]]:+.2f}); with "
        f"{first.dimension:,} values {first.run_id} reaches {found.scores[fronts[0][0]]:+.2f}. Among "
        "multi-source "
        f"runs, score and dimension have a rank correlation of {found.rank_correlation:+.2f} ({sign}, "
        f"{p_equation(found.p_value)})."
    )
    with drawing():
        figure = new_figure(WIDTH_INCHES, 5.6)
        for axes, costs, front, label in zip(
            figure.subplots(2, 1),
            ([run.dimension for run in found.runs], [max(run.parameters, 1) for run in found.runs]),
            fronts,
            ("values of an embedding", "trained parameters, heads included"),
            strict=True,
        ):
            for place, strategy in enumerate(looks):
                at = [row for row, run in enumerate(found.runs) if run.strategy == strategy]
                axes.plot(
                    [costs[row] for row in at],
                    found.scores[at],
                    ("x", *MARKERS)[place % 6],
                    color="#555555" if not place else colour(place - 1),
                    markersize=5,
                    alpha=0.75,
                    label=strategy if axes.get_subplotspec().is_first_row() else None,
                )
            axes.step(
                [costs[row] for row in front], found.scores[list(front)], where="post", color="black", lw=1
            )
            axes.set_xscale("log")
            ticks = sorted(set(costs)) if "values" in label else _round_numbers(min(costs), max(costs))
            axes.set_xticks(ticks, [_short(tick) for tick in ticks], rotation=45, ha="right")
            axes.minorticks_off()
            axes.set_xlabel(label)
            axes.set_ylabel("mean score, SD")
            grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        rows = [
            (
                run.run_id,
                run.strategy,
                len(run.sources),
                run.dimension,
                run.parameters,
                float(found.scores[row]),
                int(row in fronts[0]),
                int(row in fronts[1]),
            )
            for row, run in enumerate(found.runs)
        ]
        header = (
            "run",
            "strategy",
            "n_sources",
            "dimension",
            "parameters",
            "score",
            "front_dimension",
            "front_parameters",
        )
        return picture("compactness", "What a score costs", sentence, figure, header, rows)


def draw_curves(curves: Sequence[Curve]) -> Picture | None:
    """Validation loss in units of that before training."""
    if not curves:
        return None
    ends = [f"{curve.strategy} {curve.mean[-1]:.0%}" for curve in curves]
    lowest = min(curves, key=lambda curve: curve.mean[-1])
    sentence = (
        f"At the end the validation loss stands at {listing(ends)} of that before training, mean over "
        "sources and "
        f"runs; it is lowest for {lowest.strategy}. Losses of other sources are other numbers, so "
        "strategies are "
        "comparable here as far as the design balances sources."
    )
    with drawing():
        figure = new_figure(WIDTH_INCHES, 3.4)
        axes = figure.add_subplot()
        for place, curve in enumerate(curves):
            tone = "#555555" if curve.strategy == "ss-r" else colour(place - (curves[0].strategy == "ss-r"))
            axes.plot(
                100 * curve.progress,
                100 * curve.mean,
                color=tone,
                linewidth=1.8,
                label=f"{curve.strategy} ({curve.n_runs})",
            )
            axes.fill_between(
                100 * curve.progress, 100 * curve.low, 100 * curve.high, color=tone, alpha=0.08, lw=0
            )
        axes.set_xlabel("part of the training, %")
        axes.set_ylabel("validation loss, % of that untrained")
        grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        rows = [
            (curve.strategy, float(x), float(m), float(low), float(high), curve.n_runs)
            for curve in curves
            for x, m, low, high in zip(curve.progress, curve.mean, curve.low, curve.high, strict=True)
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
