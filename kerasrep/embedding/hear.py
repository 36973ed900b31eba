"""A trained model under the common API of HEAR 2021 (https://hearbenchmark.com/hear-api.html).

    hear-validator kerasrep.embedding.hear -m exported/mss/1
    kerasrep-evaluate hear:kerasrep.embedding.hear:exported/mss/1 --tasks demo

Pooled layers are named behind the path: `exported/mss/1:all`, or `:last,conv5` (see `kerasrep.load`).
Audio is mono within [-1, 1] and is doubled, as the networks were trained on stereo. A scene's embedding is
the mean and standard deviation over consecutive segments of 2.5 s, as `kerasrep-embed` gives it. An embedding
with a time stamp is that of the 2.5 s around it; what lies outside the sound is silence.

Tensors come back as they were given: TensorFlow's, PyTorch's (on the same device) or NumPy's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.embedding.embedder import Embedder, waveform_blocks
from kerasrep.embedding.models import find_model
from kerasrep.embedding.representations import model_fingerprint, path_and_layers
from kerasrep.embedding.segments import BATCH_SEGMENTS
from kerasrep.errors import DataError, ExportError
from kerasrep.storage.export_directory import default_model

SAMPLE_RATES_HZ = (16_000, 22_050, 44_100, 48_000)
#: HEAR asks for 50 ms at most, as events are found within so much.
TIMESTAMP_HOP_MILLISECONDS = 50.0


class HearModel(tf.Module):  # type: ignore[misc]
    """A loaded model.

    Attributes:
        sample_rate: Of the audio, in hertz; one of those that HEAR allows.
        scene_embedding_size: 512 a branch, and twice those of each pooled layer.
        timestamp_embedding_size: Half of it.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(name="kerasrep")
        self.embedder = embedder
        rate_hz = embedder.sample_rate_hz
        self.sample_rate = min(
            (rate for rate in SAMPLE_RATES_HZ if rate >= rate_hz), default=SAMPLE_RATES_HZ[-1]
        )
        self.scene_embedding_size = embedder.dimension
        self.timestamp_embedding_size = embedder.dimension // 2


def load_model(model_file_path: str = "", model_hash: str | None = None) -> HearModel:
    """Load a model.

    Args:
        model_file_path: An export, a run directory or a `.keras` file, and layers behind a colon where they
            are not its own; by default the trunk that comes with kerasrep.
        model_hash: The fingerprint that the model must have (`representations.model_fingerprint`); by
            default any.

    Raises:
        ExportError: Where there is no such model, or it has another fingerprint.
        RunError: Where a run has no trained weights yet.
    """
    path, layers = path_and_layers(model_file_path or str(default_model()))
    load, found = find_model(path)
    if model_hash is not None and (own := model_fingerprint(found)) != model_hash:
        raise ExportError(f"{path}: has the fingerprint {own}, not {model_hash}; give the model that has it")
    return HearModel(Embedder(load(found), layers))


def get_scene_embeddings(audio: Any, model: HearModel) -> Any:
    """Embed whole sounds.

    Args:
        audio: [sounds, samples] at `model.sample_rate`.
        model: What `load_model` gave.

    Returns:
        float32 [sounds, scene_embedding_size].

    Raises:
        DataError: Where the audio is of another shape, empty, or has NaN or infinite samples.
    """
    sounds = _array(audio)
    rows = [model.embedder.embed(sound, model.sample_rate) for sound in sounds]
    return _like(audio, np.stack(rows))


def get_timestamp_embeddings(audio: Any, model: HearModel) -> tuple[Any, Any]:
    """Embed the surroundings of regular moments: every 50 ms from the beginning to the end.

    Args:
        audio: [sounds, samples] at `model.sample_rate`.
        model: What `load_model` gave.

    Returns:
        float32 [sounds, moments, timestamp_embedding_size], and the moments in milliseconds, float32
        [sounds, moments]: the middle of the 2.5 s that each embedding is of.

    Raises:
        DataError: Where the audio is of another shape, empty, or has NaN or infinite samples.
    """
    sounds = _array(audio)
    duration_milliseconds = 1000 * sounds.shape[1] / model.sample_rate
    count = 1 + math.floor(duration_milliseconds / TIMESTAMP_HOP_MILLISECONDS)
    moments = np.arange(count, dtype=np.float64) * TIMESTAMP_HOP_MILLISECONDS
    embeddings = np.zeros((len(sounds), count, model.timestamp_embedding_size), np.float32)
    for sound, rows in zip(sounds, embeddings, strict=True):
        blocks = waveform_blocks(sound, model.sample_rate, model.embedder.sample_rate_hz)
        stereo = np.concatenate(list(blocks))
        for first, segments in _around(stereo, moments / 1000, model.embedder):
            rows[first : first + len(segments)] = model.embedder.embed_segments(segments)
    timestamps = np.tile(moments.astype(np.float32), (len(sounds), 1))
    return _like(audio, embeddings), _like(audio, timestamps)


def _around(
    stereo: NDArray[np.float32], moments_seconds: NDArray[np.float64], embedder: Embedder
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Batches of segments with the moments in their middles, and the number of the first in each batch.

    Each moment is rounded by itself, so that nothing drifts.
    """
    length, rate_hz = embedder.segment_samples, embedder.sample_rate_hz
    silence = np.zeros((length, stereo.shape[1]), np.float32)
    padded = np.concatenate([silence, stereo, silence])
    starts = np.round(moments_seconds * rate_hz).astype(np.int64) + length - length // 2
    for first in range(0, len(starts), BATCH_SEGMENTS):
        cut = [padded[start : start + length] for start in starts[first : first + BATCH_SEGMENTS]]
        yield first, np.stack(cut)


def _array(audio: Any) -> NDArray[np.float32]:
    """A tensor of any library as float32 [sounds, samples]."""
    for step in ("detach", "cpu", "numpy"):  # PyTorch needs all three, TensorFlow the last
        audio = getattr(audio, step, lambda same=audio: same)()
    array = np.asarray(audio)
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"audio: has shape {list(array.shape)} and type {array.dtype}; give floats [sounds, samples], at "
            "least one of each"
        )
    return array.astype(np.float32, copy=False)


def _like(audio: Any, values: NDArray[np.float32]) -> Any:
    """Values as a tensor of the library that `audio` comes from; PyTorch is used where the caller does."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(audio, torch.Tensor):
        return torch.from_numpy(values).to(audio.device)
    return values if isinstance(audio, np.ndarray) else tf.constant(values)
