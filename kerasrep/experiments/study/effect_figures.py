"""Figures of the two models: strategies, number of sources, sources, residuals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kerasrep.experiments.study.analysis import Analysis, ModelOutcome
from kerasrep.experiments.study.effects import LEVEL, Effect, source_by_task
from kerasrep.experiments.study.pictures import (
    EFFECT_HEADER,
    MARKERS,
    ROW_INCHES,
    WIDTH_INCHES,
    colour,
    effect_row,
    forest,
    grid,
    heat,
    picture,
    plain,
)
from kerasrep.report.drawing import PALETTE, Picture, drawing, new_figure
from kerasrep.report.wording import counted, listing, p_equation

#: Standard deviations of a task's scores over the multi-source runs.
UNIT = "SD"


def draw_strategies(analysis: Analysis, outcome: ModelOutcome) -> Picture:
    """Every run's mean score by strategy, the estimated means, and the baselines."""
    multi, strategies = analysis.scores.multi, outcome.fit.terms.strategies
    means = multi.values.mean(axis=1)
    baselines = baseline_means(analysis)
    estimated = _strategy_means(outcome)
    pairs = outcome.family("strategy pairs")
    rows: list[tuple[object, ...]] = []
    with drawing():
        figure = new_figure(WIDTH_INCHES, 1.2 + 0.42 * len(strategies))
        axes = figure.add_subplot()
        for place, strategy in enumerate(strategies):
            at = [row for row, run in enumerate(multi.runs) if run.strategy == strategy]
            spread = np.linspace(-0.22, 0.22, len(at)) if len(at) > 1 else np.zeros(1)
            axes.plot(means[at], place + spread, "o", color=colour(place), alpha=0.55, markersize=4)
            rows += [("run", multi.runs[row].run_id, strategy, float(means[row]), "", "") for row in at]
            value, low, high = estimated[strategy]
            axes.errorbar(
                value, place, xerr=[[value - low], [high - value]], fmt="D", color="black", ms=5, capsize=3
            )
            rows.append(("estimate", strategy, strategy, value, low, high))
        for number, (name, value) in enumerate(baselines.items()):
            axes.axvline(value, color="#666666", linestyle=(":", "--", "-.")[number % 3], label=name)
            rows.append(("baseline", name, "", value, "", ""))
        axes.set_yticks(range(len(strategies)), list(strategies))
        axes.set_ylim(len(strategies) - 0.5, -0.5)
        axes.set_xlabel(f"mean score over tasks, {UNIT}")
        grid(axes)
        if baselines:
            figure.legend(loc="outside lower center", ncols=len(baselines), frameon=False)
        sentence = _strategy_sentence(estimated, pairs) + _baseline_sentence(means, baselines)
        header = ("what", "name", "strategy", "score", "low", "high")
        return picture("strategies", "Scores by strategy", sentence, figure, header, rows)


