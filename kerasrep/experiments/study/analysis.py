"""The whole analysis of a table of scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from kerasrep.evaluation.significance import holm
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
from kerasrep.report.wording import p_equation

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


@dataclass(frozen=True)
class AnovaRow:
    """One term of an analysis of variance.

    Attributes:
        term: In words.
        df: Degrees of freedom.
        sum_of_squares: Type II.
        f: F value.
        p_value: As it is.
        p_holm: Corrected for the number of terms.
        omega: Partial omega squared, variance of the effect / (that + residual variance), 0 to 1; estimated
            by df (F - 1) / (df (F - 1) + runs), and 0 where F is below 1.
        low: Lower end of the 90% interval of the same quantity, see `effect_interval`. 90%, because an
            effect that is significant at 5% before correction has then a lower end above 0 (Steiger 2004).
        high: Upper end. Where F is far below 1, it may be 0 as well.
    """

    term: str
    df: float
    sum_of_squares: float
    f: float
    p_value: float
    omega: float
    low: float
    high: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Residuals:
    """What is left of the runs' means, and tests of it.

    Attributes:
        fitted: float64 [runs].
        standardised: float64 [runs], internally studentised.
        normality_p: Shapiro and Wilk's test.
        equal_variance_p: Breusch and Pagan's test against the columns of the model.
        n_outliers: Beyond three standard deviations.
        r_squared: Part of the variance that the model explains.
    """

    fitted: NDArray[np.float64]
    standardised: NDArray[np.float64]
    normality_p: float
    equal_variance_p: float
    n_outliers: int
    r_squared: float

    @property
    def sentence(self) -> str:
        """What the numbers say."""
        normal = "no sign of" if self.normality_p >= 0.05 else "signs of"
        equal = "no sign of" if self.equal_variance_p >= 0.05 else "signs of"
        shapiro, breusch = p_equation(self.normality_p), p_equation(self.equal_variance_p)
        return (
            f"The model explains {self.r_squared:.0%} of the variance of the runs' means. Residuals show "
            f"{normal} departure from a normal distribution (Shapiro-Wilk {shapiro}) and "
            f"{equal} unequal variance (Breusch-Pagan {breusch}); {self.n_outliers} of "
            f"{len(self.fitted)} lie beyond three standard deviations."
        )


def anova(terms: Terms, scores: NDArray[np.float64]) -> tuple[list[AnovaRow], Residuals]:
    """Analysis of variance of the runs' means, and the check of its residuals.

    Type II sums of squares: each term beside all others that do not contain it. A run's mean over tasks is
    one number, so that tasks do not count as independent repetitions.

    Args:
        terms: Columns of the model; those of one term are tested together.
        scores: float64 [runs, tasks].
    """
    y, blocks = scores.mean(axis=1), term_blocks(terms)
    x = terms.values
    residual_df = len(y) - x.shape[1]
    error = _rss(x, y)
    rows = []
    for name, columns in blocks.items():
        kept = [c for other, c in blocks.items() if other != name and name not in other.split(" × ")]
        reduced = [0, *(column for block in kept for column in block)]
        sum_of_squares = _rss(x[:, reduced], y) - _rss(x[:, sorted([*reduced, *columns])], y)
        f = (sum_of_squares / len(columns)) / (error / residual_df)
        low, high = effect_interval(f, len(columns), residual_df, len(y))
        p_value = float(stats.f.sf(f, len(columns), residual_df))
        gain = len(columns) * (f - 1.0)
        omega = gain / (gain + len(y)) if gain > 0 else 0.0
        rows.append(AnovaRow(name, float(len(columns)), sum_of_squares, f, p_value, omega, low, high))
    corrected = holm([row.p_value for row in rows]).tolist() if rows else []
    rows = [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return rows, _residuals(x, y)


def term_blocks(terms: Terms) -> dict[str, list[int]]:
    """Term -> its columns: all contrasts of the strategy are one term, and so are their products."""
    blocks: dict[str, list[int]] = {}
    for place, name in enumerate(terms.names[1:], start=1):
        words = ["strategy" if part in terms.strategies else part for part in name.split(":")]
        term = " × ".join("number of sources" if word == "n_sources" else word for word in words)
        blocks.setdefault(term, []).append(place)
    return blocks


def effect_interval(f: float, df: int, residual_df: int, n_runs: int) -> tuple[float, float]:
    """90% interval of partial omega squared (Steiger 2004).

    The noncentralities L under which F would be as large, or as small, as it is in 5% of
    repetitions are the ends of an interval of the noncentrality; L / (L + runs) is the effect's variance as
    part of itself and the residual variance. The point estimate is not made from L and lies a little off the
    middle.

    Args:
        f: F value.
        df: Of the term.
        residual_df: Of the residuals.
        n_runs: Rows of the model.

    Returns:
        Both ends, 0 to 1.
    """

    def noncentrality(probability: float) -> float:
        def miss(value: float) -> float:
            return float(stats.ncf.cdf(f, df, residual_df, value)) - probability

        if f <= 0 or float(stats.f.cdf(f, df, residual_df)) <= probability:
            return 0.0
        upper = 10.0 * (f * df + df + 10.0)
        return float(optimize.brentq(miss, 1e-9, upper)) if miss(upper) < 0 else upper

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = [noncentrality(0.95), noncentrality(0.05)]
    return ends[0] / (ends[0] + n_runs), ends[1] / (ends[1] + n_runs)


def _rss(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum())


def _residuals(x: NDArray[np.float64], y: NDArray[np.float64]) -> Residuals:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.diagnostic import het_breuschpagan

    result = OLS(y, x).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a run that the model fits exactly has no studentised residual
        standardised = np.asarray(result.get_influence().resid_studentized_internal)
    standardised = np.where(np.isfinite(standardised), standardised, 0.0)
    equal = float(het_breuschpagan(result.resid, x)[1]) if x.shape[1] > 1 else 1.0
    return Residuals(
        np.asarray(result.fittedvalues),
        standardised,
        float(stats.shapiro(standardised).pvalue),
        equal if np.isfinite(equal) else 1.0,
        int((np.abs(standardised) > 3).sum()),
        float(result.rsquared),
    )
