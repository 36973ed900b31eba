"""Audio files become float32 stereo at one rate, or one line that says why not.

libsndfile (through soundfile) opens every file first. tensorflow-io's decoders are the alternative, but
they trust the file: a false size in a header can abort the process or never return, so they see only
files that libsndfile has read from end to end. Rates are converted by soxr ("HQ").
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError, RunError
from kerasrep.runtime.extras import require
from kerasrep.storage import limits

if TYPE_CHECKING:
    import soundfile

BLOCK_FRAMES = 1 << 16
#: Samples of all channels in a block; a file of many channels is read in shorter blocks.
BLOCK_SAMPLES = 1 << 19
MIN_RATE_HZ = 1_000
#: Full scale is 1, or 2**31 where integers were written as floats; powers of more overflow in float32.
MAX_SAMPLE = 1e10
#: A file that ends before this part of what its header promises is broken.
WHOLE_FRACTION = 0.99

#: Format -> name of the chunk that holds its samples, and where the first chunk begins.
_SAMPLE_CHUNKS = {"WAV": "data", "WAVEX": "data", "AIFF": "SSND"}
_FIRST_CHUNK = 12  # after "RIFF" or the like, the size, and "WAVE" or the like
#: First four bytes of such files -> byte order of their chunks' sizes.
_BYTE_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}
#: Sizes that stand for "unknown" where a file was written into a pipe: ffmpeg's and others', then SoX's.
_STREAMED_SIZES = (range(1), range(0xFFFFFFF0, 1 << 32), range(0x7FFF0000, (1 << 31) + 1))

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


@dataclass(frozen=True)
class AudioHeader:
    """What a file says of itself.

    Attributes:
        sample_rate_hz: Of the file.
        frames: Samples a channel.
        channels: 1 or more.
        format: libsndfile's name of the container, such as `WAV`.
        subtype: libsndfile's name of the coding, such as `PCM_16`.
    """

    sample_rate_hz: int
    frames: int
    channels: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Length of the file."""
        return self.frames / self.sample_rate_hz


def read_header(path: Path) -> AudioHeader:
    """Read the header of an audio file, without decoding it.

    Raises:
        DataError: Where `path` is no readable regular file, no audio that libsndfile knows, holds no
            samples, or claims a length that cannot be.
    """
    with _open(path) as file:
        return _header(path, file)