def draw_number(analysis: Analysis, outcome: ModelOutcome) -> Picture:
    """Mean score against the number of sources, a line a strategy."""
    multi, fit = analysis.scores.multi, outcome.fit
    strategies, means = fit.terms.strategies, multi.values.mean(axis=1)
    number = np.array([len(run.sources) for run in multi.runs], float)
    centre = float(np.mean([len(run.sources) for run in analysis.scores.cells.runs]))
    effect = next(iter(outcome.family("number of sources")))
    verdict = "significant" if effect.significant else "not significant"
    sentence = (
        f"One source more changes the score by {plain(effect)} {UNIT} on average, which is {verdict} "
        f"({p_equation(effect.p_holm)})."
    )
    by_strategy = outcome.family("number of sources by strategy")
    if by_strategy:
        most = max(by_strategy, key=lambda one: one.value)
        least = min(by_strategy, key=lambda one: one.value)
        sentence += (
            f" It is most for {most.name} ({plain(most)}) and least for {least.name} ({plain(least)})"
            f"{_whether_slopes_differ(outcome)}."
        )
    rows = []
    ends = np.array([number.min(), number.max()])
    slopes = {one.name: one.value for one in by_strategy}
    with drawing():
        figure = new_figure(WIDTH_INCHES, 3.6)
        axes = figure.add_subplot()
        for place, strategy in enumerate(strategies):
            at = [row for row, run in enumerate(multi.runs) if run.strategy == strategy]
            shift = 0.09 * (place - (len(strategies) - 1) / 2)
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(number[at] + shift, means[at], marker, color=colour(place), ms=4.5, label=strategy)
            level = float(fit.estimates[0] + fit.terms.strategy(strategy) @ fit.estimates)
            line = level + slopes.get(strategy, effect.value) * (ends - centre)
            axes.plot(ends, line, color=colour(place), linewidth=1.6)
            rows += [(multi.runs[r].run_id, strategy, int(number[r]), float(means[r])) for r in at]
        axes.set_xlabel("number of sources")
        axes.set_ylabel("mean score, SD")
        axes.set_xticks(sorted(set(number.tolist())))
        grid(axes, "y")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return picture(
            "number-of-sources",
            "Scores by number of sources",
            sentence,
            figure,
            ("run", "strategy", "n_sources", "score"),
            rows,
        )


def draw_effects(
    outcome: ModelOutcome, family: str, name: str, title: str, label: str, sort: bool = True
) -> Picture | None:
    """Effects of a family with their intervals; `None` where there are none."""
    effects = outcome.family(family)
    if not effects:
        return None
    shown = sorted(effects, key=lambda effect: -effect.value) if sort else effects
    with drawing():
        figure = new_figure(WIDTH_INCHES, 0.9 + ROW_INCHES * len(shown))
        axes = figure.add_subplot()
        forest(axes, shown, label)
        return picture(
            name,
            title,
            effect_sentence(effects, family),
            figure,
            EFFECT_HEADER,
            [effect_row(e) for e in shown],
        )


def effect_sentence(effects: list[Effect], what: str) -> str:
    """How many effects are significant, which, and the largest of all."""
    found = sorted((e for e in effects if e.significant), key=lambda e: -abs(e.value))
    largest = max(effects, key=lambda e: abs(e.value))
    of, after = f"of {counted(len(effects), 'effect')}", "after Holm's correction"
    if not found:
        return f"None {of} is significant {after}; the largest is that of {largest.name}, {plain(largest)}."
    named = listing([f"{e.name.replace(' - ', ' − ')} ({plain(e)})" for e in found[:4]])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    are = "is" if len(found) == 1 else "are"
    return f"{len(found)} {of} {are} significant {after}: {named}{more}."


def draw_source_by_task(analysis: Analysis, outcome: ModelOutcome, sources: tuple[str, ...]) -> Picture:
    """Effect of having each source on each task alone."""
    cells = analysis.scores.cells
    values = source_by_task(outcome.fit, cells.values, sources)
    best = np.unravel_index(int(np.nanargmax(values)), values.shape)
    worst = np.unravel_index(int(np.nanargmin(values)), values.shape)
    sentence = (
        f"On single tasks, having {sources[best[0]]} goes with the largest gain on {cells.tasks[best[1]]} "
        f"({values[best]:+.2f} {UNIT}) and having {sources[worst[0]]} with the largest loss on "
        f"{cells.tasks[worst[1]]} ({values[worst]:+.2f}); these {values.size} numbers are descriptive, no "
        "test "
        "was made of each."
    )
    with drawing():
        figure = new_figure(WIDTH_INCHES, 1.3 + ROW_INCHES * len(sources))
        heat(figure.add_subplot(), values, sources, cells.tasks)
        rows = [(source, *map(float, row)) for source, row in zip(sources, values, strict=True)]
        return picture(
            "sources-by-task",
            "Effect of each source on each task",
            sentence,
            figure,
            ("source", *cells.tasks),
            rows,
        )


