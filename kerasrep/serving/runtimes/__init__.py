"""The trunk in other forms than a SavedModel, each run once in its own runtime and compared when written.

All of them embed segments; TensorFlow Lite and ONNX also embed whole recordings.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.constants import FLOAT32
from kerasrep.errors import ExportError
from kerasrep.model.strategies import Network
from kerasrep.runtime.native_messages import silenced
from kerasrep.serving.check import (
    TRACK_SEGMENTS,
    compare,
    full_float32,
    segment_embeddings,
    track_embeddings,
)
from kerasrep.storage.export_directory import SERVING_DEFAULT, ExportCard, read_card
from kerasrep.storage.segment_vector import SHARED, Piece, parse_layers, whole_outputs

#: Format -> module that writes it.
MODULES = {name: f"kerasrep.serving.runtimes.{name}_file" for name in ("keras", "tflite", "onnx", "frozen")}

Embed = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        saved: Folder of the SavedModel, with its card.
        network: What it was made of, in float32, with the layers that it gives.
        weights: Type that kernels were rounded to since; float32 where the network has them already.
    """

    saved: Path
    network: Network
    weights: str = FLOAT32

    @functools.cached_property
    def card(self) -> ExportCard:
        """Its card."""
        return read_card(self.saved)

    @functools.cached_property
    def loaded(self) -> Any:
        """The SavedModel, loaded."""
        import tensorflow as tf

        return tf.saved_model.load(str(self.saved))

    @property
    def function(self) -> Any:
        """The concrete function of `serving_default`."""
        return self.loaded.signatures[SERVING_DEFAULT]

    @property
    def widths(self) -> dict[str, int]:
        """Outputs that recordings have as well, in the order of the network -> values of a segment."""
        outputs = self.function.structured_outputs
        return whole_outputs({name: output.shape[-1] for name, output in outputs.items()})

    @property
    def vector(self) -> tuple[str, ...]:
        """The outputs that the vector of a recording is made of where nobody names layers."""
        return tuple(Piece(layer, SHARED, 0).output for layer in parse_layers(self.card.default_layers))


class Runtime(Protocol):
    """A module that writes one format.

    Attributes:
        FILES: Names of what it writes.
        BATCHES: Batches of segments that it is compared at.
        SEGMENTS: File or signature that embeds segments.
        TRACK: File or signature that embeds a whole recording; `None` where the format has none.
    """

    FILES: tuple[str, ...]
    BATCHES: tuple[int, ...]
    SEGMENTS: str
    TRACK: str | None

    def require(self) -> None:
        """Raise ExportError where a package that writing needs is not installed."""

    def write(self, folder: Path, source: Source) -> None:
        """Write the files."""

    def read(self, folder: Path, name: str) -> Embed:
        """Load `SEGMENTS` or `TRACK` in its runtime: waveform -> output name -> values."""


def runtime_of(name: str) -> Runtime:
    """The module that writes a format."""
    return importlib.import_module(MODULES[name])  # type: ignore[return-value]


def require(formats: Sequence[str]) -> None:
    """Refuse formats whose packages are not installed, before any work.

    Raises:
        ExportError: Naming the format and what to install.
    """
    for name in formats:
        runtime_of(name).require()


def write_formats(
    folder: Path, source: Source, formats: Sequence[str], audio: NDArray[np.float32]
) -> dict[str, Any]:
    """Write formats and compare each with the Keras model.

    Args:
        folder: Exists.
        source: What is converted.
        formats: Of `MODULES`.
        audio: float32 [segments, segment_samples, 2] to compare on.

    Returns:
        Format -> size of each file and largest difference, for the card.

    Raises:
        ExportError: Where one cannot be converted, or gives other values.
    """
    about = {}
    for name in formats:
        runtime = runtime_of(name)
        with silenced():  # converters talk of their own business
            runtime.write(folder, source)
        about[name] = {
            "bytes": {file: (folder / file).stat().st_size for file in runtime.FILES},
            "largest_difference": max(_differences(name, folder, source, audio)),
        }
    return about


def _differences(name: str, folder: Path, source: Source, audio: NDArray[np.float32]) -> Iterator[float]:
    runtime = runtime_of(name)
    embed = runtime.read(folder, runtime.SEGMENTS)
    with full_float32():
        for batch in runtime.BATCHES:
            waveform = np.resize(audio, (batch, *audio.shape[1:]))
            expected = segment_embeddings(source.network, waveform)
            yield compare(name, batch, expected, embed(waveform), source.weights)
        if runtime.TRACK is None:
            return
        embed = runtime.read(folder, runtime.TRACK)
        segment_samples = source.card.segment_samples
        for length in (int(n * segment_samples) for n in TRACK_SEGMENTS):
            track = np.resize(audio, (1, length, constants.N_CHANNELS))
            expected = track_embeddings(source.network, track, np.array([length]), segment_samples)
            halves = [np.split(expected[output], 2, axis=1) for output in source.vector]
            expected["vector"] = np.concatenate([half[part] for part in (0, 1) for half in halves], axis=1)
            found = {output: values[np.newaxis] for output, values in embed(track[0]).items()}
            yield compare(f"{name}: {runtime.TRACK}", 1, expected, found, source.weights)


def installed(name: str, module: str, extra: str) -> None:
    """Raise ExportError where `module` cannot be imported."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ExportError(
            f"{name}: needs {module}, which cannot be imported ({error}); pip install 'kerasrep[{extra}]'"
        ) from error


def short(error: Exception) -> str:
    """An error in one line; the end of it, where converters say what is wrong."""
    return " ".join(str(error).split())[-300:] or type(error).__name__
