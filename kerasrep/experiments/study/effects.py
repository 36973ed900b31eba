"""What the fitted models say: effects with intervals, corrected for how many are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kerasrep.evaluation.significance import holm
from kerasrep.experiments.study.mixed import Fit

LEVEL = 0.05


@dataclass(frozen=True)
class Effect:
    """One effect, in standard deviations of a task's scores.

    Attributes:
        family: Effects that are corrected together.
        name: Of the effect.
        value: Estimate.
        low: Lower end of its 95% interval.
        high: Upper end.
        df: Degrees of freedom of the interval.
        p_value: Two-sided.
        p_holm: Corrected for the number of effects in the family.
    """

    family: str
    name: str
    value: float
    low: float
    high: float
    df: float
    p_value: float
    p_holm: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the corrected p value is below 5%."""
        return self.p_holm < LEVEL


def corrected(effects: Iterable[Effect]) -> list[Effect]:
    """Effects with p values after Holm's correction, family by family."""
    given = list(effects)
    families: dict[str, list[int]] = {}
    for place, effect in enumerate(given):
        families.setdefault(effect.family, []).append(place)
    for places in families.values():
        p_values = holm([given[place].p_value for place in places])
        for place, p_value in zip(places, p_values.tolist(), strict=True):
            given[place] = replace(given[place], p_holm=p_value)
    return given


def number_effects(fit: Fit) -> list[Effect]:
    """Effects in the model with the number of sources.

    Families: `strategy` (differences from the mean of the strategies), `strategy pairs`, `number of sources`
    (of one source more, on average), `number of sources by strategy`.
    """
    terms, found = fit.terms, []
    for strategy in terms.strategies if len(terms.strategies) > 1 else ():
        found.append(_effect(fit, "strategy", strategy, terms.strategy(strategy)))
    for one, other in combinations(terms.strategies, 2):
        contrast = terms.strategy(one) - terms.strategy(other)
        found.append(_effect(fit, "strategy pairs", f"{one} - {other}", contrast))
    if "n_sources" in terms.names:
        slope = terms.contrast("n_sources")
        found.append(_effect(fit, "number of sources", "one source more", slope))
        if any(name.endswith(":n_sources") for name in terms.names):
            for strategy in terms.strategies:
                contrast = slope + terms.strategy(strategy, "n_sources")
                found.append(_effect(fit, "number of sources by strategy", strategy, contrast))
    return corrected(found)


def presence_effects(fit: Fit, sources: Sequence[str]) -> list[Effect]:
    """Effects in the model with the presences.

    Families: `source` (of having it, on average over strategies), `source by strategy`, `pair of sources`
    (what having both is worth beyond the sum of each).
    """
    terms, found = fit.terms, []
    there = [source for source in sources if source in terms.names]
    for source in there:
        found.append(_effect(fit, "source", source, terms.contrast(source)))
    parts = [name.partition(":") for name in terms.names if ":" in name]
    crossed = {source for level, _, source in parts if level in terms.strategies}
    for source in there:
        for strategy in terms.strategies if source in crossed else ():
            contrast = terms.contrast(source) + terms.strategy(strategy, source)
            found.append(_effect(fit, "source by strategy", f"{source} in {strategy}", contrast))
    for one, _, other in parts:
        if one not in terms.strategies:
            contrast = terms.contrast(f"{one}:{other}")
            found.append(_effect(fit, "pair of sources", f"{one} with {other}", contrast))
    return corrected(found)


def source_by_task(fit: Fit, scores: NDArray[np.float64], sources: Sequence[str]) -> NDArray[np.float64]:
    """Effect of having each source on each task alone, by least squares; NaN for what is not in the model.

    Args:
        fit: The model with the presences.
        scores: float64 [runs, tasks], as they were fitted.
        sources: Rows of the outcome.

    Returns:
        float64 [sources, tasks].
    """
    by_task = np.linalg.lstsq(fit.terms.values, scores, rcond=None)[0]
    found = np.full((len(sources), scores.shape[1]), np.nan)
    for row, source in enumerate(sources):
        if source in fit.terms.names:
            found[row] = by_task[fit.terms.names.index(source)]
    return found


def _effect(fit: Fit, family: str, name: str, contrast: NDArray[np.float64]) -> Effect:
    value, low, high, p_value = fit.interval(contrast)
    return Effect(family, name, value, low, high, fit.estimate(contrast)[2], p_value)
