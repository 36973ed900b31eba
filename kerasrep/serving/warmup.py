"""Warm-up requests: what a server replays before a version takes traffic, so that no user waits for it.

TF Serving reads `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog` messages, and
refuses the version where one of them fails. So each is run here through the exported model first.

Their audio is real: what the model was validated on, or a tune that is played here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto

from kerasrep import constants
from kerasrep.data.shards import FULL_SCALE, load_index
from kerasrep.errors import DataError, ExportError
from kerasrep.serving.messages import message_class
from kerasrep.storage.export_directory import EMBED_TRACK, SERVING_DEFAULT
from kerasrep.storage.run_directory import PreparedDirectory, RunDirectory, read_json

#: Lengths of the tracks in the requests for `embed_track`, in segments: shorter than one, and broken.
TRACK_SEGMENTS = (0.5, 1.2)
#: Batches of the requests for `serving_default`.
BATCHES = (1, 2)
#: Of the audio of a request; silence follows, which takes no room in the file.
AUDIO_SECONDS = 0.5
RENDERED = "a scale on a plucked string, rendered at export (no training audio was at hand)"
VALIDATION = "validation tracks of the training corpus"
N_TRACKS = 2
NOTE_SECONDS = 0.3
#: G major, upwards; hertz.
SCALE_HZ = (196.0, 220.0, 246.94, 261.63, 293.66, 329.63, 369.99, 392.0)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        signature: Its name.
        inputs: Name -> array.
    """

    signature: str
    inputs: dict[str, NDArray[Any]]


def make_requests(audio: NDArray[np.float32], segment_samples: int) -> list[Request]:
    """A few requests for each signature.

    Args:
        audio: float32 [tracks, samples, 2], two tracks of one segment and a fifth at least; its first half
            second is used.
        segment_samples: Samples a channel in one segment.
    """
    audio = audio.copy()
    audio[:, int(AUDIO_SECONDS / constants.SEGMENT_SECONDS * segment_samples) :] = 0
    requests = []
    for batch in BATCHES:
        waveform = np.zeros((batch, segment_samples, constants.N_CHANNELS), np.float32)
        waveform[0] = audio[0, :segment_samples]
        requests.append(Request(SERVING_DEFAULT, {"waveform": waveform}))
    for number, segments in enumerate(TRACK_SEGMENTS):
        samples = int(segments * segment_samples)
        track = audio[number : number + 1, :samples]
        requests.append(
            Request(EMBED_TRACK, {"waveform": track, "length_samples": np.array([samples], np.int32)})
        )
    return requests


def samples_needed(segment_samples: int) -> int:
    """Samples a channel that each track of `make_requests` must have."""
    return max(segment_samples, *(int(n * segment_samples) for n in TRACK_SEGMENTS))