def decode(
    path: Path,
    sample_rate_hz: int,
    decoder: str = "soundfile",
    max_seconds: float | None = None,
) -> NDArray[np.float32]:
    """Decode a file and convert it to `sample_rate_hz`.

    Mono is doubled; more than two channels are averaged to mono first. Memory is that of the result
    (`max_seconds` bounds it) and, with tensorflow-io, of the decoded file.

    Args:
        path: The audio file.
        sample_rate_hz: Rate of the result.
        decoder: `soundfile`, or `tensorflow-io`.
        max_seconds: Only this much is taken, from the beginning.

    Returns:
        float32 [samples, 2], nominally within [-1, 1].

    Raises:
        DataError: Where the file is broken, ends early, or has NaN or infinite samples.
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
    header = read_header(path)
    limit = header.frames
    if max_seconds is not None:
        limit = min(limit, round(max_seconds * header.sample_rate_hz))
    if decoder == "tensorflow-io":
        blocks = _tensorflow_io_blocks(path, header, limit)
    else:
        if limit == header.frames:
            _check_whole(path, header)
        blocks = _soundfile_blocks(path, limit)
    yield np.zeros((0, constants.N_CHANNELS), np.float32)
    yield from convert_blocks(str(path), blocks, header.sample_rate_hz, sample_rate_hz)


def convert_blocks(
    name: str, blocks: Iterable[NDArray[np.float32]], from_hz: float, to_hz: float
) -> Iterator[NDArray[np.float32]]:
    """Make consecutive blocks of one recording stereo and convert their rate.

    Args:
        name: Of the recording, for errors.
        blocks: [samples, channels]; one channel is doubled, more than two are averaged first.
        from_hz: Rate of `blocks`.
        to_hz: Rate of the result.

    Yields:
        float32 [samples, 2]; blocks may be empty.

    Raises:
        DataError: At a block with NaN or infinite samples.
    """
    import soxr

    resampler = (
        None
        if from_hz == to_hz
        else soxr.ResampleStream(from_hz, to_hz, constants.N_CHANNELS, dtype="float32", quality="HQ")
    )
    for block in blocks:
        stereo = _to_stereo(name, block)
        yield stereo if resampler is None else resampler.resample_chunk(stereo)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, constants.N_CHANNELS), np.float32), last=True)


def _open(path: Path) -> soundfile.SoundFile:
    """Open a regular file with libsndfile; anything else is refused before it can block."""
    import soundfile

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is not a regular file; remove it or point to an audio file")
        if status.st_size == 0:
            raise DataError(f"{path}: is empty; copy it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error
    except ValueError as error:  # NUL in the name
        raise DataError(f"{path!s:.200}: is no file name ({error})".replace("\0", "\\0")) from error
    try:
        return soundfile.SoundFile(os.fsencode(path))  # bytes, as names may be no UTF-8
    except soundfile.LibsndfileError as error:
        # libsndfile calls unreadable MP3 "not a regular file"; we know better by now.
        reason = "no MPEG frames found" if "regular file" in error.error_string else error.error_string
        raise DataError(f"{path}: is no audio that libsndfile reads ({reason.rstrip('.')})") from error
    except TypeError as error:  # soundfile takes the extension .raw as headerless samples
        raise DataError(
            f"{path}: headerless samples have no rate; convert the file to WAV or FLAC"
        ) from error


def _header(path: Path, file: soundfile.SoundFile) -> AudioHeader:
    if file.format == "RAW":  # what libsndfile makes of anything whose suffix is au or snd
        raise DataError(f"{path}: is no audio that libsndfile reads (Format not recognised)")
    header = AudioHeader(file.samplerate, file.frames, file.channels, file.format, file.subtype)
    if header.frames <= 0:
        raise DataError(f"{path}: holds no samples")
    rates, packing = limits.SAMPLE_RATE_HZ, limits.FRAMES_PER_BYTE
    if not MIN_RATE_HZ <= header.sample_rate_hz <= rates.value:
        advice = "convert the file again" if header.sample_rate_hz < MIN_RATE_HZ else rates.advice
        raise DataError(f"{path}: header claims a rate of {header.sample_rate_hz} Hz; {advice}")
    size = path.stat().st_size
    if header.frames > size * packing.value:  # more than any codec packs into a byte
        raise DataError(
            f"{path}: header claims {header.frames} frames in {size} bytes, or none; convert the file again, "
            f"or {packing.advice}"
        )
    return header


def _soundfile_blocks(path: Path, limit: int) -> Iterator[NDArray[np.float32]]:
    """Yield float32 [frames, channels] up to `limit` frames; raise DataError where the file ends early."""
    import soundfile

    taken = 0
    with _open(path) as file:
        most = min(BLOCK_FRAMES, max(1, BLOCK_SAMPLES // file.channels))
        while taken < limit:
            try:
                block = file.read(min(most, limit - taken), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                reason = error.error_string.rstrip(".")
                raise DataError(f"{path}: broken after {taken} of {limit} frames ({reason})") from error
            if not len(block):
                break
            taken += len(block)
            yield block
    if taken < limit * WHOLE_FRACTION:
        raise DataError(f"{path}: ends after {taken} of {limit} frames; copy or convert it again")


def _to_stereo(name: str, block: NDArray[np.float32]) -> NDArray[np.float32]:
    """[frames, channels] -> [frames, 2]."""
    peak = np.abs(block).max(initial=0)
    if not np.isfinite(peak):
        raise DataError(f"{name}: has NaN or infinite samples; clean or convert it first")
    if peak > MAX_SAMPLE:
        raise DataError(f"{name}: has samples of {peak:.0e}, where full scale is 1; convert it first")
    if block.shape[1] > constants.N_CHANNELS:
        block = block.mean(axis=1, keepdims=True, dtype=np.float32)
    if block.shape[1] == 1:
        block = np.repeat(block, constants.N_CHANNELS, axis=1)
    return np.ascontiguousarray(block)


def _tensorflow_io_blocks(path: Path, header: AudioHeader, limit: int) -> Iterator[NDArray[np.float32]]:
    """The file decoded by tensorflow-io, as `_soundfile_blocks` gives it."""
    require_decoder("tensorflow-io")
    dtype = _TENSORFLOW_IO_DTYPES.get((header.format, header.subtype))
    if dtype is None:
        raise DataError(
            f"{path}: tensorflow-io does not decode {header.format} {header.subtype}; "
            "set audio.decoder to soundfile"
        )
    if header.format == "WAV":
        _check_wav_size(path)
    # A false frame count makes the FLAC decoder spin, so libsndfile reads the whole file first.
    frames = sum(len(block) for block in _soundfile_blocks(path, header.frames))
    if frames != header.frames:
        raise DataError(f"{path}: header claims {header.frames} frames, the file has {frames}")
    samples = _decode_tensorflow_io(path, header.format, dtype)
    if samples.shape != (header.frames, header.channels):
        raise DataError(
            f"{path}: tensorflow-io gives {list(samples.shape)}, libsndfile "
            f"{[header.frames, header.channels]}; set audio.decoder to soundfile"
        )
    for start in range(0, limit, BLOCK_FRAMES):
        yield _to_float(samples[start : min(start + BLOCK_FRAMES, limit)])


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


def _decode_tensorflow_io(path: Path, container: str, dtype: str) -> NDArray[Any]:
    """[frames, channels] in the type of the coding."""
    import tensorflow as tf
    import tensorflow_io as tfio

    try:
        with tf.device("/cpu:0"):
            content = tf.io.read_file(str(path))
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
        raise DataError(f"{path}: tensorflow-io cannot decode it ({reason})") from error
    samples: NDArray[Any] = decoded.numpy()
    return samples


def _to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    if samples.dtype == np.float32:
        return samples
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)


def _check_whole(path: Path, header: AudioHeader) -> None:
    """Raise DataError where WAV or AIFF claims more samples than the file has: libsndfile shortens the claim.

    Sizes of streams say nothing, and where chunks are not found as libsndfile found them, it knows better.
    """
    wanted = _SAMPLE_CHUNKS.get(header.format)
    size = path.stat().st_size
    with path.open("rb") as file:
        byte_order = _BYTE_ORDERS.get(file.read(4))
        if wanted is None or byte_order is None:
            return
        file.seek(_FIRST_CHUNK)
        for name, start, length in _chunks(file, byte_order):
            if name != wanted:
                continue
            found = size - start
            if found < length * WHOLE_FRACTION and not any(length in sizes for sizes in _STREAMED_SIZES):
                raise DataError(
                    f"{path}: ends after {found} of {length} bytes of samples; copy or convert it again"
                )
            return


def _check_wav_size(path: Path) -> None:
    """Raise DataError where a chunk of a WAV file claims to reach beyond the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(_FIRST_CHUNK)
        for name, start, length in _chunks(file):
            if start + length > size:
                raise DataError(f"{path}: chunk '{name}' claims {length} bytes, the file ends before")
            if name == "data":
                return
    raise DataError(f"{path}: has no 'data' chunk")


def _chunks(file: BinaryIO, byte_order: str = "<") -> Iterator[tuple[str, int, int]]:
    """Name, first byte and length of each RIFF or IFF chunk from the file's position on."""
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(f"{byte_order}4sI", header)
        start = file.tell()
        yield name.decode("ascii", "replace"), start, length
        file.seek(start + length + length % 2)
