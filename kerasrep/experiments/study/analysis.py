"""The whole analysis of a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kerasrep.experiments.study.anova import AnovaRow, Residuals, anova
from kerasrep.experiments.study.effects import Effect, number_effects, presence_effects
from kerasrep.experiments.study.mixed import Fit, fit
from kerasrep.experiments.study.scores import (
    CONCATENATED,
    Compactness,
    RunFacts,
    ScoreTable,
    Standardised,
    cell_means,
    compactness_of,
    standardise,
)
from kerasrep.experiments.study.terms import Terms, number_terms, presence_terms

SHARED_NETWORKS = (
    "All mss-cr runs of a seed are made of the same single-source networks, so they are not independent "
    "trainings of mss-cr: the intervals of its level and of its differences from other strategies are too "
    "narrow (in simulations with one seed, 78 to 87% of the intervals of its level contained the true value, "
    "not 95%)."
)


@dataclass(frozen=True)
class ModelOutcome:
    """One of the two models.

    Attributes:
        fit: The mixed model, or what took its place.
        effects: In families.
        anova: Of the means over tasks.
        residuals: Of the same.
    """

    fit: Fit
    effects: tuple[Effect, ...]
    anova: tuple[AnovaRow, ...]
    residuals: Residuals

    def family(self, name: str) -> list[Effect]:
        """Effects of one family."""
        return [effect for effect in self.effects if effect.family == name]


@dataclass(frozen=True)
class Analysis:
    """Everything that the report says of scores.

    Attributes:
        scores: Standardised.
        number: Strategy x number of sources; None where there are too few runs for it.
        presence: Strategy x presence of each source; None likewise.
        compactness: Score against dimension and parameters.
        notes: What could not be done, and why.
    """

    scores: Standardised
    number: ModelOutcome | None
    presence: ModelOutcome | None
    compactness: Compactness
    notes: tuple[str, ...]


def analyse(
    table: ScoreTable, strategies: Sequence[str], sources: Sequence[str], interactions: Sequence[str] = ()
) -> Analysis:
    """Analyse the scores of a study.

    Args:
        table: Scores as measured, of all runs.
        strategies: Levels, in order.
        sources: In order.
        interactions: Of the design; the model of the presences has them too.

    Raises:
        DataError: Where there is too little to analyse.
    """
    scores = standardise(table)
    cells, notes = scores.cells, []
    if len(cells.runs) < len(scores.multi.runs):
        notes.append(
            f"Runs that differ in the seed alone count as one, with the mean of their scores: the "
            f"{len(scores.multi.runs)} multi-source runs are {len(cells.runs)} in the models."
        )
    number = presence = None
    terms = number_terms(cells.runs, strategies)
    if _enough(terms, len(cells.runs)):
        number = _outcome(terms, scores, number_effects)
    else:
        notes.append(_why_not(terms, len(cells.runs)))
    terms = presence_terms(cells.runs, strategies, sources, interactions)
    if _enough(terms, len(cells.runs)):
        presence = _outcome(terms, scores, lambda found: presence_effects(found, sources))
    else:
        notes.append(_why_not(terms, len(cells.runs)))
    for outcome in (number, presence):
        if outcome is not None:
            notes += [outcome.fit.terms.left_out] if outcome.fit.terms.left_out else []
            notes += [f"{outcome.fit.terms.title}: {text}." for text in outcome.fit.failures]
    compared = {name for outcome in (number, presence) if outcome for name in outcome.fit.terms.strategies}
    if CONCATENATED in compared and len(compared) > 1:
        notes.append(SHARED_NETWORKS)
    if scores.left_out:
        notes.append(f"Left out of the models, as scores are missing: {', '.join(scores.left_out)}.")
    if scores.constant:
        notes.append(f"Left out, as all runs score the same: {', '.join(scores.constant)}.")
    return Analysis(scores, number, presence, compactness_of(scores.table), tuple(dict.fromkeys(notes)))


def shortcomings(
    runs: Sequence[RunFacts], strategies: Sequence[str], sources: Sequence[str], interactions: Sequence[str]
) -> list[str]:
    """Which effects cannot be estimated even when all runs are done, in sentences, before they start.

    Args:
        runs: All that are planned.
        strategies: Levels, in order.
        sources: In order.
        interactions: Of the design.
    """
    multi = tuple(run for run in runs if run.kind == "multi")
    cells = cell_means(ScoreTable(multi, (), (), np.zeros((len(multi), 0)))).runs
    found = []
    for terms in (number_terms(cells, strategies), presence_terms(cells, strategies, sources, interactions)):
        text = terms.left_out if _enough(terms, len(cells)) else _why_not(terms, len(cells))
        found += [text] if text else []
    return list(dict.fromkeys(found))


def _outcome(terms: Terms, scores: Standardised, effects: Callable[[Fit], list[Effect]]) -> ModelOutcome:
    values = scores.cells.values
    found = fit(terms, values)
    rows, residuals = anova(terms, values)
    return ModelOutcome(found, tuple(effects(found)), tuple(rows), residuals)


def _enough(terms: Terms, n_runs: int) -> bool:
    return n_runs > len(terms.names) + 1 and len(terms.names) > 1 and not terms.aliased


def _why_not(terms: Terms, n_runs: int) -> str:
    if terms.aliased and n_runs > len(terms.names) + 1:
        return terms.left_out
    return f"The model '{terms.title}' is not fitted: {n_runs} runs for {len(terms.names)} terms."
