"""How embeddings are standardised, by probes and by the recommender alike.

A feature that hardly varied among the training items says nothing and must not be blown up: what varies less
than rounding is constant, and no value lies further than `LARGEST_DEVIATION` deviations from the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Standard deviations beyond which a value is cut: a feature that hardly varied in training must not
#: overwhelm all others (or overflow float32) on a test item.
LARGEST_DEVIATION = 1000.0

#: A deviation below this part of a feature's largest magnitude is rounding of float32, not variation.
SMALLEST_VARIATION = 1e-6
SMALLEST_DEVIATION = 1e-30  # its inverse is still a float32


def varying(features: NDArray[np.floating[Any]], deviation: FloatArray) -> NDArray[np.bool_]:
    """Which features vary by more than rounding.

    Args:
        features: float [training items, dimension].
        deviation: float64 [dimension], of these items.
    """
    largest = np.maximum(np.abs(features.max(axis=0)), np.abs(features.min(axis=0)))
    found: NDArray[np.bool_] = deviation > np.maximum(SMALLEST_VARIATION * largest, SMALLEST_DEVIATION)
    return found
