"""An export is loaded back and compared with the model it was made of.

It has to consist of TensorFlow's own operations, and none that reach outside the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import ExportError
from kerasrep.model.strategies import Network
from kerasrep.model.whitening import whitening_in
from kerasrep.storage.export_directory import EMBED_TRACK, SAVED_MODEL_FILE, SERVING_DEFAULT
from kerasrep.storage.segment_vector import whole_outputs

#: Type of the stored kernels -> largest allowed difference. Of float32 that of a single value, relative to
#: the reference where that is above 1: folding batch norm rounds otherwise, differences of 1e-5 were seen.
#: Of float16, and of networks whose values are standardised, that of the whole vector, by its length: single
#: values are rounded more.
TOLERANCES = {constants.FLOAT32: 1e-4, constants.FLOAT16: 1e-3}
#: Standardising takes the mean of a value away, and what rounding has moved it by counts for more: a vector
#: that is off by this part of its length has a cosine of 0.99995 with the right one.
TOLERANCE_WHITENED_HALVED = 1e-2
BATCHES = (1, 3)
#: Lengths of the tracks that are compared, in segments: empty, shorter than one, whole, broken.
TRACK_SEGMENTS = (0.0, 0.4, 1.0, 2.3)
#: Operations of TensorFlow that no server should find in a model: they call Python or touch its files.
FORBIDDEN = frozenset(
    {
        *("PyFunc", "PyFuncStateless", "EagerPyFunc", "HostConst"),
        *("ReadFile", "WriteFile", "PrintV2", "MatchingFiles"),
    }
)


def largest_difference(
    signatures: Mapping[str, Any], network: Network, segment_samples: int, weights: str = constants.FLOAT32
) -> float:
    """Compare both signatures of a SavedModel with the network.

    Args:
        signatures: Of the SavedModel, loaded.
        network: What it was made of.
        segment_samples: Samples a channel in one segment.
        weights: Type that kernels are stored in.

    Returns:
        The largest difference found, relative where the reference is above 1.

    Raises:
        ExportError: Where outputs are missing, of another shape, or differ by more than `TOLERANCES` allow.
    """
    rng = np.random.default_rng(0)
    differences = [0.0]
    with full_float32():
        for batch in BATCHES:
            waveform = _test_audio(rng, batch, segment_samples)
            expected = segment_embeddings(network, waveform)
            found = signatures[SERVING_DEFAULT](waveform=tf.constant(waveform))
            differences.append(
                compare(f"export: {SERVING_DEFAULT}", batch, expected, _arrays(found), network, weights)
            )
        tracks = _test_audio(rng, len(TRACK_SEGMENTS), int(max(TRACK_SEGMENTS) * segment_samples))
        lengths = np.array([int(n * segment_samples) for n in TRACK_SEGMENTS], np.int32)
        for chosen in (slice(0, 1), slice(1, None)):
            expected = track_embeddings(network, tracks[chosen], lengths[chosen], segment_samples)
            found = signatures[EMBED_TRACK](
                waveform=tf.constant(tracks[chosen]), length_samples=tf.constant(lengths[chosen])
            )
            differences.append(
                compare(
                    f"export: {EMBED_TRACK}", len(lengths[chosen]), expected, _arrays(found), network, weights
                )
            )
    return max(differences)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Turn off the short products of newer GPUs, which depend on the batch by more than the tolerance."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _test_audio(rng: np.random.Generator, batch: int, samples: int) -> NDArray[np.float32]:
    """Noise under a tone, another one and another loudness in each example; [batch, samples, 2]."""
    seconds = np.arange(samples)[:, np.newaxis] / constants.SAMPLE_RATE_HZ
    tones_hz = rng.uniform(80, 4000, (batch, 1, constants.N_CHANNELS))
    noise = rng.normal(0, 0.3, (batch, samples, constants.N_CHANNELS))
    loudness = rng.uniform(0.01, 0.7, (batch, 1, 1))
    audio: NDArray[np.float32] = (loudness * (np.sin(2 * np.pi * tones_hz * seconds) + noise)).astype(
        np.float32
    )
    return audio


def segment_embeddings(network: Network, waveform: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Each output of a network; waveform is [batch, segment_samples, 2]."""
    return _arrays(network.embedder(tf.constant(waveform), training=False))


