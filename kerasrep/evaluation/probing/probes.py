"""The scikit-learn models that are fitted to frozen embeddings.

Every probe first standardises the embeddings with the training part's statistics and divides them by the
square root of how many features vary. A training item then has a mean square norm of 1 whatever the
dimension, so one C means the same for 40 values and for 4,096: with C = 1 on plainly standardised values, a
long embedding would be regularised far less than a short one. Divide C by the dimension to compare it with
a C on standardised values.

No probe builds a kernel matrix; time and memory grow with items times dimension.

A feature that hardly varied among the training items says nothing and must not be blown up: what varies less
than rounding is constant, and no value lies further than `LARGEST_DEVIATION` deviations from the mean; the
recommender standardises alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from kerasrep.errors import RecipeError
from kerasrep.evaluation.base import Kind
from kerasrep.evaluation.probing.folds import Fold
from kerasrep.evaluation.probing.perceptron import PerceptronClassifier, PerceptronRegressor

FloatArray = NDArray[np.float64]

#: Standard deviations beyond which a value is cut: a feature that hardly varied in training must not
#: overwhelm all others (or overflow float32) on a test item.
LARGEST_DEVIATION = 1000.0

#: A deviation below this part of a feature's largest magnitude is rounding of float32, not variation.
SMALLEST_VARIATION = 1e-6
SMALLEST_DEVIATION = 1e-30  # its inverse is still a float32
CHANCE = "chance"
DEFAULT_C = 1.0
MAX_ITERATIONS = 1000
#: What `tune` chooses from; at the unit norm of the module's docstring. From almost the class means (or the
#: mean value) at the low end to almost no regularisation at the high end.
C_GRID = tuple(10.0**exponent for exponent in range(-3, 4))
#: Up to so many training items, and fewer than features, their span is found first.
MOST_SPANNING_ITEMS = 1024
SHORTEST_AXIS = 1e-5  # in lengths of the longest one; shorter ones are rounding


def varying(features: NDArray[np.floating[Any]], deviation: FloatArray) -> NDArray[np.bool_]:
    """Which features vary by more than rounding.

    Args:
        features: float [training items, dimension].
        deviation: float64 [dimension], of these items.
    """
    largest = np.maximum(np.abs(features.max(axis=0)), np.abs(features.min(axis=0)))
    found: NDArray[np.bool_] = deviation > np.maximum(SMALLEST_VARIATION * largest, SMALLEST_DEVIATION)
    return found


class Standardise(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Zero mean, unit deviation, then unit mean square norm of the rows; constant features become 0."""

    def fit(self, embeddings: NDArray[np.float32], labels: Any = None) -> Standardise:
        """Take the statistics of the training part, float [items, dimension]."""
        scaler = StandardScaler().fit(embeddings)
        deviation = np.sqrt(scaler.var_)
        varies = varying(embeddings, deviation)
        self.mean_ = scaler.mean_
        self.scale_ = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
        self.divisor_ = np.sqrt(max(1, int(varies.sum())))
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised embeddings, a new array of the same type."""
        dtype = embeddings.dtype
        with np.errstate(over="ignore"):
            scaled = embeddings - self.mean_.astype(dtype)
            scaled *= self.scale_.astype(dtype)
        np.clip(scaled, -LARGEST_DEVIATION, LARGEST_DEVIATION, out=scaled)
        scaled /= dtype.type(self.divisor_)
        standardised: NDArray[np.float32] = scaled
        return standardised


class TrainingSpan(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Principal axes of few training items, all of them: 160 items of 4,096 features become 160 x 159.

    Nothing of the training part is lost, and linear models regularised by their squared norm stay the same,
    because their weights lie in the span of the training items. They are just fitted many times faster.
    What is not few (`MOST_SPANNING_ITEMS`), or has fewer features than items, passes unchanged.
    """

    def fit(self, embeddings: NDArray[np.float32], labels: Any = None) -> TrainingSpan:
        """Find the axes of standardised embeddings, float [training items, dimension]."""
        n_items, dimension = embeddings.shape
        self.axes_ = None
        if n_items < dimension and n_items <= MOST_SPANNING_ITEMS:
            exact = embeddings.astype(np.float64)
            # Much faster than singular values of a wide matrix.
            squares, sides = np.linalg.eigh(exact @ exact.T)
            lengths = np.sqrt(np.maximum(squares, 0))
            keep = lengths > SHORTEST_AXIS * lengths[-1]
            if keep.any():
                self.axes_ = (exact.T @ (sides[:, keep] / lengths[keep])).astype(embeddings.dtype)
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates along the axes, float [items, axes]."""
        return embeddings if self.axes_ is None else embeddings @ self.axes_


@dataclass(frozen=True)
class Probe:
    """One kind of model.

    Attributes:
        name: In tables.
        build: Seed -> an unfitted estimator with `fit(embeddings, labels)` and `predict(embeddings)`.
        parameter: Name of the estimator's parameter that C sets; `None` where there is none to tune.
        of_c: C -> value of that parameter.
        takes_groups: Whether `fit` takes `model__groups`.
        is_stochastic: Whether another seed gives another model; what only orders the solver's steps is not.
    """

    name: str
    build: Callable[[int], Any]
    parameter: str | None = None
    of_c: Callable[[float], float] = float
    takes_groups: bool = False
    is_stochastic: bool = False


def _pipeline(model: Any) -> Pipeline:
    return Pipeline([("standardise", Standardise()), ("span", TrainingSpan()), ("model", model)])


def _of_standardised_values(model: Any) -> TransformedTargetRegressor:
    """Values standardised as well (C and epsilon then need no unit), predictions in the values' unit."""
    return TransformedTargetRegressor(_pipeline(model), transformer=StandardScaler())


