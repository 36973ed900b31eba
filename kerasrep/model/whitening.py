"""Embeddings in which segments of one track are closer to each other than to those of others.

Each value is standardised over the training tracks; then those directions in which the segments of a track
differ most from their track's mean are shrunk. It is the within-class covariance normalisation of speaker
recognition (Hatch, Kajarekar and Stolcke 2006) in a few directions, with tracks as classes: no label is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError

Tensor = Any

#: Name of the layer, in whichever model it is.
NAME = "whitening"
#: What to do where its values are damaged.
ADVICE = "resume the run's training, which measures it again, or export again"
#: What the names of its variables end with: mean and 1 / standard deviation; directions to shrink.
MEAN_SCALE, DIRECTIONS = "mean_scale", "directions"
#: A variance counts as its own and this part of the mean of all, so that small ones are not blown up.
FLOOR = 0.3
#: No value is divided by less than this part of what others vary by, nor than that of its mean: what is
#: nearly constant varies by rounding.
OF_OTHERS, OF_MEAN = 0.1, 0.1


def piece_name(layer: str, branch: str) -> str:
    """What values of a layer are called in the names of variables."""
    return f"{layer}_{branch}"


@keras.saving.register_keras_serializable(package="kerasrep")
class Whitening(keras.layers.Layer):
    """One map for each layer of each branch; `call` says which.

    Attributes:
        widths: Piece -> values.
        directions: Piece -> how many directions are shrunk.
    """

    def __init__(self, widths: Mapping[str, int], directions: Mapping[str, int], **kwargs: Any) -> None:
        """Keep the sizes.

        Args:
            widths: Piece -> values.
            directions: Piece -> how many directions are shrunk.
            kwargs: Of every layer.
        """
        super().__init__(**{"name": NAME, "dtype": "float32", "trainable": False} | kwargs)
        self.widths, self.directions = dict(widths), dict(directions)
        self._of_piece: dict[str, list[keras.Variable]] = {}

    def build(self, input_shape: Any) -> None:
        """Make the variables of all pieces."""
        del input_shape  # of whichever piece comes first
        for piece, width in self.widths.items():
            shapes = {MEAN_SCALE: (2, width), DIRECTIONS: (width, self.directions[piece])}
            self._of_piece[piece] = [
                self.add_weight(shape=shape, initializer="zeros", name=f"{piece}_{name}", trainable=False)
                for name, shape in shapes.items()
            ]

    def call(self, inputs: Tensor, piece: str) -> Tensor:
        """[batch, width of the piece] -> the same shape."""
        mean_scale, directions = self._of_piece[piece]
        mean, scale = keras.ops.unstack(mean_scale, 2)
        values = (inputs - mean) * scale
        along = keras.ops.matmul(values, directions)
        return values - keras.ops.matmul(along, keras.ops.transpose(directions))

    def get_config(self) -> dict[str, Any]:
        """The sizes, for a file."""
        return {**super().get_config(), "widths": self.widths, "directions": self.directions}


def layer_of(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Whitening:
    """The layer with its values.

    Args:
        path: Of the file that they come from, for errors.
        arrays: As `arrays_of` gives them; those of other layers are passed over.

    Raises:
        DataError: Where one is missing, malformed or too many.
    """
    found = {name.removeprefix(f"{NAME}/"): array for name, array in arrays.items() if name.startswith(NAME)}
    ending = f"_{DIRECTIONS}"
    of = {name.removesuffix(ending): array for name, array in found.items() if name.endswith(ending)}
    if not of or any(array.ndim != 2 for array in of.values()):
        raise DataError(f"{path}: {NAME} is damaged; {ADVICE}")
    layer = Whitening(*({piece: array.shape[axis] for piece, array in of.items()} for axis in range(2)))
    layer.build(None)
    for variable in layer.variables:
        array = found.pop(variable.path.removeprefix(f"{NAME}/"), np.zeros(0))
        fits = array.shape == tuple(variable.shape) and array.dtype == np.float32
        if not fits or not np.isfinite(array).all():
            raise DataError(f"{path}: '{variable.path}' is missing or malformed; {ADVICE}")
        variable.assign(array)
    if found:
        raise DataError(f"{path}: '{NAME}/{next(iter(found))}' is unknown; {ADVICE}")
    return layer


def whitening_in(model: keras.Model) -> Whitening | None:
    """The layer of a model that has one."""
    return next((layer for layer in model.layers if isinstance(layer, Whitening)), None)


class Moments:
    """Sums over tracks, from which the map of one piece follows.

    Args:
        width: Values of a segment.
    """

    def __init__(self, width: int) -> None:
        self._count, self._sum, self._squares = 0, np.zeros(width), np.zeros(width)
        self._within = np.zeros((width, width))

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the segments of a track, float32 [segments, width]."""
        own = values.astype(np.float64)
        self._count += len(own)
        self._sum += own.sum(0)
        self._squares += np.square(own).sum(0)
        apart = own - own.mean(0)
        self._within += apart.T @ apart

    def arrays(self, directions: int) -> dict[str, NDArray[np.float32]]:
        """Mean and 1 / standard deviation, [2, width]; directions to shrink, [width, n], as long as they say.

        What is left along a direction d is 1 - |d|^2 of it.

        Args:
            directions: How many; at most half of the values.
        """
        mean = self._sum / self._count
        deviation = np.sqrt(np.maximum(self._squares / self._count - np.square(mean), 0))
        least = np.maximum(OF_OTHERS * (deviation.mean() or 1.0), OF_MEAN * np.abs(mean))
        scale = 1 / np.maximum(deviation, least)
        variances, axes = np.linalg.eigh(self._within / self._count * np.outer(scale, scale))
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
        count = min(directions, len(mean) // 2)
        lengths = 1 / np.sqrt(variances + FLOOR * (variances.mean() or 1.0))
        taken = np.maximum(1 - lengths[:count] / lengths[count:].mean(), 0)  # not less by rounding
        found = {MEAN_SCALE: np.stack([mean, scale]), DIRECTIONS: axes[:, :count] * np.sqrt(taken)}
        return {name: values.astype(np.float32) for name, values in found.items()}


def arrays_of(moments: Mapping[str, Moments], directions: int) -> dict[str, NDArray[np.float32]]:
    """The values of the layer by the paths of its variables.

    Args:
        moments: Piece -> what was summed up.
        directions: To shrink in each piece.
    """
    return {
        f"{NAME}/{piece}_{name}": values
        for piece, of in moments.items()
        for name, values in of.arrays(directions).items()
    }