def track_embeddings(
    network: Network, tracks: NDArray[np.float32], lengths: NDArray[np.int32], segment_samples: int
) -> dict[str, NDArray[np.float64]]:
    """Mean and standard deviation of each output over the segments of each track, cut in NumPy."""
    counts = [max(1, -(-length // segment_samples)) for length in lengths.tolist()]
    segments = []
    for track, length, count in zip(tracks, lengths.tolist(), counts, strict=True):
        padded = np.zeros((count * segment_samples, constants.N_CHANNELS), np.float32)
        padded[:length] = track[:length]
        segments.append(padded.reshape(count, segment_samples, constants.N_CHANNELS))
    found = segment_embeddings(network, np.concatenate(segments))
    pooled = {}
    for name in whole_outputs({name: values.shape[1] for name, values in found.items()}):
        of_tracks = np.split(found[name].astype(np.float64), np.cumsum(counts)[:-1])
        pooled[name] = np.stack([np.concatenate([f.mean(axis=0), f.std(axis=0)]) for f in of_tracks])
    return pooled


def _arrays(outputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: value.numpy() for name, value in outputs.items()}


def tolerance(network: Network, weights: str) -> float:
    """Largest difference that an export of a network may have; see `TOLERANCES`."""
    if weights == constants.FLOAT16 and whitening_in(network.embedder) is not None:
        return TOLERANCE_WHITENED_HALVED
    return TOLERANCES[weights]


def compare(
    what: str,
    batch: int,
    expected: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    network: Network,
    weights: str = constants.FLOAT32,
) -> float:
    """Compare what an export gives with what the trained model gives.

    Args:
        what: Was exported, for errors.
        batch: Examples in both.
        expected: Output name -> values of the trained model.
        found: Output name -> values of the export.
        network: The trained model.
        weights: Type that kernels are stored in.

    Returns:
        The largest difference, relative where the reference is above 1.

    Raises:
        ExportError: Where outputs are missing or too many, of another shape, not finite, or differ by more
            than `TOLERANCES` allow.
    """
    if set(expected) != set(found):
        raise ExportError(f"{what} gives {sorted(found)}, the trained model {sorted(expected)}")
    largest, by_length = 0.0, weights == constants.FLOAT16 or whitening_in(network.embedder) is not None
    for name, reference in expected.items():
        value = found[name]
        where = f"{what}: output '{name}' at batch {batch}"
        if value.shape != reference.shape:
            raise ExportError(
                f"{where} is {list(value.shape)}, the trained model gives {list(reference.shape)}"
            )
        if not np.isfinite(reference).all():
            raise ExportError(f"{where}: the trained model gives NaN or infinite values; train it again")
        if by_length:
            differences, sizes = (np.linalg.norm(v, axis=-1) for v in (value - reference, reference))
        else:
            differences, sizes = np.abs(value - reference), np.abs(reference)
        difference, allowed = float(np.max(differences / np.maximum(sizes, 1.0))), tolerance(network, weights)
        if not difference <= allowed:  # NaN fails too
            halved = weights == constants.FLOAT16
            advice = "; give kerasrep-export the run and --weights float32" if halved else ""
            raise ExportError(
                f"{where} differs from the trained model by {difference:.1e}, allowed is {allowed:.0e}; "
                f"nothing was exported{advice}"
            )
        largest = max(largest, difference)
    return largest


def operations_of(saved: Path) -> frozenset[str]:
    """Names of all operations in the graphs of a SavedModel and in its library of functions.

    Args:
        saved: Folder of the SavedModel.

    Returns:
        Names; calls of the library's own functions are left out.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((saved / SAVED_MODEL_FILE).read_bytes())
    found: set[str] = set()
    for meta_graph in model.meta_graphs:
        library = meta_graph.graph_def.library.function
        names = {function.signature.name for function in library}
        found.update(node.op for node in meta_graph.graph_def.node)
        found.update(node.op for function in library for node in function.node_def)
        found -= names
    return frozenset(found)


def check_operations(saved: Path) -> None:
    """Refuse a SavedModel that a server without kerasrep could not load.

    Raises:
        ExportError: Naming the operations that are not TensorFlow's, or that reach outside the graph.
    """
    from tensorflow.python.framework import op_def_registry

    # Libraries that are loaded into this process may have registered theirs too, as `LIBRARY>NAME`.
    odd = sorted(
        name
        for name in operations_of(saved)
        if ">" in name or name in FORBIDDEN or op_def_registry.get(name) is None
    )
    if odd:
        raise ExportError(f"export: the graph holds {', '.join(odd)}, which servers do not run")