def draw_residuals(number: ModelOutcome | None, presence: ModelOutcome | None) -> Picture | None:
    """Residuals against a normal distribution and against fitted values, for each model."""
    found = [outcome for outcome in (number, presence) if outcome is not None]
    if not found:
        return None
    rows: list[tuple[object, ...]] = []
    with drawing():
        figure = new_figure(WIDTH_INCHES, 2.7 * len(found))
        grid_of_axes = figure.subplots(len(found), 2, squeeze=False)
        for (left, right), outcome in zip(grid_of_axes, found, strict=True):
            residuals = outcome.residuals
            expected = _normal_scores(len(residuals.standardised))
            order = np.argsort(residuals.standardised)
            left.plot(expected, residuals.standardised[order], "o", markersize=3, color=PALETTE[0])
            reach = [float(expected[0]), float(expected[-1])]
            left.plot(reach, reach, color="#777777", linewidth=1)
            left.set_xlabel("normal quantile")
            left.set_ylabel("residual")
            left.set_title(outcome.fit.terms.title, fontsize=8, loc="left")
            right.plot(residuals.fitted, residuals.standardised, "o", markersize=3, color=PALETTE[0])
            right.axhline(0, color="#777777", linewidth=1)
            right.set_xlabel("fitted mean score")
            rows += [
                (outcome.fit.terms.title, float(f), float(r))
                for f, r in zip(residuals.fitted, residuals.standardised, strict=True)
            ]
        sentence = " ".join(f"{o.fit.terms.title}: {o.residuals.sentence}" for o in found)
        return picture(
            "residuals", "Residuals", sentence, figure, ("model", "fitted", "standardised_residual"), rows
        )


def baseline_means(analysis: Analysis) -> dict[str, float]:
    """Mean standardised score of each baseline, over seeds."""
    table = analysis.scores.table
    found: dict[str, list[float]] = {}
    for row in table.rows("baseline"):
        if np.isfinite(table.values[row]).all():
            found.setdefault(table.runs[row].strategy, []).append(float(table.values[row].mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _strategy_means(outcome: ModelOutcome) -> dict[str, tuple[float, float, float]]:
    fit = outcome.fit
    found = {}
    for strategy in fit.terms.strategies:
        contrast = fit.terms.strategy(strategy)
        contrast[0] = 1.0
        found[strategy] = fit.interval(contrast)[:3]
    return found


def _strategy_sentence(estimated: dict[str, tuple[float, float, float]], pairs: list[Effect]) -> str:
    best = max(estimated, key=lambda name: estimated[name][0])
    worst = min(estimated, key=lambda name: estimated[name][0])
    text = (
        f"{best} scores highest ({estimated[best][0]:+.2f}) and {worst} lowest ({estimated[worst][0]:+.2f})"
    )
    significant = sum(pair.significant for pair in pairs)
    return (
        f"{text}; {significant} of {counted(len(pairs), 'pair')} differ significantly after Holm's "
        "correction."
    )


def _baseline_sentence(means: NDArray[np.float64], baselines: dict[str, float]) -> str:
    parts = [
        f"{int((means > value).sum())} of {len(means)} runs lie above {name}"
        for name, value in baselines.items()
    ]
    return f" {listing(parts)}." if parts else ""


def _whether_slopes_differ(outcome: ModelOutcome) -> str:
    row = next((row for row in outcome.anova if row.term == "strategy × number of sources"), None)
    if row is None:
        return ""
    differ = "differ" if row.p_holm < LEVEL else "do not differ"
    return f"; the slopes of the strategies {differ} significantly ({p_equation(row.p_holm)})"


def _normal_scores(count: int) -> NDArray[np.float64]:
    return np.asarray(stats.norm.ppf((np.arange(1, count + 1) - 0.375) / (count + 0.25)))
