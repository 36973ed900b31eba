"""Figures of the two models: strategies, number of sources, sources, residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kerasrep.experiments.study.analysis import Analysis, ModelOutcome
from kerasrep.experiments.study.effects import LEVEL, Effect, source_by_task
from kerasrep.experiments.study.scores import RunFacts
from kerasrep.report.drawing import (
    MARKERS,
    PALETTE,
    ROW_INCHES,
    WIDTH_INCHES,
    Picture,
    colour,
    drawing,
    forest,
    grid,
    heat,
    new_figure,
    one_panel,
    picture,
)
from kerasrep.report.wording import counted, listing, p_equation

#: Standard deviations of a task's scores over the multi-source runs.
UNIT = "SD"
EFFECT_HEADER = ("family", "effect", "value", "low", "high", "df", "p", "p_holm")

Interval = tuple[float, float, float]


def effect_row(effect: Effect) -> tuple[Any, ...]:
    """An effect as a line of a table."""
    numbers = (effect.value, effect.low, effect.high, effect.df, effect.p_value, effect.p_holm)
    return (effect.family, effect.name, *numbers)


def strategy_figures(analysis: Analysis, outcome: ModelOutcome) -> list[Picture | None]:
    """Figures of the model with the number of sources."""
    found = [
        _draw_strategies(analysis, outcome),
        _draw_effects(
            outcome, "strategy pairs", "strategy-pairs", "Pairs of strategies", f"difference, {UNIT}"
        ),
    ]
    if outcome.family("number of sources"):
        found.append(_draw_number(analysis, outcome))
    return found


def source_figures(
    analysis: Analysis, outcome: ModelOutcome, sources: tuple[str, ...]
) -> list[Picture | None]:
    """Figures of the model with the presences."""
    if not outcome.family("source"):
        return []
    label = f"effect of having the source, {UNIT}"
    crossed, together = "Effect of each source by strategy", "What two sources are worth together"
    beyond = f"beyond the sum of each, {UNIT}"
    return [
        _draw_effects(outcome, "source", "sources", "Effect of each source", label),
        _draw_effects(outcome, "source by strategy", "sources-by-strategy", crossed, label, sort=False),
        _draw_effects(outcome, "pair of sources", "source-pairs", together, beyond),
        _draw_source_by_task(analysis, outcome, sources),
    ]


def _draw_strategies(analysis: Analysis, outcome: ModelOutcome) -> Picture:
    """Every run's mean score by strategy, the estimated means, and the baselines."""
    multi, strategies = analysis.scores.multi, outcome.fit.terms.strategies
    means = multi.values.mean(axis=1)
    baselines = _baseline_means(analysis)
    estimated = _strategy_means(outcome)
    rows: list[tuple[object, ...]] = []
    with one_panel(1.2 + 0.42 * len(strategies)) as (figure, axes):
        for place, strategy in enumerate(strategies):
            at = _rows_of(strategy, multi.runs)
            spread = np.linspace(-0.22, 0.22, len(at)) if len(at) > 1 else np.zeros(1)
            axes.plot(means[at], place + spread, "o", color=colour(place), alpha=0.55, markersize=4)
            rows += [("run", multi.runs[row].run_id, strategy, float(means[row]), "", "") for row in at]
            value, low, high = estimated[strategy]
            ends = [[value - low], [high - value]]
            axes.errorbar(value, place, xerr=ends, fmt="D", color="black", ms=5, capsize=3)
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
        sentence = _strategy_sentence(estimated, outcome.family("strategy pairs"))
        sentence += _baseline_sentence(means, baselines)
        header = ("what", "name", "strategy", "score", "low", "high")
        return picture("strategies", "Scores by strategy", sentence, figure, header, rows)


def _draw_number(analysis: Analysis, outcome: ModelOutcome) -> Picture:
    """Mean score against the number of sources, a line for each strategy."""
    multi, fit = analysis.scores.multi, outcome.fit
    strategies, means = fit.terms.strategies, multi.values.mean(axis=1)
    number = np.array([len(run.sources) for run in multi.runs], float)
    centre = float(np.mean([len(run.sources) for run in analysis.scores.cells.runs]))
    (effect,) = outcome.family("number of sources")
    ends = np.array([number.min(), number.max()])
    slopes = {one.name: one.value for one in outcome.family("number of sources by strategy")}
    rows = []
    with one_panel(3.6) as (figure, axes):
        for place, strategy in enumerate(strategies):
            at = _rows_of(strategy, multi.runs)
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
        title, header = "Scores by number of sources", ("run", "strategy", "n_sources", "score")
        sentence = _number_sentence(outcome, effect)
        return picture("number-of-sources", title, sentence, figure, header, rows)


def _draw_effects(
    outcome: ModelOutcome, family: str, name: str, title: str, label: str, sort: bool = True
) -> Picture | None:
    """Effects of a family with their intervals; `None` where there are none."""
    effects = outcome.family(family)
    if not effects:
        return None
    shown = sorted(effects, key=lambda effect: -effect.value) if sort else effects
    with one_panel(0.9 + ROW_INCHES * len(shown)) as (figure, axes):
        points = [(effect.value, effect.low, effect.high, effect.significant) for effect in shown]
        forest(axes, [effect.name.replace(" - ", " − ") for effect in shown], points, label)
        rows = [effect_row(effect) for effect in shown]
        return picture(name, title, _effect_sentence(effects), figure, EFFECT_HEADER, rows)