def write_requests(path: Path, model: str, requests: list[Request]) -> None:
    """Write requests as servers read them.

    Args:
        path: See `export_directory.warmup_path`.
        model: Name under which the model is served.
        requests: At least one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = message_class("PredictionLog")()
            message = log.predict_log.request
            message.model_spec.name = model
            message.model_spec.signature_name = request.signature
            for name, value in request.inputs.items():
                message.inputs[name].ParseFromString(_without_tail(value).SerializeToString())
            writer.write(log.SerializeToString())


def _without_tail(value: NDArray[Any]) -> Any:
    """A `TensorProto` without the values that repeat the last one: whoever reads it adds them."""
    flat = value.ravel()
    kept = np.flatnonzero(flat[:-1] != flat[-1])[-1:]
    if value.dtype != np.float32 or not kept.size:
        return tf.make_tensor_proto(value)
    shape = tf.TensorShape(value.shape).as_proto()
    return TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape, float_val=flat[: kept[0] + 2])


def read_requests(path: Path) -> Iterator[Request]:
    """Read requests back.

    Raises:
        ExportError: Where the file is damaged or holds anything else.
    """
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    except tf.errors.OpError as error:
        raise ExportError(f"{path}: is not a usable TFRecord file ({_short(error)})") from error
    for number, record in enumerate(records, start=1):
        log = message_class("PredictionLog")()
        try:
            log.ParseFromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise ValueError("no predict_log")
            message = log.predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in message.inputs.items()}
        # protobuf's DecodeError, and what NumPy says of tensors that are too short.
        except Exception as error:
            raise ExportError(f"{path}: record {number} is not a request ({_short(error)})") from error
        yield Request(message.model_spec.signature_name, inputs)


def replay(path: Path, signatures: Any) -> dict[str, int]:
    """Run all requests through a model.

    Args:
        path: Of the requests.
        signatures: Those of the loaded SavedModel.

    Returns:
        Signature -> number of requests.

    Raises:
        ExportError: Where a request fails or gives values that are not finite, or a signature has none.
    """
    counts = dict.fromkeys(signatures, 0)
    for number, request in enumerate(read_requests(path), start=1):
        where = f"{path.name}: request {number} for {request.signature}"
        if request.signature not in counts:
            raise ExportError(f"{where}: the model has no such signature")
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        try:
            outputs = signatures[request.signature](**inputs)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise ExportError(f"{where}: fails ({_short(error)})") from error
        if not all(np.isfinite(value.numpy()).all() for value in outputs.values()):
            raise ExportError(f"{where}: gives values that are not finite")
        counts[request.signature] += 1
    missing = [signature for signature, count in counts.items() if not count]
    if missing:
        raise ExportError(f"{path.name}: has no request for {', '.join(missing)}")
    return counts


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def warmup_audio(
    run: RunDirectory | None, samples: int, sample_rate_hz: int
) -> tuple[NDArray[np.float32], str]:
    """Two stretches of music.

    Args:
        run: Whose validation tracks are used where its shards are still there; `None` for a network that
            was trained elsewhere.
        samples: A channel.
        sample_rate_hz: Of the model.

    Returns:
        float32 [2, samples, 2], and where it is from.
    """
    found = None if run is None else _validation_audio(run, samples, sample_rate_hz)
    if found is not None:
        return found, VALIDATION
    scales = [plucked_scale(samples, sample_rate_hz, step) for step in range(N_TRACKS)]
    return np.stack(scales), RENDERED


def prepared_directory(run: RunDirectory) -> PreparedDirectory | None:
    """The shards and targets that a run was trained on; `None` where they are not there any more."""
    try:
        about = read_json(run.prepared)
        prepared = PreparedDirectory(Path(about["root"]))
    except (DataError, KeyError, TypeError):
        return None
    return prepared if prepared.manifest.is_file() else None


def _validation_audio(run: RunDirectory, samples: int, sample_rate_hz: int) -> NDArray[np.float32] | None:
    """The middle of the first validation tracks that are long enough."""
    prepared = prepared_directory(run)
    if prepared is None:
        return None
    try:
        index = load_index(prepared)
    except DataError:
        return None
    rows = [row for row in index.rows("validation").tolist() if index.samples[row] >= samples]
    if len(rows) < N_TRACKS or index.sample_rate_hz != sample_rate_hz:
        return None
    stretches = []
    for row in rows[:N_TRACKS]:
        start = (int(index.samples[row]) - samples) // 2
        stretches.append(index.read(row)[start : start + samples].astype(np.float32) / FULL_SCALE)
    found: NDArray[np.float32] = np.stack(stretches)
    return found


def plucked_scale(samples: int, sample_rate_hz: int, first: int = 0) -> NDArray[np.float32]:
    """Play a scale on a plucked string (Karplus, Strong 1983), softer on the right.

    Args:
        samples: A channel.
        sample_rate_hz: In hertz.
        first: Step of the scale to begin on.

    Returns:
        float32 [samples, 2], within [-0.5, 0.5].
    """
    rng = np.random.default_rng(first)
    note_samples = int(NOTE_SECONDS * sample_rate_hz)
    notes = []
    for number in range(-(-samples // note_samples)):
        period = max(2, round(sample_rate_hz / SCALE_HZ[(first + number) % len(SCALE_HZ)]))
        string = rng.uniform(-0.5, 0.5, period)
        rounds = []
        for _ in range(-(-note_samples // period)):
            rounds.append(string)
            string = 0.498 * (string + np.roll(string, 1))
        notes.append(np.concatenate(rounds)[:note_samples])
    mono = np.concatenate(notes)[:samples]
    stereo: NDArray[np.float32] = np.stack([mono, 0.7 * mono], axis=1).astype(np.float32)
    return stereo
