"""Audio of any container, by ffmpeg's libraries in PyAV: what libsndfile does not read, or not to its end.

Files are handed over open, without a name, and only containers of this list are tried: a playlist or a
description of a stream could make ffmpeg read other files, or the network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError

#: ffmpeg's names of containers -> suffixes that they have.
CONTAINERS: dict[str, tuple[str, ...]] = {
    "aac": (".aac", ".adts"),
    "ac3": (".ac3",),
    "aiff": (".aif", ".aifc", ".aiff"),
    "amr": (".amr",),
    "ape": (".ape",),
    "asf": (".wma", ".asf", ".wmv"),
    "au": (".au",),
    "avi": (".avi",),
    "caf": (".caf",),
    "dsf": (".dsf",),
    "dts": (".dts",),
    "eac3": (".eac3", ".ec3"),
    "flac": (".flac",),
    "flv": (".flv",),
    "gsm": (".gsm",),
    "iff": (".8svx",),
    "loas": (".latm", ".loas"),
    "matroska,webm": (".mka", ".mkv", ".weba", ".webm"),
    "mov,mp4,m4a,3gp,3g2,mj2": (".3gp", ".3g2", ".alac", ".m4a", ".m4b", ".m4r", ".m4v", ".mov", ".mp4"),
    "mp3": (".mp1", ".mp2", ".mp3", ".mpga"),
    "mpc": (".mpc",),
    "mpc8": (".mpc",),
    "mpeg": (".mpeg", ".mpg", ".vob"),
    "mpegts": (".m2ts", ".mts"),
    "nistsphere": (".nist", ".sph"),
    "ogg": (".oga", ".ogg", ".ogv", ".ogx", ".opus", ".spx"),
    "oma": (".oma",),
    "rm": (".ra", ".rm"),
    "shn": (".shn",),
    "tak": (".tak",),
    "truehd": (".thd",),
    "tta": (".tta",),
    "voc": (".voc",),
    "w64": (".w64",),
    "wav": (".wav", ".wave"),
    "wv": (".wv",),
}
#: Their headers, and not a guess by size and bit rate, say how long they are.
_SAY_DURATION = frozenset(
    {"ape", "asf", "avi", "dsf", "iff", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "shn", "tta", "wv", "tak"}
)
#: What to do where PyAV cannot be imported.
MISSING = "PyAV, which reads other formats, cannot be imported: pip install av"
_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": ""}


@dataclass(frozen=True)
class Sound:
    """What a file has of sound, before it is decoded.

    Attributes:
        sample_rate_hz: Of the file.
        channels: 1 or more.
        names: Of the channels as ffmpeg has them, such as FL; `NONE` where the file does not say.
        container: ffmpeg's name.
        codec: ffmpeg's name.
    """

    sample_rate_hz: int
    channels: int
    names: tuple[str, ...]
    container: str
    codec: str


def is_there() -> bool:
    """Whether PyAV can be imported."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def look(path: Path) -> Sound:
    """Read the header of a file.

    Raises:
        DataError: Where ffmpeg finds no sound in it; the line does not name the file.
    """
    with path.open("rb") as file, _opened(file) as (_, stream):
        return _sound(file, stream)


def count_frames(path: Path) -> int:
    """Samples a channel that a file's packets hold, read to the end and not decoded.

    Raises:
        DataError: As `look`.
    """
    from av.error import FFmpegError

    with path.open("rb") as file, _opened(file) as (container, stream):
        ticks, time_base = 0, stream.time_base
        with contextlib.suppress(FFmpegError):  # decoding will say
            for packet in container.demux(stream):
                ticks += packet.duration or 0
                time_base = packet.time_base or time_base
        seconds = float(ticks * time_base) if ticks else (container.duration or 0) / 1e6
        return round(seconds * stream.rate)


def blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Decode a file to its end.

    Yields:
        float32 [frames, channels].

    Raises:
        DataError: Where the file is broken, or ends before its header says; the line does not name the file.
    """
    from av.error import FFmpegError

    with path.open("rb") as file, _opened(file) as (container, stream):
        sound = _sound(file, stream)
        taken, failed, reached = 0, 0, 0.0
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                raise DataError(f"broken after {taken} frames ({_reason(error)})") from error
            if packet is None:
                break
            if packet.pts is not None and packet.time_base:
                reached = max(reached, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            try:
                frames = packet.decode()
            except FFmpegError:
                failed += max(
                    1, round(float((packet.duration or 0) * packet.time_base) * sound.sample_rate_hz)
                )
                continue
            for frame in frames:
                if (frame.sample_rate, len(frame.layout.channels)) != (sound.sample_rate_hz, sound.channels):
                    raise DataError(
                        f"changes from {sound.sample_rate_hz} Hz and {sound.channels} channels to "
                        f"{frame.sample_rate} Hz and {len(frame.layout.channels)}; split or convert it"
                    )
                taken += frame.samples
                yield _samples(frame, sound.channels)
        _check_end(sound, container, taken, failed, reached)


def _check_end(sound: Sound, container: Any, taken: int, failed: int, reached: float) -> None:
    """Raise DataError where more than a hundredth is missing."""
    if not taken:
        raise DataError("holds no samples that can be decoded")
    if failed > 0.01 * (taken + failed):
        raise DataError(f"damaged: {failed} of {taken + failed} frames cannot be decoded; copy it again")
    start = max(0, container.start_time or 0)
    promised = (container.duration or 0) / 1e6
    reached = max(reached - start / 1e6, taken / sound.sample_rate_hz)
    if sound.container in _SAY_DURATION and reached < 0.99 * promised - 0.1:
        raise DataError(f"ends after {reached:.3f} of {promised:.3f} s; copy or convert it again")


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """A container and its main stream of sound."""
    import av
    from av.error import FFmpegError

    try:
        container = av.open(_Nameless(file), "r", options=_OPTIONS)
    except (FFmpegError, ValueError) as error:
        raise DataError(_reason(error)) from error
    with container:
        streams = container.streams.audio
        if not streams:
            raise DataError("has no sound")
        best = container.streams.best("audio") or streams[0]
        best.codec_context.thread_count = 1
        yield container, best


def _sound(file: BinaryIO, stream: Any) -> Sound:
    context = stream.codec_context
    names = tuple(channel.name for channel in context.layout.channels)
    if not names or not stream.rate:
        raise DataError("does not say its rate or channels")
    container = stream.container.format.name
    return Sound(int(stream.rate), len(names), names, container, context.name)


def _samples(frame: Any, channels: int) -> NDArray[np.float32]:
    """Float32 [frames, channels] of a frame of any sample type."""
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, channels)
    return to_float(np.ascontiguousarray(samples))


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Integers of any size to full scale 1."""
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:200].rstrip(".")


class _Nameless:
    """An open file whose name ffmpeg does not see."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