def _linear_svm(seed: int) -> Any:
    # The dual is solved faster than the primal from 160 x 4,096 to 25,000 x 4,096 items x dimension.
    return _pipeline(LinearSVC(C=DEFAULT_C, dual=True, max_iter=MAX_ITERATIONS, random_state=seed))


def _logistic(seed: int) -> Any:
    return _pipeline(LogisticRegression(C=DEFAULT_C, max_iter=MAX_ITERATIONS, random_state=seed))


def _svr(seed: int) -> Any:
    # The absolute loss needs over 1,000 sweeps where items outnumber features; the squared one converges.
    loss = "squared_epsilon_insensitive"
    model = LinearSVR(
        C=DEFAULT_C, epsilon=0.1, loss=loss, dual=True, max_iter=MAX_ITERATIONS, random_state=seed
    )
    return _of_standardised_values(model)


def _ridge(seed: int) -> Any:
    # Unlike the Cholesky solver, which builds an items x items matrix for long embeddings.
    return _of_standardised_values(Ridge(alpha=1 / DEFAULT_C, solver="lsqr", tol=1e-6))


#: Kind -> probes in the order of tables: the first is the headline, the last one the chance level. Ridge
#: leads regression because its loss is the metric's (R² is squared error), its solution is unique, and it
#: has no epsilon to choose.
PROBES: dict[str, tuple[Probe, ...]] = {
    "classification": (
        Probe("linear_svm", _linear_svm, "model__C"),
        Probe("logistic", _logistic, "model__C"),
        Probe(
            "mlp", lambda seed: _pipeline(PerceptronClassifier(seed)), takes_groups=True, is_stochastic=True
        ),
        Probe(CHANCE, lambda seed: DummyClassifier(strategy="most_frequent")),
    ),
    "regression": (
        Probe("ridge", _ridge, "regressor__model__alpha", lambda c: 1 / c),
        Probe("svr", _svr, "regressor__model__C"),
        Probe(
            "mlp",
            lambda seed: _of_standardised_values(PerceptronRegressor(seed)),
            takes_groups=True,
            is_stochastic=True,
        ),
        Probe(CHANCE, lambda seed: DummyRegressor(strategy="mean")),
    ),
}


def probes_of(kind: Kind, names: Sequence[str] | None = None) -> tuple[Probe, ...]:
    """The probes of a kind in their fixed order, `chance` always among them.

    Args:
        kind: `classification` or `regression`.
        names: Those that are wanted, of either kind; `None` for all.

    Raises:
        RecipeError: Where a name is unknown, or none of them is a probe of this kind.
    """
    known = PROBES[kind]
    if names is None:
        return known
    every = list(dict.fromkeys(probe.name for probes in PROBES.values() for probe in probes))
    for name in names:
        if name not in every:
            raise RecipeError(f"there is no probe '{name}'; there are {', '.join(every)}")
    found = tuple(probe for probe in known if probe.name in names or probe.name == CHANCE)
    if not any(probe.name in names for probe in found):
        raise RecipeError(
            f"none of the probes {', '.join(names)} is for {kind}; "
            f"these are: {', '.join(probe.name for probe in known)}"
        )
    return found


def fit_probe(
    probe: Probe,
    kind: Kind,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    groups: NDArray[np.str_] | None = None,
    *,
    inner: Sequence[Fold] = (),
    seed: int = 0,
) -> tuple[Any, dict[str, Any]]:
    """Fit a probe to the training part, which is all that this function sees.

    Args:
        probe: Of `PROBES`.
        kind: `classification` or `regression`.
        embeddings: float32 [training items, dimension].
        labels: [training items] classes or values.
        groups: [training items], or `None`.
        inner: Parts of the training items on which C is chosen from `C_GRID`, by accuracy or squared error;
            the probe is then fitted to all of them. Empty for the default C.
        seed: Of solver and initial weights.

    Returns:
        The fitted estimator, and what is worth keeping: C, iterations, warnings.
    """
    estimator = probe.build(seed)
    details: dict[str, Any] = {}
    given = {"model__groups": groups} if probe.takes_groups and groups is not None else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of files that others left open
        if probe.parameter is not None:
            c = _chosen_c(estimator, probe, kind, embeddings, labels, inner) if inner else DEFAULT_C
            estimator.set_params(**{probe.parameter: probe.of_c(c)})
            details["C"] = c
        estimator.fit(embeddings, labels, **given)
    iterations = _iterations(estimator)
    if iterations is not None:
        details["iterations"] = iterations
    details["warnings"] = sorted(
        {f"{w.category.__name__}: {' '.join(str(w.message).split())}" for w in caught}
    )
    return estimator, details


def _chosen_c(
    estimator: Any,
    probe: Probe,
    kind: Kind,
    embeddings: NDArray[np.float32],
    labels: NDArray[Any],
    inner: Sequence[Fold],
) -> float:
    """The C of the best inner score; the smallest of several."""
    search = GridSearchCV(
        estimator,
        {probe.parameter: [probe.of_c(c) for c in C_GRID]},
        scoring="accuracy" if kind == "classification" else "neg_mean_squared_error",
        cv=[(fold.train, fold.test) for fold in inner],
        refit=False,
    )
    search.fit(embeddings, labels)
    return C_GRID[int(np.argmax(search.cv_results_["mean_test_score"]))]


def _iterations(estimator: Any) -> int | None:
    """Iterations (sweeps, epochs) of the model at the end of a pipeline; `None` where it has none."""
    fitted = getattr(estimator, "regressor_", estimator)
    model = fitted.named_steps["model"] if isinstance(fitted, Pipeline) else fitted
    count = getattr(model, "n_iter_", None)
    return None if count is None else int(np.max(count))