def _draw_source_by_task(analysis: Analysis, outcome: ModelOutcome, sources: tuple[str, ...]) -> Picture:
    """Effect of having each source on each task alone."""
    cells = analysis.scores.cells
    values = source_by_task(outcome.fit, cells.values, sources)
    best = np.unravel_index(int(np.nanargmax(values)), values.shape)
    worst = np.unravel_index(int(np.nanargmin(values)), values.shape)
    sentence = (
        f"On single tasks, having {sources[best[0]]} goes with the largest gain on {cells.tasks[best[1]]} "
        f"({values[best]:+.2f} {UNIT}) and having {sources[worst[0]]} with the largest loss on "
        f"{cells.tasks[worst[1]]} ({values[worst]:+.2f}). These {values.size} numbers are descriptive; they "
        "were not tested one by one."
    )
    rows = [(source, *map(float, row)) for source, row in zip(sources, values, strict=True)]
    with one_panel(1.3 + ROW_INCHES * len(sources)) as (figure, axes):
        heat(axes, values, sources, cells.tasks)
        title = "Effect of each source on each task"
        return picture("sources-by-task", title, sentence, figure, ("source", *cells.tasks), rows)


def draw_residuals(number: ModelOutcome | None, presence: ModelOutcome | None) -> Picture | None:
    """Residuals against a normal distribution and against fitted values, for each model."""
    found = [outcome for outcome in (number, presence) if outcome is not None]
    if not found:
        return None
    rows: list[tuple[object, ...]] = []
    with drawing():
        figure = new_figure(WIDTH_INCHES, 2.7 * len(found))
        panels = figure.subplots(len(found), 2, squeeze=False)
        for (left, right), outcome in zip(panels, found, strict=True):
            title, residuals = outcome.fit.terms.title, outcome.residuals
            places = np.arange(1, len(residuals.standardised) + 1)
            expected = stats.norm.ppf((places - 0.375) / (len(places) + 0.25))
            left.plot(expected, np.sort(residuals.standardised), "o", markersize=3, color=PALETTE[0])
            reach = [float(expected[0]), float(expected[-1])]
            left.plot(reach, reach, color="#777777", linewidth=1)
            left.set_xlabel("normal quantile")
            left.set_ylabel("residual")
            left.set_title(title, fontsize=8, loc="left")
            right.plot(residuals.fitted, residuals.standardised, "o", markersize=3, color=PALETTE[0])
            right.axhline(0, color="#777777", linewidth=1)
            right.set_xlabel("fitted mean score")
            pairs = zip(residuals.fitted, residuals.standardised, strict=True)
            rows += [(title, float(fitted), float(residual)) for fitted, residual in pairs]
        sentence = " ".join(f"{o.fit.terms.title}: {o.residuals.sentence}" for o in found)
        header = ("model", "fitted", "standardised_residual")
        return picture("residuals", "Residuals", sentence, figure, header, rows)


def _rows_of(strategy: str, runs: Sequence[RunFacts]) -> list[int]:
    return [row for row, run in enumerate(runs) if run.strategy == strategy]


def _plain(effect: Effect) -> str:
    """`+0.31 [0.02, 0.60]`."""
    return f"{effect.value:+.2f} [{effect.low:.2f}, {effect.high:.2f}]"


def _number_sentence(outcome: ModelOutcome, effect: Effect) -> str:
    verdict = "significant" if effect.significant else "not significant"
    sentence = (
        f"Each additional source changes the score by {_plain(effect)} {UNIT} on average, which is {verdict} "
        f"({p_equation(effect.p_holm)})."
    )
    by_strategy = sorted(outcome.family("number of sources by strategy"), key=lambda one: one.value)
    if by_strategy:
        least, most = by_strategy[0], by_strategy[-1]
        sentence += (
            f" The change is largest for {most.name} ({_plain(most)}) and smallest for {least.name} "
            f"({_plain(least)}){_whether_slopes_differ(outcome)}."
        )
    return sentence


def _effect_sentence(effects: Sequence[Effect]) -> str:
    """How many effects are significant, which, and the largest of all."""
    found = sorted((e for e in effects if e.significant), key=lambda e: -abs(e.value))
    largest = max(effects, key=lambda e: abs(e.value))
    of, after = f"of {counted(len(effects), 'effect')}", "after Holm's correction"
    if not found:
        return f"None {of} is significant {after}; the largest is that of {largest.name}, {_plain(largest)}."
    named = listing([f"{e.name.replace(' - ', ' − ')} ({_plain(e)})" for e in found[:4]])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    are = "is" if len(found) == 1 else "are"
    return f"{len(found)} {of} {are} significant {after}: {named}{more}."


def _baseline_means(analysis: Analysis) -> dict[str, float]:
    """Mean standardised score of each baseline, over seeds."""
    table = analysis.scores.table
    found: dict[str, list[float]] = {}
    for row in table.rows("baseline"):
        if np.isfinite(table.values[row]).all():
            found.setdefault(table.runs[row].strategy, []).append(float(table.values[row].mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _strategy_means(outcome: ModelOutcome) -> dict[str, Interval]:
    fit = outcome.fit
    found = {}
    for strategy in fit.terms.strategies:
        contrast = fit.terms.strategy(strategy)
        contrast[0] = 1.0
        found[strategy] = fit.interval(contrast)[:3]
    return found


def _strategy_sentence(estimated: Mapping[str, Interval], pairs: Sequence[Effect]) -> str:
    best, worst = max(estimated, key=estimated.__getitem__), min(estimated, key=estimated.__getitem__)
    highest, lowest = (
        f"{value:+.2f} [{low:.2f}, {high:.2f}]" for value, low, high in (estimated[best], estimated[worst])
    )
    differ = f"{sum(pair.significant for pair in pairs)} of {counted(len(pairs), 'pair')} differ"
    text = f"{best} scores highest ({highest} {UNIT}) and {worst} lowest ({lowest})"
    return f"{text}; {differ} significantly after Holm's correction."


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
