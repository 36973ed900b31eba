"""Audio in, one vector a track out.

The vector holds all branches' means over consecutive segments, then all standard deviations, as in Kim et
al. (2018), section 4.3.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep.data.audio import BLOCK_FRAMES, convert_blocks, decode_blocks
from kerasrep.data.decoders.plan import MIN_RATE_HZ
from kerasrep.embedding.catalogue.layout import make_layout
from kerasrep.embedding.models import SegmentModel, find_model
from kerasrep.errors import DataError
from kerasrep.report.page import render
from kerasrep.storage import limits

#: Raised whenever the same weights and the same audio give another vector; part of every fingerprint.
TRACK_EMBEDDING_VERSION = 1
#: More channels than this are samples: the array is the wrong way round.
MAX_CHANNELS = 256
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def load(path: str | Path, layers: str | Sequence[str] | None = None) -> Embedder:
    """Load a trained model for embedding.

    Args:
        path: An export (`exported/NAME` for its newest version, or one version), a run directory, or a
            run's `.keras` file.
        layers: What an embedding is made of: `last`, the network's embedding; `all`, and then the pooled
            outputs of its convolution blocks (see `segment_vector.Piece`); or some of them: `conv3,conv5`. By
            default what the card says, which is `last` for most.

    Returns:
        The model, ready to embed.

    Raises:
        ExportError: Where `path` is none of these, is damaged, or cannot give a layer.
        RecipeError: Where there is no such layer.
        RunError: Where the run has no trained weights yet.
    """
    load_model, found = find_model(Path(path))
    return Embedder(load_model(found), layers, found.absolute())


class Embedder:
    """A trained model that embeds recordings. Pickled, it is its path, and is loaded again.

    Attributes:
        sample_rate_hz: Rate that recordings are converted to.
        segment_samples: Samples a channel in one segment.
        branches: Names of the representations side by side.
        dimension: Values of an embedding: 512 a branch, and twice those of each pooled layer.
        layout: Of an embedding.
        columns: Name of each value: `mean/BRANCH/0` ... `mean/BRANCH/255` for all branches, then of pooled
            layers `mean/BRANCH/conv3/mean/0` ..., then `sd/...`.
    """

    def __init__(
        self, model: SegmentModel, layers: str | Sequence[str] | None = None, path: Path | None = None
    ) -> None:
        self._origin = path, layers
        self.layout = make_layout(
            model.branches,
            model.sample_rate_hz,
            model.segment_samples,
            layers=model.default_layers if layers is None else layers,
            pooled=model.layers,
        )
        self._model = model.only(self.layout.pieces)
        self.sample_rate_hz = model.sample_rate_hz
        self.segment_samples = model.segment_samples
        self.branches = model.branches
        self.columns = self.layout.columns
        self.dimension = self.layout.dimension

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the model; one that `load` has not read cannot be pickled."""
        if self._origin[0] is None:
            raise TypeError("this model was not loaded from a path; load it in each process")
        return load, self._origin

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        branches = ", ".join(self.branches)
        seconds = self.segment_samples / self.sample_rate_hz
        rows = [("branches", branches), ("values of an embedding", f"{self.dimension:,}")]
        rows += [("layers", self.layout.layers), ("segment", f"{seconds:g} s at {self.sample_rate_hz:,} Hz")]
        return render("repr.html", title="kerasrep model", rows=rows)

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """Embed one recording.

        Memory beside the waveform does not grow with its length.

        Args:
            waveform: [samples] or [samples, channels]; float with full scale 1, int16 or int32. Mono is
                doubled, more than two channels, whose places an array does not say, go to both sides.
            sample_rate_hz: Of `waveform`, in hertz; converted where it is not the model's.

        Returns:
            float32 [dimension].

        Raises:
            DataError: Where the waveform is empty, has NaN or infinite samples, another shape or type, or
                the rate is none.
        """
        return self.embed_blocks(waveform_blocks(waveform, sample_rate_hz, self.sample_rate_hz))

    def embed_file(self, path: str | Path, decoder: str = "soundfile") -> NDArray[np.float32]:
        """Embed one audio file, in bounded memory.

        Args:
            path: Audio that libsndfile or ffmpeg's libraries read.
            decoder: `soundfile`, or `tensorflow-io`.

        Returns:
            float32 [dimension].

        Raises:
            DataError: Where the file cannot be decoded.
        """
        return self.embed_blocks(decode_blocks(Path(path), self.sample_rate_hz, decoder))

    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed one recording that comes in consecutive blocks.

        Args:
            blocks: float32 [samples, 2] at `sample_rate_hz`, of any lengths.

        Returns:
            float32 [dimension].
        """
        return self.layout.row(blocks, self.embed_segments)

    def embed_segments(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed float32 [segments, segment_samples, 2]; returns float32 [segments, values]."""
        return self._model.embed_segments(segments)


def waveform_blocks(
    waveform: ArrayLike, sample_rate_hz: float, to_hz: float
) -> Iterator[NDArray[np.float32]]:
    """Check a waveform and give it as `decode_blocks` gives a file.

    Args:
        waveform: [samples] or [samples, channels]; see `Embedder.embed`.
        sample_rate_hz: Of `waveform`, in hertz.
        to_hz: Rate of the result, in hertz.

    Returns:
        float32 [samples, 2] blocks; an infinite or NaN sample raises DataError when its block is drawn.

    Raises:
        DataError: Where waveform or rate cannot be used.
    """
    rate_hz = _checked_rate_hz(sample_rate_hz)
    return convert_blocks("waveform", _float_blocks(_checked_waveform(waveform)), rate_hz, to_hz)


def _checked_waveform(waveform: ArrayLike) -> NDArray[Any]:
    """[samples, channels] in the type that it came in."""
    try:
        array = np.asarray(waveform)
    except (TypeError, ValueError) as error:  # lists of unequal lengths
        raise DataError(f"waveform: is no array ({error})") from error
    if array.dtype not in _FULL_SCALE and not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"waveform: has type {array.dtype}; give float with full scale 1, int16 or int32")
    if array.ndim not in {1, 2}:
        raise DataError(f"waveform: has shape {list(array.shape)}; give [samples] or [samples, channels]")
    if array.size == 0:
        raise DataError(f"waveform: has shape {list(array.shape)}, no samples; give at least one")
    if array.ndim == 2 and array.shape[1] > MAX_CHANNELS:
        raise DataError(
            f"waveform: has shape {list(array.shape)}, so {array.shape[1]} channels; "
            "give [samples, channels], transpose it"
        )
    return array[:, np.newaxis] if array.ndim == 1 else array


def _checked_rate_hz(sample_rate_hz: object) -> float:
    is_number = isinstance(sample_rate_hz, numbers.Real) and not isinstance(sample_rate_hz, bool)
    rate_hz = float(sample_rate_hz) if is_number else math.nan  # type: ignore[arg-type]
    most_hz = limits.SAMPLE_RATE_HZ.value
    if not MIN_RATE_HZ <= rate_hz <= most_hz:  # NaN is refused too
        raise DataError(
            f"sample_rate_hz: is {sample_rate_hz!r}; give a number from {MIN_RATE_HZ} to {most_hz}"
        )
    return rate_hz


def _float_blocks(waveform: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    full_scale = _FULL_SCALE.get(waveform.dtype, 1.0)
    for start in range(0, len(waveform), BLOCK_FRAMES):
        block = waveform[start : start + BLOCK_FRAMES]
        with np.errstate(over="ignore"):  # becomes infinite, which is refused later
            yield (block / full_scale).astype(np.float32)
