"""Linear mixed models of standardised scores, by restricted maximum likelihood.

    score[run, task] = m[task] + x[run] (b + b[task]) + r[run] + e[run, task]

m is a task's level (0 once scores are standardised, at the cost of a degree of freedom a task), b are the
effects, b[task] how they differ on a task (independent, one variance for the strategy and one for the
sources), r what a run has in common on all tasks. Runs and tasks are crossed, and every run has every
task. So an orthogonal rotation of the tasks takes the model apart: the runs' means, which alone hold b and r,
and n_tasks - 1 parts that hold neither. What is left to maximise is a function of three variances on matrices
of the size of X'X: milliseconds, where a general program (statsmodels' MixedLM, which the tests compare with)
takes minutes for 600 runs and often does not converge where a variance is 0.

Estimates equal least squares on the runs' means. Intervals are those of a t distribution whose degrees of
freedom follow Satterthwaite: what comes from a few tasks has few of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from threadpoolctl import threadpool_limits

from kerasrep.experiments.study.terms import Terms

RUN = "run"
LEAST_SQUARES = "least squares on the runs' means"


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        terms: Its columns.
        how: What was fitted in the end, in words.
        failures: What was tried before and why it was not taken, in order.
        estimates: float64 [columns].
        covariance: float64 [columns, columns].
        variances: Component -> variance: `run`, slopes by task, `residual`.
        n_tasks: Tasks.
        residual_df: Runs less columns.
    """

    terms: Terms
    how: str
    failures: tuple[str, ...]
    estimates: NDArray[np.float64]
    covariance: NDArray[np.float64]
    variances: Mapping[str, float]
    n_tasks: int
    residual_df: int

    def estimate(self, contrast: NDArray[np.float64]) -> tuple[float, float, float]:
        """Value, standard error and degrees of freedom of a combination of columns."""
        value = float(contrast @ self.estimates)
        variance = float(contrast @ self.covariance @ contrast)
        df = float(self.residual_df)
        parts = self._slope_parts(contrast)
        rest = max(variance - sum(part for part, _ in parts), 0.0)
        below = sum(part**2 / part_df for part, part_df in parts) + rest**2 / self.residual_df
        if variance > 0 and below > 0:
            df = variance**2 / below
        return value, float(np.sqrt(max(variance, 0.0))), df

    def interval(
        self, contrast: NDArray[np.float64], level: float = 0.95
    ) -> tuple[float, float, float, float]:
        """Value, ends of its interval, and two-sided p value."""
        value, error, df = self.estimate(contrast)
        if error == 0.0:
            return value, value, value, 1.0 if value == 0.0 else 0.0
        reach = float(stats.t.ppf(0.5 + level / 2, df)) * error
        return value, value - reach, value + reach, float(2 * stats.t.sf(abs(value) / error, df))

    def _slope_parts(self, contrast: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Variance that each kind of slopes adds to a combination, and its degrees of freedom."""
        parts = []
        for name, columns in self.terms.slopes.items():
            size = float((contrast[list(columns)] ** 2).sum())
            if name in self.variances and size > 0:
                part = self.variances[name] * size / self.n_tasks
                parts.append((part, float((self.n_tasks - 1) * len(columns))))
        return parts


def fit(terms: Terms, scores: NDArray[np.float64]) -> Fit:
    """Fit a model; the first of these that converges is taken.

    1. runs, and slopes by task of the strategy and of the sources;
    2. runs, and slopes by task of the sources alone;
    3. runs alone;
    4. least squares on the runs' means over tasks. With one task, this at once.

    Args:
        terms: Columns, [runs, columns].
        scores: float64 [runs, tasks], finite.
    """
    # NumPy and SciPy each have a pool of threads: on matrices this small the two wait for one another, and a
    # fit of milliseconds takes a hundred times as long.
    with threadpool_limits(limits=1, user_api="blas"):
        return _first_that_converges(terms, scores)


def _first_that_converges(terms: Terms, scores: NDArray[np.float64]) -> Fit:
    n_runs, n_tasks = scores.shape
    failures: list[str] = []
    slopes = list(terms.slopes)
    attempts = [slopes, slopes[-1:], []] if len(slopes) > 1 else [slopes, []]
    for chosen in attempts if n_tasks > 1 else []:
        how = "mixed model: runs" + "".join(f", slopes of {name} by task" for name in chosen)
        found = _mixed(terms, scores, chosen)
        if isinstance(found, str):
            failures.append(f"{how}: {found}")
            continue
        estimates, covariance, variances = found
        return Fit(
            terms, how, tuple(failures), estimates, covariance, variances, n_tasks, n_runs - len(terms.names)
        )
    return _least_squares(terms, scores, tuple(failures))


def _least_squares(terms: Terms, scores: NDArray[np.float64], failures: tuple[str, ...]) -> Fit:
    x, y = terms.values, scores.mean(axis=1)
    df = len(y) - x.shape[1]
    estimates = np.linalg.lstsq(x, y, rcond=None)[0]
    variance = float(((y - x @ estimates) ** 2).sum() / df)
    covariance = np.linalg.pinv(x.T @ x) * variance
    return Fit(
        terms, LEAST_SQUARES, failures, estimates, covariance, {"residual": variance}, scores.shape[1], df
    )


def _mixed(
    terms: Terms, scores: NDArray[np.float64], chosen: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]] | str:
    """Estimates, covariance and variances; or why there are none."""
    parts = _Parts(terms, scores, chosen)
    found = optimize.minimize(
        parts.deviance, parts.start, method="L-BFGS-B", bounds=parts.bounds, options={"maxiter": 500}
    )
    if not found.success or not np.isfinite(found.fun):
        return f"did not converge ({' '.join(str(found.message).split())[:100]})"
    noise, *slopes = parts.variances(found.x)
    run = parts.run_variance(noise)
    n_tasks = scores.shape[1]
    inverse = np.linalg.inv(terms.values.T @ terms.values)
    covariance = inverse * (run + noise / n_tasks) + np.diag(parts.spread(slopes)) / n_tasks
    variances = {RUN: run, **dict(zip(chosen, slopes, strict=True)), "residual": noise}
    return parts.estimates, covariance, variances


class _Parts:
    """What the likelihood needs of the scores, once the tasks are rotated.

    Attributes:
        estimates: float64 [columns], of the effects.
        start: Logarithm of the residual variance, and slopes' variances as parts of it.
        bounds: Of the same; a variance may be 0.
    """

    def __init__(self, terms: Terms, scores: NDArray[np.float64], chosen: list[str]) -> None:
        self._columns = [list(terms.slopes[name]) for name in chosen]
        x = terms.values
        n_runs, n_columns = x.shape
        self._df, self._n_tasks = n_runs - n_columns, scores.shape[1]
        orthogonal, self._triangle = np.linalg.qr(x)
        rotated = scores @ _rotation(self._n_tasks)
        seen = orthogonal.T @ rotated
        left = ((rotated - orthogonal @ seen) ** 2).sum(axis=0)
        self.estimates = np.linalg.solve(self._triangle, seen[:, 0]) / np.sqrt(self._n_tasks)
        self._between, self._within = float(left[0]), float(left[1:].sum())
        self._seen = seen[1:, 1:]  # the levels of the tasks are free, and alone in the first row
        noise = max(self._within / (self._df * (self._n_tasks - 1)), 1e-9)
        self.start = np.array([np.log(noise), *(0.1 for _ in chosen)])
        self.bounds = [(np.log(noise) - 10, np.log(noise) + 10), *((0.0, 1e4) for _ in chosen)]

    def deviance(self, parameters: NDArray[np.float64]) -> float:
        """Minus twice the restricted log-likelihood, constants left out."""
        noise, *slopes = self.variances(parameters)
        copies = self._n_tasks - 1
        means = noise + self._n_tasks * self.run_variance(noise)
        value = self._df * np.log(means) + self._between / means
        value += copies * self._df * np.log(noise) + self._within / noise
        spread = (self._triangle * self.spread(slopes) @ self._triangle.T)[1:, 1:]
        covariance = spread + noise * np.eye(len(spread))
        value += copies * np.linalg.slogdet(covariance)[1]
        return float(value + (self._seen * np.linalg.solve(covariance, self._seen)).sum())

    def variances(self, parameters: NDArray[np.float64]) -> list[float]:
        """Residual variance and slopes' variances."""
        noise = float(np.exp(parameters[0]))
        return [noise, *(float(part) * noise for part in parameters[1:])]

    def run_variance(self, noise: float) -> float:
        """The likeliest variance of runs beside a residual variance."""
        return max(self._between / self._df - noise, 0.0) / self._n_tasks

    def spread(self, slopes: list[float]) -> NDArray[np.float64]:
        """Variance of each column's slopes, [columns]."""
        values = np.zeros(len(self.estimates))
        for columns, variance in zip(self._columns, slopes, strict=True):
            values[columns] = variance
        return values


def _rotation(n_tasks: int) -> NDArray[np.float64]:
    """Orthogonal, [tasks, tasks]; the first column is the mean times the root of the number of tasks."""
    basis = np.column_stack([np.ones(n_tasks), np.eye(n_tasks)[:, 1:]])
    rotation = np.linalg.qr(basis)[0]
    turned: NDArray[np.float64] = rotation * np.sign(rotation[0, 0])
    return turned
