"""The trunk in other forms than a SavedModel, each run once in its own runtime and compared when written.

All of them embed segments; a track is the mean and the standard deviation over its segments.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kerasrep.constants import FLOAT32
from kerasrep.errors import ExportError
from kerasrep.model.strategies import Network
from kerasrep.runtime.native_messages import silenced
from kerasrep.serving.check import compare, full_float32
from kerasrep.storage.export_directory import SERVING_DEFAULT

#: Format -> module that writes it.
MODULES = {name: f"kerasrep.serving.runtimes.{name}_file" for name in ("keras", "tflite", "onnx", "frozen")}

Embed = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        network: The trained network, in float32.
        loaded: Its SavedModel, loaded back.
        segment_samples: Samples a channel in one segment.
        weights: Type that its kernels are stored in.
    """

    network: Network
    loaded: Any
    segment_samples: int
    weights: str = FLOAT32

    @property
    def function(self) -> Any:
        """The concrete function of `serving_default`."""
        return self.loaded.signatures[SERVING_DEFAULT]


class Runtime(Protocol):
    """A module that writes one format.

    Attributes:
        FILE: Name of the file.
        BATCHES: Batches that the file is compared at.
    """

    FILE: str
    BATCHES: tuple[int, ...]

    def require(self) -> None:
        """Raise ExportError where a package that writing needs is not installed."""

    def write(self, path: Path, source: Source) -> None:
        """Write the file."""

    def read(self, path: Path) -> Embed:
        """Load the file in its runtime: waveform [batch, samples, 2] -> output name -> embedding."""


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
        Format -> file, size and largest difference, for the card.

    Raises:
        ExportError: Where one cannot be converted, or gives other values.
    """
    about = {}
    for name in formats:
        runtime = runtime_of(name)
        path = folder / runtime.FILE
        with silenced():  # converters talk of their own business
            runtime.write(path, source)
        difference = _largest_difference(name, runtime.read(path), source, audio, runtime.BATCHES)
        about[name] = {"file": path.name, "bytes": path.stat().st_size, "largest_difference": difference}
    return about


def _largest_difference(
    name: str, embed: Embed, source: Source, audio: NDArray[np.float32], batches: tuple[int, ...]
) -> float:
    differences = []
    with full_float32():
        for batch in batches:
            waveform = np.resize(audio, (batch, *audio.shape[1:]))
            outputs = source.network.embedder(waveform, training=False)
            expected = {output: tensor.numpy() for output, tensor in outputs.items()}
            differences.append(compare(name, batch, expected, embed(waveform), source.weights))
    return max(differences)


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
