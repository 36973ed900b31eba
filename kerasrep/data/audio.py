"""Audio files become float32 stereo at one rate, or one line that says why not.

libsndfile (through soundfile) opens every file first. No header's count of samples is believed alone:
`decoders` looks at how the file is built. What libsndfile does not read, or not to its end, is decoded by
ffmpeg's libraries (PyAV). tensorflow-io's decoders are the alternative, but they trust the file: a false size
in a header can abort the process or never return, so they see only files that libsndfile has read from end to
end, and of WAV the samples alone. Rates are converted by soxr ("HQ").
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data import notices
from kerasrep.data.decoders import downmix, ffmpeg
from kerasrep.data.decoders.chunks import SAMPLE_BYTES, WHOLE_FRACTION
from kerasrep.data.decoders.plan import AudioHeader, Plan, check_content, make_plan, open_soundfile
from kerasrep.errors import DataError, RunError
from kerasrep.runtime.extras import require

if TYPE_CHECKING:
    import soundfile

#: Raised whenever some file gives other samples than before; caches of embeddings and shards depend on it.
DECODING_VERSION = 5
#: Shorter ones cost threads more: they take turns at the interpreter several times a block.
BLOCK_FRAMES = 1 << 18
#: Samples of all channels in a block; a file of many channels is read in shorter blocks.
BLOCK_SAMPLES = 1 << 19
#: Full scale is 1. Mixes of float samples may be some decibels louder; more is integers written as floats.
MAX_SAMPLE = 8.0
#: Where less of the power of more than two channels is left, people are told.
_CANCELLED = 0.01
#: Of a file that is decoded by ffmpeg, decoders leave out this much at both ends.
_EDGE_FRAMES = 4_096
#: (format, subtype) that tensorflow-io decodes, and the integer or float type it wants to give.
_TENSORFLOW_IO_DTYPES = {
    ("WAV", "PCM_U8"): "uint8",
    ("WAV", "PCM_16"): "int16",
    ("WAV", "PCM_24"): "int32",
    ("WAV", "FLOAT"): "float32",
    ("FLAC", "PCM_S8"): "uint8",
    ("FLAC", "PCM_16"): "int16",
    ("FLAC", "PCM_24"): "int32",
    ("OGG", "VORBIS"): "float32",
    ("MP3", "MPEG_LAYER_III"): "float32",
}


def read_header(path: Path) -> AudioHeader:
    """Read what an audio file holds, without decoding it.

    Raises:
        DataError: Where `path` is no readable regular file, no audio, holds no samples, or claims a length
            that cannot be.
    """
    return make_plan(path).header


def decode(
    path: Path,
    sample_rate_hz: int,
    decoder: str = "soundfile",
    max_seconds: float | None = None,
) -> NDArray[np.float32]:
    """Decode a file and convert it to `sample_rate_hz`.

    Mono is doubled; more than two channels are mixed by where their loudspeakers stand. Files of float
    samples that go beyond full scale are clipped, as they are in shards. Memory is that of the result
    (`max_seconds` bounds it) and, with tensorflow-io, of the decoded file.

    Args:
        path: The audio file.
        sample_rate_hz: Rate of the result.
        decoder: `soundfile` (libsndfile, and ffmpeg's libraries for what it does not read), or
            `tensorflow-io`.
        max_seconds: Only this much is taken, from the beginning.

    Returns:
        float32 [samples, 2], nominally within [-1, 1].

    Raises:
        DataError: Where the file is broken, ends early, or has samples that are no numbers or whose full
            scale is not 1.
    """
    return np.concatenate(list(decode_blocks(path, sample_rate_hz, decoder, max_seconds)))


def decode_blocks(
    path: Path,
    sample_rate_hz: int,
    decoder: str = "soundfile",
    max_seconds: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Decode a file as `decode` does, in bounded memory.

    Args and errors are those of `decode`; a fault may only show after some blocks.

    Yields:
        float32 [samples, 2], at least one block; blocks may be empty.
    """
    plan = make_plan(path)
    header = plan.header
    limit = None if max_seconds is None else round(max_seconds * header.sample_rate_hz)
    if limit is None or limit >= header.frames:
        limit = None
        check_content(path, header, plan.content)
    if decoder == "tensorflow-io":
        blocks = _tensorflow_io_blocks(path, plan, header.frames if limit is None else limit)
    elif plan.by_ffmpeg:
        blocks = _ffmpeg_blocks(path, plan, limit)
    else:
        blocks = _soundfile_blocks(path, plan, limit)
    yield np.zeros((0, constants.N_CHANNELS), np.float32)
    converted = convert_blocks(str(path), blocks, header.sample_rate_hz, sample_rate_hz, plan.names)
    yield from _clipped(path, converted) if _is_float(header) else converted


def convert_blocks(
    name: str,
    blocks: Iterable[NDArray[np.float32]],
    from_hz: float,
    to_hz: float,
    channel_names: Sequence[str] = (),
) -> Iterator[NDArray[np.float32]]:
    """Make consecutive blocks of one recording stereo and convert their rate.

    Args:
        name: Of the recording, for errors.
        blocks: [samples, channels]; one channel is doubled, more than two are mixed (`downmix.to_stereo`).
        from_hz: Rate of `blocks`.
        to_hz: Rate of the result.
        channel_names: Where the loudspeakers of more than two channels stand, as ffmpeg has it.

    Yields:
        float32 [samples, 2]; blocks may be empty.

    Raises:
        DataError: At a block with NaN or infinite samples, or whose full scale is not 1.
    """
    import soxr

    resampler: soxr.ResampleStream | None = None
    power = mixed_power = 0.0
    for block in blocks:
        mixed = block
        if block.shape[1] > constants.N_CHANNELS:
            mixed = downmix.to_stereo(block, channel_names)
            power += float(np.vdot(block, block))
            mixed_power += float(np.vdot(mixed, mixed))
        if resampler is None and from_hz != to_hz:
            resampler = soxr.ResampleStream(from_hz, to_hz, mixed.shape[1], dtype="float32", quality="HQ")
        mixed = np.ascontiguousarray(mixed)
        yield _to_stereo(name, mixed if resampler is None else resampler.resample_chunk(mixed))
    if mixed_power < _CANCELLED * power:
        notices.add(name, "its channels cancel each other where they are mixed to two")
    if resampler is not None:
        rest = np.zeros((0, mixed.shape[1]), np.float32)
        yield _to_stereo(name, resampler.resample_chunk(rest, last=True))


def _is_float(header: AudioHeader) -> bool:
    return header.subtype in {"FLOAT", "DOUBLE"} or header.subtype.startswith(("pcm_f32", "pcm_f64"))


def _clipped(path: Path, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Blocks within full scale, as shards keep them."""
    n_clipped = 0
    for block in blocks:
        n_clipped += int(np.count_nonzero(np.abs(block) > 1))
        yield np.clip(block, -1, 1)
    if n_clipped:
        notices.add(path, f"{n_clipped} samples are beyond full scale and clipped")


class _Samples(io.RawIOBase):
    """The samples of a file without what stands before them."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start
        self.seek(0)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


@contextlib.contextmanager
def _opened(path: Path, plan: Plan) -> Iterator[soundfile.SoundFile]:
    """The file as libsndfile reads all of it."""
    import soundfile

    header, content = plan.header, plan.content
    if content.libsndfile:
        sound = open_soundfile(path)
        if sound is None:
            raise DataError(f"{path}: changed while it was read; try again")
        with sound:
            yield sound
        return
    assert content.start_byte is not None
    endian = "BIG" if content.big_endian else "LITTLE"
    about = {"samplerate": header.sample_rate_hz, "channels": header.channels, "subtype": header.subtype}
    with (
        path.open("rb") as file,
        _Samples(file, content.start_byte) as samples,
        soundfile.SoundFile(samples, format="RAW", endian=endian, **about) as sound,
    ):
        yield sound


def _soundfile_blocks(path: Path, plan: Plan, limit: int | None) -> Iterator[NDArray[np.float32]]:
    """Yield float32 [frames, channels], up to `limit` frames; DataError where the file ends early."""
    import soundfile

    taken, frames = 0, plan.header.frames if limit is None else limit
    with _opened(path, plan) as file:
        # What libsndfile counts may be a little more: its estimate, and the file ends where it ends.
        end = limit if limit is not None else max(frames, file.frames) if plan.content.libsndfile else frames
        most = min(BLOCK_FRAMES, max(1, BLOCK_SAMPLES // file.channels))
        while taken < end:
            try:
                block = file.read(min(most, end - taken), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                reason = error.error_string.rstrip(".")
                raise DataError(f"{path}: broken after {taken} of {frames} frames ({reason})") from error
            if not len(block):
                break
            taken += len(block)
            yield block
    if taken < frames * WHOLE_FRACTION:
        raise DataError(f"{path}: ends after {taken} of {frames} frames; copy or convert it again")


def _ffmpeg_blocks(path: Path, plan: Plan, limit: int | None) -> Iterator[NDArray[np.float32]]:
    """As `_soundfile_blocks`, by ffmpeg's libraries."""
    taken, counted = 0, plan.content.frames
    try:
        for block in ffmpeg.blocks(path):
            if plan.content.lost:  # decoders burst behind a hole
                np.clip(block, -1, 1, out=block)
            if limit is not None and taken + len(block) >= limit:
                yield block[: limit - taken]
                return
            taken += len(block)
            yield block
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    least = (counted or 0) * WHOLE_FRACTION - _EDGE_FRAMES if limit is None else 0
    if taken < least:
        raise DataError(f"{path}: ends after {taken} of {counted} frames; copy or convert it again")


def _to_stereo(name: str, block: NDArray[np.float32]) -> NDArray[np.float32]:
    """[frames, 1 or 2] -> [frames, 2]; refuse what cannot be sound."""
    peak = np.maximum(block.max(initial=0), -block.min(initial=0))  # without a copy; NaN stays NaN
    if not np.isfinite(peak):
        raise DataError(f"{name}: has NaN or infinite samples; clean or convert it first")
    if peak > MAX_SAMPLE:
        raise DataError(
            f"{name}: has samples of {peak:.0e}, where full scale is 1; divide it by its full scale (32768 "
            "for what was int16), or convert it first"
        )
    return block if block.shape[1] == constants.N_CHANNELS else np.repeat(block, constants.N_CHANNELS, axis=1)


def _tensorflow_io_blocks(path: Path, plan: Plan, limit: int) -> Iterator[NDArray[np.float32]]:
    """The file decoded by tensorflow-io, as `_soundfile_blocks` gives it."""
    require_decoder("tensorflow-io")
    header = plan.header
    dtype = _TENSORFLOW_IO_DTYPES.get((header.format, header.subtype))
    if dtype is None or plan.by_ffmpeg or not plan.content.libsndfile or plan.content.big_endian:
        raise DataError(
            f"{path}: tensorflow-io does not decode {header.format} {header.subtype}"
            f"{' of such a header' if dtype else ''}; set audio.decoder to soundfile"
        )
    # A false frame count makes the FLAC decoder spin, so libsndfile reads the whole file first.
    frames = sum(len(block) for block in _soundfile_blocks(path, plan, None))
    if frames != header.frames:
        raise DataError(f"{path}: header claims {header.frames} frames, the file has {frames}")
    samples = _decode_tensorflow_io(path, plan, dtype)
    if samples.shape != (header.frames, header.channels):
        raise DataError(
            f"{path}: tensorflow-io gives {list(samples.shape)}, libsndfile "
            f"{[header.frames, header.channels]}; set audio.decoder to soundfile"
        )
    for start in range(0, limit, BLOCK_FRAMES):
        yield ffmpeg.to_float(samples[start : min(start + BLOCK_FRAMES, limit)])


def require_decoder(decoder: str) -> None:
    """Say what to install, before any work, where a decoder is missing.

    Args:
        decoder: `soundfile`, or `tensorflow-io`.

    Raises:
        RunError: Where tensorflow-io is not installed, or beside a TensorFlow that it does not load with.
    """
    if decoder != "tensorflow-io":
        return
    require("io", ("tensorflow_io",), "audio.decoder: tensorflow-io")
    version = metadata.version("tensorflow")
    if not version.startswith("2.17."):
        raise RunError(
            f"audio.decoder: tensorflow-io: needs TensorFlow 2.17, here is {version}; "
            "python -m pip install 'kerasrep[io]', or set it to soundfile"
        )


def _decode_tensorflow_io(path: Path, plan: Plan, dtype: str) -> NDArray[Any]:
    """[frames, channels] in the type of the coding."""
    import tensorflow as tf
    import tensorflow_io as tfio

    try:
        with tf.device("/cpu:0"):
            container = plan.header.format
            content = _plain_wav(path, plan) if container == "WAV" else tf.io.read_file(str(path))
            if container == "WAV":
                decoded = tfio.audio.decode_wav(content, dtype=tf.as_dtype(dtype))
            elif container == "FLAC":
                decoded = tfio.audio.decode_flac(content, dtype=tf.as_dtype(dtype))
            elif container == "OGG":
                decoded = tfio.audio.decode_vorbis(content)
            else:
                decoded = tfio.audio.decode_mp3(content)
    except tf.errors.OpError as error:
        reason = " ".join(error.message.split())[:200]
        advice = "set audio.decoder to soundfile"
        raise DataError(f"{path}: tensorflow-io cannot decode it ({reason}); {advice}") from error
    samples: NDArray[Any] = decoded.numpy()
    return samples


def _plain_wav(path: Path, plan: Plan) -> bytes:
    """A WAV file's samples behind a header of our own: tensorflow-io's decoder dies of some others."""
    header, width = plan.header, SAMPLE_BYTES[plan.header.subtype]
    assert plan.content.start_byte is not None
    with path.open("rb") as file:
        file.seek(plan.content.start_byte)
        samples = file.read(header.frames * header.channels * width)
    align = header.channels * width
    rate_hz, tag = header.sample_rate_hz, 3 if header.subtype == "FLOAT" else 1
    form = struct.pack("<IHHIIHH", 16, tag, header.channels, rate_hz, rate_hz * align, align, 8 * width)
    size = struct.pack("<I", len(samples))
    riff = struct.pack("<I", len(form) + len(samples) + 16)
    return b"RIFF" + riff + b"WAVEfmt " + form + b"data" + size + samples
