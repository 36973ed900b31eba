"""Audio in, one vector a track out.

The vector holds all branches' means over consecutive segments, then all standard deviations, as in Kim et
al. (2018), section 4.3.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep.data.audio import BLOCK_FRAMES, convert_blocks, decode_blocks
from kerasrep.data.decoders.plan import MIN_RATE_HZ
from kerasrep.embedding.files import BadFile, FileEmbedding, find_audio
from kerasrep.embedding.models import SegmentModel, find_model
from kerasrep.embedding.segments import segment_batches
from kerasrep.embedding.stream import embed_in_order
from kerasrep.errors import DataError
from kerasrep.report.page import render
from kerasrep.storage import limits
from kerasrep.storage.export_directory import default_model
from kerasrep.storage.segment_vector import SHARED

#: Raised whenever the same weights and the same audio give another vector; part of every fingerprint.
TRACK_EMBEDDING_VERSION = 1
#: More channels than this are samples: the array is the wrong way round.
MAX_CHANNELS = 256
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


@dataclass(frozen=True, repr=False)
class Embeddings:
    """Embeddings of files.

    Attributes:
        paths: Files that were embedded, in the order of the rows.
        embeddings: float32 [files, dimension].
        columns: Name of each dimension.
        bad: Files and folders that could not be used, with reasons.
    """

    paths: tuple[Path, ...]
    embeddings: NDArray[np.float32]
    columns: tuple[str, ...]
    bad: tuple[BadFile, ...]

    def __repr__(self) -> str:
        files, values = self.embeddings.shape
        return f"<kerasrep Embeddings: files {files:,}; dimensions {values:,}; skipped {len(self.bad):,}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        files, values = self.embeddings.shape
        rows = [("files", f"{files:,}"), ("dimensions", f"{values:,}"), ("skipped", f"{len(self.bad):,}")]
        rows += [
            (path.name, " ".join(f"{value:.3f}" for value in row[:4]) + " ...")
            for path, row in zip(self.paths[:5], self.embeddings, strict=False)
        ]
        return render("repr.html", title="Embeddings", rows=rows)


@dataclass(frozen=True, repr=False)
class TimedEmbeddings:
    """Embeddings of the segments of one recording.

    Attributes:
        start_seconds: float64 [segments]: where each segment begins.
        embeddings: float32 [segments, dimension]; half the dimensions of a recording's embedding, as nothing
            is pooled over time.
        columns: Name of each dimension.
        segment_seconds: Length of a segment; the last one is filled with silence.
    """

    start_seconds: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    columns: tuple[str, ...]
    segment_seconds: float

    def __repr__(self) -> str:
        segments, values = self.embeddings.shape
        return (
            f"<kerasrep TimedEmbeddings: {segments:,} segments of {self.segment_seconds:g} s, "
            f"{values:,} dimensions>"
        )


def load(
    path: str | Path | None = None,
    layers: str | Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
) -> Embedder:
    """Load a trained model for embedding.

    Args:
        path: An export (`exported/NAME` for its newest version, or one version), a run directory, or a
            run's `.keras` file; by default `starter`, the trunk that comes with kerasrep.
        layers: What an embedding is made of: `last`, the network's embedding; `all`, and then the pooled
            outputs of its convolution blocks (see `segment_vector.Piece`); or some of them: `conv3,conv5`. By
            default what the card says, which is `last` for most.
        sources: Names of the branches to keep; by default all.

    Returns:
        The model, ready to embed.

    Raises:
        ExportError: Where `path` is none of these, is damaged, or cannot give a layer.
        RecipeError: Where there is no such layer or branch.
        RunError: Where the run has no trained weights yet.
    """
    load_model, found = find_model(default_model() if path is None else Path(path))
    return Embedder(load_model(found), layers, found.absolute(), sources)


def embed(
    model: str | Path | None,
    audio: str | Path | Sequence[str | Path],
    layers: str | Sequence[str] | None = None,
) -> Embeddings:
    """Embed audio files, and folders at any depth.

    Args:
        model: An export, a run directory, or a `.keras` file; `starter` or `None` is the trunk that comes
            with kerasrep.
        audio: Files and folders, or one of them.
        layers: What an embedding is made of; see `kerasrep.load`.

    Returns:
        A row for each file that could be used; the others are in `bad`, each with the reason.

    Raises:
        DataError: Where none of them could be used.
        ExportError: Where `model` is none, or cannot give a layer.
        RunError: Where the run has no trained weights yet.
    """
    return load(model, layers).embed_files(audio)


class Embedder:
    """A trained model that embeds recordings. Pickled, it is its path, and is loaded again.

    Attributes:
        sample_rate_hz: Rate that recordings are converted to.
        segment_samples: Samples a channel in one segment.
        branches: Names of the representations side by side.
        sources: Learning sources of these branches; of one that all share, all; empty where a `.keras` file
            does not say.
        layers: What an embedding is made of, as `load` takes it.
        dimension: Of an embedding: 512 a branch, and twice those of each pooled layer.
        layout: Of an embedding.
        columns: Name of each dimension: `mean/BRANCH/0` ... `mean/BRANCH/255` for all branches, then of
            pooled layers `mean/BRANCH/conv3/mean/0` ..., then `sd/...`.
    """

    def __init__(
        self,
        model: SegmentModel,
        layers: str | Sequence[str] | None = None,
        path: Path | None = None,
        sources: Sequence[str] | None = None,
    ) -> None:
        self._origin = path, layers, sources
        self._model, self.layout = model.arranged(sources=sources, layers=layers)
        self.sample_rate_hz = model.sample_rate_hz
        self.segment_samples = model.segment_samples
        self.branches = self.layout.branches
        self.sources = model.sources if self.branches == (SHARED,) else self.branches
        self.layers = self.layout.layers
        self.columns = self.layout.columns
        self.dimension = self.layout.dimension

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the model; one that `load` has not read cannot be pickled."""
        if self._origin[0] is None:
            raise TypeError("this model was not loaded from a path; load it in each process")
        return load, self._origin

    def _described(self) -> list[tuple[str, str]]:
        """What it is, for people."""
        model = "not loaded from a path" if self._origin[0] is None else str(self._origin[0])
        seconds = self.segment_samples / self.sample_rate_hz
        return [
            ("model", model),
            ("sources", ", ".join(self.sources) or "not known"),
            ("branches", ", ".join(self.branches)),
            ("layers", self.layers),
            ("dimension", f"{self.dimension:,}"),
            ("segment", f"{seconds:g} s at {self.sample_rate_hz:,} Hz"),
        ]

    def __repr__(self) -> str:
        """One line that says what it is."""
        return f"<kerasrep Embedder: {'; '.join(f'{name} {value}' for name, value in self._described())}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return render("repr.html", title="kerasrep model", rows=self._described())

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

    def embed_files(self, audio: str | Path | Sequence[str | Path], decoder: str = "soundfile") -> Embeddings:
        """Embed audio files, and folders at any depth; several are decoded side by side.

        Args:
            audio: Files and folders, or one of them.
            decoder: `soundfile`, or `tensorflow-io`.

        Returns:
            A row for each file that could be used; the others are in `bad`, each with the reason.

        Raises:
            DataError: Where none of them could be used.
        """
        paths, not_found = find_audio(
            [Path(path) for path in ([audio] if isinstance(audio, str | Path) else audio)]
        )
        results = list(self.embed_in_order(paths, decoder)) if paths else []
        done = [result for result in results if not isinstance(result, BadFile)]
        bad = (*not_found, *(result for result in results if isinstance(result, BadFile)))
        if not done:
            first = bad[0].reason if bad else "no file is named"
            raise DataError(f"no file could be embedded, {len(bad)} skipped: {first}")
        matrix = np.stack([result.embedding for result in done])
        return Embeddings(tuple(result.path for result in done), matrix, self.columns, bad)

    def embed_timed(
        self, waveform: ArrayLike, sample_rate_hz: float, hop_seconds: float | None = None
    ) -> TimedEmbeddings:
        """Embed the segments of one recording, each by itself.

        Args:
            waveform: As `embed` takes it.
            sample_rate_hz: Of `waveform`, in hertz.
            hop_seconds: From the beginning of a segment to that of the next one; by default its length.

        Returns:
            One row per segment.

        Raises:
            DataError: As `embed` does.
            RecipeError: Where there can be no such hop.
        """
        return self._timed(waveform_blocks(waveform, sample_rate_hz, self.sample_rate_hz), hop_seconds)

    def embed_file_timed(
        self, path: str | Path, hop_seconds: float | None = None, decoder: str = "soundfile"
    ) -> TimedEmbeddings:
        """Embed the segments of one audio file, each by itself.

        Args:
            path: Audio that libsndfile or ffmpeg's libraries read.
            hop_seconds: From the beginning of a segment to that of the next one; by default its length.
            decoder: `soundfile`, or `tensorflow-io`.

        Returns:
            One row per segment.

        Raises:
            DataError: Where the file cannot be decoded.
            RecipeError: Where there can be no such hop.
        """
        return self._timed(decode_blocks(Path(path), self.sample_rate_hz, decoder), hop_seconds)

    def _timed(self, blocks: Iterable[NDArray[np.float32]], hop_seconds: float | None) -> TimedEmbeddings:
        layout = self.layout.timed(hop_seconds)
        batches = segment_batches(blocks, self.segment_samples, hop_samples=layout.hop_samples)
        values = np.concatenate([self.embed_segments(segments) for segments in batches])
        start_seconds = np.arange(len(values)) * layout.hop_seconds
        segment_seconds = self.segment_samples / self.sample_rate_hz
        return TimedEmbeddings(start_seconds, values, layout.columns, segment_seconds)

    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Embed one recording that comes in consecutive blocks.

        Args:
            blocks: float32 [samples, 2] at `sample_rate_hz`, of any lengths.

        Returns:
            float32 [dimension].
        """
        return self.layout.row(blocks, self.embed_segments)

    def embed_in_order(
        self, paths: Sequence[Path], decoder: str = "soundfile"
    ) -> Generator[FileEmbedding | BadFile, None, None]:
        """See `stream.embed_in_order`."""
        return embed_in_order(paths, self._model, self.layout, decoder)

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
        raise DataError(f"waveform: is not an array ({error})") from error
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
