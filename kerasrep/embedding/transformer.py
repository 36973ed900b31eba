"""A trained model as a scikit-learn transformer: recordings in, a matrix out."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kerasrep.embedding.catalogue.layout import MEAN, MEAN_STD, Layout
from kerasrep.embedding.embedder import waveform_blocks
from kerasrep.embedding.models import WHAT_A_MODEL_IS, SegmentModel, find_model
from kerasrep.embedding.stream import rows_of_files
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.storage.export_directory import default_model

#: Models that stay loaded, so that the copies that a grid search makes do not load them again.
_KEPT_MODELS = 2


class AudioEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Recordings become rows of a matrix, one each.

    A trained model is not fitted any more: `fit` only loads and checks it. Parameters are those of
    `kerasrep-embed`, and all can be searched over. The model is loaded once a process and is never pickled.

    Args:
        model: An export, a run directory or a `.keras` file; by default, or as `starter`, the trunk
            that comes with kerasrep.
        pool: `mean-std`, or `mean`, over the segments of a recording.
        hop_seconds: From the beginning of a segment to that of the next one; by default its length.
        sources: Names of the branches to keep; by default all.
        sample_rate_hz: Of waveforms, in hertz; by default the model's. Files say theirs.
        layers: `last`, `all`, or some of them (see `kerasrep.load`); by default the model's own.

    Attributes:
        columns_: Name of each column of the matrix.
        n_features_out_: Number of columns.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        pool: str = MEAN_STD,
        hop_seconds: float | None = None,
        sources: Sequence[str] | None = None,
        sample_rate_hz: float | None = None,
        layers: str | Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.pool = pool
        self.hop_seconds = hop_seconds
        self.sources = sources
        self.sample_rate_hz = sample_rate_hz
        self.layers = layers

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Load the model and check the parameters; recordings and targets are not looked at.

        Raises:
            ExportError: Where the model cannot be loaded.
            RecipeError: Where a parameter cannot be.
        """
        _, layout = self._loaded()
        self.columns_ = np.array(layout.columns, object)
        self.n_features_out_ = layout.dimension
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Embed recordings.

        Args:
            X: Paths of audio files; or waveforms, [samples] or [samples, channels] each: a list, or an array
                [recordings, samples] or [recordings, samples, channels]. Float with full scale 1, int16 or
                int32.

        Returns:
            float32 [recordings, columns].

        Raises:
            DataError: Where one of them cannot be used; it is named.
        """
        check_is_fitted(self, "columns_")
        items = _items(X)
        model, layout = self._loaded()
        if all(isinstance(item, str | os.PathLike) for item in items):
            rows = rows_of_files([Path(item) for item in items], model, layout)
        elif any(isinstance(item, str | os.PathLike) for item in items):
            raise DataError("X: holds paths and waveforms; give either")
        else:
            rate_hz = layout.sample_rate_hz if self.sample_rate_hz is None else self.sample_rate_hz
            rows = (_of_waveform(number, item, rate_hz, model, layout) for number, item in enumerate(items))
        matrix = np.zeros((len(items), layout.dimension), np.float32)
        for number, row in enumerate(rows):
            matrix[number] = row
        return matrix

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: `mean/BRANCH/0` ... `sd/BRANCH/255`."""
        check_is_fitted(self, "columns_")
        return self.columns_

    def __sklearn_tags__(self) -> Any:
        """Recordings are not a matrix of numbers, and nothing is learnt from them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        return tags

    def _loaded(self) -> tuple[SegmentModel, Layout]:
        if not isinstance(self.pool, str) or self.pool not in {MEAN_STD, MEAN}:
            raise RecipeError(
                f"pool {self.pool!r}: a recording is one row; give {MEAN_STD} or {MEAN}, or take "
                "kerasrep.load(...).embed_file_timed for vectors over time"
            )
        if not isinstance(self.model, str | os.PathLike | None):
            raise ExportError(f"model {self.model!r:.100}: is not a path; give {WHAT_A_MODEL_IS}")
        path = default_model() if self.model is None else Path(self.model)
        return _load(*_state(path)).arranged(self.pool, self.hop_seconds, self.sources, self.layers)


def _state(path: Path) -> tuple[Path, int]:
    """A path, and a number that changes when a model is written there anew."""
    _, found = find_model(path)
    return found.absolute(), found.stat().st_mtime_ns


@functools.lru_cache(_KEPT_MODELS)
def _load(path: Path, _modified: int) -> SegmentModel:
    load_model, found = find_model(path)
    return load_model(found)


def _items(recordings: Any) -> list[Any]:
    if isinstance(recordings, str | os.PathLike):
        raise DataError(f"X: is one path ({recordings}); give a list of recordings")
    if hasattr(recordings, "to_numpy"):  # a column of a data frame
        recordings = recordings.to_numpy()
    if isinstance(recordings, np.ndarray) and recordings.dtype.kind in "UO" and recordings.ndim == 2:
        if recordings.shape[1] != 1:
            raise DataError(f"X: has {recordings.shape[1]} columns; give one column of paths")
        recordings = recordings[:, 0]
    if isinstance(recordings, np.ndarray) and recordings.dtype.kind in "fi" and recordings.ndim not in {2, 3}:
        shape = list(recordings.shape)
        raise DataError(
            f"X: has shape {shape}; give [recordings, samples] or [recordings, samples, channels]"
        )
    try:
        return list(recordings)
    except TypeError as error:
        raise DataError(f"X: is {type(recordings).__name__}; give a list of paths or waveforms") from error


def _of_waveform(
    number: int, waveform: Any, rate_hz: float, model: SegmentModel, layout: Layout
) -> NDArray[np.float32]:
    try:
        blocks = waveform_blocks(waveform, rate_hz, layout.sample_rate_hz)
        return layout.row(blocks, model.embed_segments)
    except DataError as error:
        raise DataError(f"X[{number}]: {error}") from error
