"""Standardised features, and a ridge regression on them that is solved for many targets.

Features stay as they are (float32, up to 27,000 x 4,096) and are standardised in float64, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from kerasrep.evaluation.probing.probes import LARGEST_DEVIATION, varying

FloatArray = NDArray[np.float64]

#: Mean square norm of a standardised item: that of the paper's 512 values a track. A fixed one, because the
#: weight of the ridge is fixed as well, and a longer embedding would be shrunk less.
SQUARE_NORM = 512.0

BLOCK_VALUES = 1 << 18  # of features standardised at once: 2 MiB stay in the processor's cache
GRAM_BLOCK_VALUES = 1 << 22  # where their products are added to a whole matrix: 32 MiB


@dataclass(frozen=True)
class Standardiser:
    """Mean and deviation of features.

    Attributes:
        mean: float64 [dimension].
        inverse_deviation: float64 [dimension]; 0 for features that were constant.
        scale: Standardised values are multiplied by it, so that items have a mean square norm of
            `SQUARE_NORM` whatever the dimension.
    """

    mean: FloatArray
    inverse_deviation: FloatArray
    scale: float

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Standardiser:
        """Standardisation of float [items, dimension], one item at least."""
        blocks = list(row_blocks(features))
        mean = sum(features[rows].sum(axis=0, dtype=np.float64) for rows in blocks) / len(features)
        squares = sum(((features[rows] - mean) ** 2).sum(axis=0) for rows in blocks)
        deviation = np.sqrt(squares / len(features))
        moving = varying(features, deviation)
        inverse = np.divide(1.0, deviation, out=np.zeros_like(mean), where=moving)
        return cls(mean, inverse, float(np.sqrt(SQUARE_NORM / max(1, int(moving.sum())))))

    def __call__(self, features: NDArray[np.floating[Any]], columns: slice = slice(None)) -> FloatArray:
        """Standardised [items, some columns], float64; `features` holds these columns alone."""
        standardised: FloatArray = np.subtract(features, self.mean[columns], dtype=np.float64)
        standardised *= self.inverse_deviation[columns]
        np.clip(standardised, -LARGEST_DEVIATION, LARGEST_DEVIATION, out=standardised)
        standardised *= self.scale
        return standardised


class Ridge:
    """The map Phi that minimises |H - F Phi|^2 + ratio |Phi|^2 for any H; its matrix is factored once.

    There is no intercept. Where there are fewer items than features, the equivalent
    F' (F F' + ratio 1)^-1 H is solved, so that the matrix is the smaller one.

    Args:
        features: float [items, dimension]; kept, and standardised to F block by block.
        standardiser: Of these features.
        ratio: Above 0.
    """

    def __init__(self, features: NDArray[np.floating[Any]], standardiser: Standardiser, ratio: float) -> None:
        self._features, self._standardiser = features, standardiser
        n_items, dimension = features.shape
        self._dual = n_items < dimension
        matrix = ratio * np.eye(min(n_items, dimension))
        if self._dual:
            for columns in _blocks(dimension, n_items, GRAM_BLOCK_VALUES):
                part = standardiser(features[:, columns], columns)
                matrix += part @ part.T
        else:
            for rows in _blocks(n_items, dimension, GRAM_BLOCK_VALUES):
                part = standardiser(features[rows])
                matrix += part.T @ part
        self._factored = linalg.cho_factor(matrix, lower=True, overwrite_a=True)

    def solve(self, targets: FloatArray) -> FloatArray:
        """Phi [dimension, n_factors] for H [items, n_factors]."""
        if self._dual:
            return self._transposed_product(linalg.cho_solve(self._factored, targets))
        solved: FloatArray = linalg.cho_solve(self._factored, self._transposed_product(targets))
        return solved

    def predict(self, feature_map: FloatArray) -> FloatArray:
        """F Phi, [items, n_factors]."""
        product = np.empty((len(self._features), feature_map.shape[1]))
        for rows in row_blocks(self._features):
            product[rows] = self._standardiser(self._features[rows]) @ feature_map
        return product

    def _transposed_product(self, targets: FloatArray) -> FloatArray:
        product = np.zeros((self._features.shape[1], targets.shape[1]))
        for rows in row_blocks(self._features):
            product += self._standardiser(self._features[rows]).T @ targets[rows]
        return product


def row_blocks(features: NDArray[np.floating[Any]]) -> Iterator[slice]:
    """Consecutive items with at most `BLOCK_VALUES` features, one item at least."""
    return _blocks(len(features), features.shape[1], BLOCK_VALUES)


def _blocks(count: int, width: int, most_values: int) -> Iterator[slice]:
    step = max(1, most_values // width)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
