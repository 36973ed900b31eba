"""The trunk in other forms than a SavedModel, each run once in its own runtime and compared when written.

All of them embed segments; TensorFlow Lite and ONNX also embed whole recordings. A card beside them tells
signatures, the audio that they take, and pooling.
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
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.errors import ExportError
from kerasrep.model.strategies import Network
from kerasrep.runtime.native_messages import silenced
from kerasrep.serving import check
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
        with silenced():  # converters and runtimes talk of their own business
            runtime.write(folder, source)
            difference = max(_differences(name, folder, source, audio))
        sizes = {file: (folder / file).stat().st_size for file in runtime.FILES}
        about[name] = {"bytes": sizes, "largest_difference": difference}
    return about


def _differences(name: str, folder: Path, source: Source, audio: NDArray[np.float32]) -> Iterator[float]:
    runtime = runtime_of(name)
    embed = runtime.read(folder, runtime.SEGMENTS)
    with check.full_float32():
        for batch in runtime.BATCHES:
            waveform = np.resize(audio, (batch, *audio.shape[1:]))
            expected = check.segment_embeddings(source.network, waveform)
            yield check.compare(name, batch, expected, embed(waveform), source.network, source.weights)
        if runtime.TRACK is None:
            return
        embed = runtime.read(folder, runtime.TRACK)
        segment_samples = source.card.segment_samples
        for length in (int(n * segment_samples) for n in check.TRACK_SEGMENTS):
            track = np.resize(audio, (1, length, constants.N_CHANNELS))
            expected = check.track_embeddings(source.network, track, np.array([length]), segment_samples)
            halves = [np.split(expected[output], 2, axis=1) for output in source.vector]
            expected["vector"] = np.concatenate([half[part] for part in (0, 1) for half in halves], axis=1)
            found = {output: values[np.newaxis] for output, values in embed(track[0]).items()}
            yield check.compare(
                f"{name}: {runtime.TRACK}", 1, expected, found, source.network, source.weights
            )


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


def audio_facts(source: Source) -> dict[str, Any]:
    """What a program must know to give the right samples and to pool segments; also inside ONNX files."""
    card = source.card
    pieces = ", ".join(source.vector)
    return {
        "model_fingerprint": model_fingerprint(source.saved),
        "sample_rate_hz": card.sample_rate_hz,
        "segment_samples": card.segment_samples,
        "resampler": "soxr, quality HQ (res_type soxr_hq of librosa, its default)",
        "channels": "left, right, side by side for each sample (interleaved); mono is given twice",
        "range": "float in [-1, 1]; 16-bit samples are divided by 32768",
        "last_segment": "padded with zeros at its end; a recording without samples is one silent segment",
        "pooling": "over the n consecutive segments of a recording: mean = sum(x) / n, "
        "standard deviation = sqrt(sum((x - mean)^2) / n)",
        "vector": f"what kerasrep.load(...).embed gives: means of {pieces}; then their standard deviations",
    }


def runtime_card(source: Source, about: dict[str, Any]) -> dict[str, Any]:
    """Describe the files of some formats.

    Args:
        source: What was converted.
        about: Format -> what `write_formats` found of it.

    Returns:
        The card of the SavedModel, with signatures and advice of the files in place of its own.
    """
    card = source.card.model_dump(mode="json", exclude={"version", "warmup", "files"})
    return card | {
        "weights": constants.FLOAT32,
        "signatures": {name: _signatures(name, source) for name in about},
        "how_to_call": list(_how_to_call(about)),
        "audio": audio_facts(source),
        "formats": about,
    }


def _signatures(name: str, source: Source) -> dict[str, Any]:
    runtime, card = runtime_of(name), source.card
    batch = "batch" if max(runtime.BATCHES) > 1 else "1"
    outputs = source.function.structured_outputs
    described: dict[str, Any] = {
        runtime.SEGMENTS: {
            "inputs": {"waveform": f"float32 [{batch}, {card.segment_samples}, {constants.N_CHANNELS}]"},
            "outputs": {
                output: f"float32 [{batch}, {tensor.shape[-1]}]" for output, tensor in sorted(outputs.items())
            },
            "does": "one embedding per segment, the branches side by side",
        }
    }
    if runtime.TRACK is not None:
        widths = {output: 2 * width for output, width in source.widths.items()}
        widths = {"vector": sum(widths[output] for output in source.vector)} | widths
        described[runtime.TRACK] = {
            "inputs": {"waveform": f"float32 [samples, {constants.N_CHANNELS}]"},
            "outputs": {output: f"float32 [{width}]" for output, width in widths.items()},
            "does": "mean, then standard deviation, over the segments of one recording of any length",
        }
    return described


def _how_to_call(formats: dict[str, Any]) -> list[str]:
    lines = {
        "keras": "Keras: import kerasrep; keras.models.load_model('model.keras', compile=False)(waveform)",
        "tflite": "LiteRT: Interpreter('model.tflite').get_signature_runner('embed_track')(waveform=...)",
        "onnx": "ONNX Runtime: InferenceSession('track.onnx').run(['vector'], {'waveform': ...})",
        "frozen": "TensorFlow 1: feed the node waveform of frozen.pb, fetch embedding",
    }
    return [lines[name] for name in formats]
