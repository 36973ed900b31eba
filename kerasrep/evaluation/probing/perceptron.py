"""scikit-learn's perceptrons with two hidden layers of 256, stopped early on a part of the training items.

scikit-learn's own `early_stopping` splits items at random, so that versions of one piece stand on both sides,
and refuses classes with one item. Here whole groups are held out, and the weights of the epoch with the
lowest loss there are kept. Where nothing can be held out, a fixed number of epochs is trained.

Embeddings come with rows of unit mean square norm and are brought back to unit deviation, which is what the
initial weights expect.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.neural_network import MLPClassifier, MLPRegressor

from kerasrep.evaluation.base import Kind
from kerasrep.evaluation.probing.folds import Rows, partitions

HIDDEN = (256, 256)
MAX_EPOCHS = 100
EPOCHS_WITHOUT_HELD_OUT = 30
PATIENCE_EPOCHS = 10
LEAST_GAIN = 1e-3  # nats, or squared deviations; what is less does not count as better
RELATIVE_GAIN = 0.01  # of the lowest loss
LEARNING_RATE = 1e-3
HELD_OUT_PARTS = 7  # one of them is held out

#: Items a step: so many that an epoch has about 25 steps, within these bounds.
BATCH_BOUNDS = (32, 512)
STEPS_AN_EPOCH = 25


class _Perceptron(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share; after `fit`, `n_iter_` is the number of epochs kept."""

    kind: ClassVar[Kind]

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, embeddings: NDArray[Any], labels: NDArray[Any], groups: Any = None) -> Any:
        """Fit to float [items, dimension]; `groups` ([items] or none) stay on one side of the held-out part.

        The dtype of the embeddings is that of the weights.
        """
        if self.kind == "classification":
            self.classes_ = np.unique(labels)
        else:
            labels = labels.astype(embeddings.dtype)
        embeddings = self._unit_deviation(embeddings)
        train, held_out = self._held_out(labels, groups)
        self.model_ = self._model(len(train))
        given = {"classes": self.classes_} if self.kind == "classification" else {}
        best, self.n_iter_ = float(np.finfo(np.float64).max), 0
        kept: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
        n_epochs = MAX_EPOCHS if len(held_out) else EPOCHS_WITHOUT_HELD_OUT
        seen, judged = embeddings[train], embeddings[held_out]
        for epoch in range(1, n_epochs + 1):
            self.model_.partial_fit(seen, labels[train], **given)
            loss = self._loss(judged, labels[held_out]) if len(held_out) else float(n_epochs - epoch)
            if loss < best - max(LEAST_GAIN, RELATIVE_GAIN * best) or not kept[0]:
                best, self.n_iter_ = loss, epoch
                kept = [w.copy() for w in self.model_.coefs_], [b.copy() for b in self.model_.intercepts_]
            if epoch - self.n_iter_ >= PATIENCE_EPOCHS:
                break
        self.model_.coefs_, self.model_.intercepts_ = kept
        return self

    def predict(self, embeddings: NDArray[Any]) -> NDArray[Any]:
        """Classes or values, [items]."""
        predictions: NDArray[Any] = self.model_.predict(self._unit_deviation(embeddings))
        return predictions

    @staticmethod
    def _unit_deviation(embeddings: NDArray[Any]) -> NDArray[Any]:
        scaled: NDArray[Any] = embeddings * np.sqrt(embeddings.shape[1]).astype(embeddings.dtype)
        return scaled

    def _held_out(self, labels: NDArray[Any], groups: Any) -> tuple[Rows, Rows]:
        for shuffle in range(5):
            try:
                fold = next(partitions(labels, groups, self.kind, HELD_OUT_PARTS, (self.seed, shuffle)))
            except ValueError:  # too few items or groups for so many parts
                break
            is_learnt = self.kind == "regression" or np.isin(labels, labels[fold.train]).all()
            if len(fold.train) and len(fold.test) and is_learnt:
                return fold.train, fold.test
        return np.arange(len(labels)), np.arange(0)

    def _model(self, n_items: int) -> Any:
        low, high = BATCH_BOUNDS
        build = MLPClassifier if self.kind == "classification" else MLPRegressor
        return build(
            hidden_layer_sizes=HIDDEN,
            batch_size=min(n_items, int(np.clip(n_items // STEPS_AN_EPOCH, low, high))),
            learning_rate_init=LEARNING_RATE,
            # One generator for all epochs: a number would give each epoch the same order of items.
            random_state=np.random.RandomState(self.seed),
        )

    def _loss(self, embeddings: NDArray[Any], labels: NDArray[Any]) -> float:
        raise NotImplementedError


class PerceptronClassifier(ClassifierMixin, _Perceptron):  # type: ignore[misc]
    """Classes; judged by the log loss."""

    kind: ClassVar[Kind] = "classification"

    def _loss(self, embeddings: NDArray[Any], labels: NDArray[Any]) -> float:
        chances = self.model_.predict_proba(embeddings)
        right = chances[np.arange(len(labels)), np.searchsorted(self.classes_, labels)]
        return float(-np.log(np.maximum(right.astype(np.float64), 1e-12)).mean())


class PerceptronRegressor(RegressorMixin, _Perceptron):  # type: ignore[misc]
    """Values; judged by the squared error."""

    kind: ClassVar[Kind] = "regression"

    def _loss(self, embeddings: NDArray[Any], labels: NDArray[Any]) -> float:
        return float(np.square(self.model_.predict(embeddings) - labels, dtype=np.float64).mean())
