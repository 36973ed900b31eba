"""Gaussian mixture of one number a track: tempo or year becomes a posterior over components.

Kim et al. 2018, section 3.1: a mixture of 50 Gaussians, the posterior of the components is the target.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError

FloatArray = NDArray[np.float64]

#: Variance added to each component, in units of the values' variance: a component that holds one single
#: value keeps 1% of the deviation of all, so that its neighbours are not infinitely far.
VARIANCE_FLOOR = 1e-4

#: Values farther than this many interquartile ranges from the quartiles are not fitted: a single tempo of
#: 1e9 would make all others one component.
OUTLIER_RANGES = 10.0
LARGEST_VALUE = 1e150


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture, components by ascending mean.

    Attributes:
        weights: float64 [components], sum to 1.
        means: float64 [components], in the unit of the values.
        deviations: float64 [components], same unit.
        log_likelihood: Of the values fitted, in nats.
        converged: Whether EM stopped by itself.
        n_distinct_values: Among the values fitted.
        n_outliers: Values too far from the others to be fitted.
        lowest: Of the values fitted.
        highest: Of the values fitted.
    """

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    log_likelihood: float
    converged: bool
    n_distinct_values: int
    n_outliers: int
    lowest: float
    highest: float

    def posterior(self, values: FloatArray) -> FloatArray:
        """P(component|value), float64 [values, components]; rows sum to 1.

        A value outside the range that was fitted has the posterior of the end of the range: far out, only
        the widest component would count.

        Raises:
            DataError: Where a value is not finite.
        """
        posterior = self._log_joint(np.clip(_checked(values), self.lowest, self.highest))
        posterior -= posterior.max(axis=1, keepdims=True)
        np.exp(posterior, out=posterior)
        posterior /= posterior.sum(axis=1, keepdims=True)
        return posterior

    def _log_joint(self, values: FloatArray) -> FloatArray:
        joint: FloatArray = (values[:, np.newaxis] - self.means) / self.deviations
        joint **= 2
        joint *= -0.5
        joint += np.log(self.weights) - np.log(self.deviations) - 0.5 * np.log(2 * np.pi)
        return joint


def fit_mixture(values: FloatArray, n_components: int, seed: int = 0) -> Mixture:
    """Fit by scikit-learn's EM, with as many components as there are distinct values at most.

    Outliers are left out and counted (`OUTLIER_RANGES`).

    Args:
        values: float64 [n], finite, at least one.
        n_components: Upper limit, 1 or more.
        seed: Of the k-means start.

    Raises:
        DataError: Where there is no value, or one is not finite.
    """
    values = _checked(values)
    if not len(values):
        raise DataError("no values to fit a Gaussian mixture to")
    values, n_outliers = _without_outliers(values)
    n_distinct = len(np.unique(values))
    n_components = min(n_components, n_distinct)
    centre = float(values.mean())
    scale = float(values.std()) or 1.0
    standardised = (values - centre) / scale
    if n_components == 1:  # scikit-learn refuses a single value
        variance = standardised.var() + VARIANCE_FLOOR
        weights, means, variances, converged = np.ones(1), np.zeros(1), np.array([variance]), True
    else:
        model = _fit_scikit_learn(standardised, n_components, seed)
        order = np.argsort(model.means_[:, 0], kind="stable")
        weights, means = model.weights_[order], model.means_[order, 0]
        variances, converged = model.covariances_[order, 0], bool(model.converged_)
    mixture = Mixture(
        weights=np.maximum(weights, np.finfo(np.float64).tiny),
        means=means * scale + centre,
        deviations=np.sqrt(variances) * scale,
        log_likelihood=0.0,
        converged=converged,
        n_distinct_values=n_distinct,
        n_outliers=n_outliers,
        lowest=float(values.min()),
        highest=float(values.max()),
    )
    joint = mixture._log_joint(values)
    return replace(mixture, log_likelihood=float(np.logaddexp.reduce(joint, axis=1).sum()))


def _without_outliers(values: FloatArray) -> tuple[FloatArray, int]:
    """The values near the others, and how many are not; all where more than half are one value."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = OUTLIER_RANGES * (upper - lower)
    near = (values >= lower - reach) & (values <= upper + reach) if reach > 0 else np.ones(len(values), bool)
    return values[near], int(len(values) - near.sum())


def _fit_scikit_learn(standardised: FloatArray, n_components: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        n_components, covariance_type="diag", reg_covar=VARIANCE_FLOOR, max_iter=200, random_state=seed
    )
    with warnings.catch_warnings():
        # Whether it converged is in the report; near-duplicate values are no reason to warn.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(standardised[:, np.newaxis])


def _checked(values: FloatArray) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError("values of a Gaussian mixture must be a list of finite numbers")
    if len(values) and max(values.max(), -values.min()) > LARGEST_VALUE:
        raise DataError(f"values of a Gaussian mixture must lie within +-{LARGEST_VALUE:g}")
    return values
