"""Audio of any container, by ffmpeg's libraries in PyAV: what libsndfile does not read, or not to its end.

Files are handed over open, without a name, and only containers of this list are tried: a playlist or a
description of a stream could make ffmpeg read other files, or the network.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.decoders.mpeg import tag_length
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
    "mlp": (".mlp",),
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
#: Their frames lie side by side: other bytes are damage.
_SELF_FRAMED = frozenset({"aac", "loas"})
#: Their frames are counted in a table, so that there are no more of them.
_COUNT_RIGHT = frozenset({"ape", "shn", "tak", "tta"})
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_HEAD_BYTES = 1 << 16
_BLOCK_FRAMES = 1 << 16
_TOLERATED_LOSS = 0.01
#: What decoders need to begin and to end, and times are rounded to.
_EDGE_SECONDS = 0.1
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


def containers() -> frozenset[str]:
    """Names of the containers that PyAV knows, as ffmpeg has them; none where it cannot be imported."""
    if not is_there():
        return frozenset()
    import av

    return frozenset(av.formats_available)


def look(path: Path) -> Sound:
    """Read the header of a file.

    Raises:
        DataError: Where ffmpeg finds no sound in it; the line does not name the file.
    """
    with path.open("rb") as file, _opened(file) as (_, stream):
        return _sound(stream)


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
                time_base = time_base or packet.time_base
        seconds = float(ticks * time_base) if ticks else (container.duration or 0) / 1e6
        return round(seconds * int(stream.rate))


def blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Decode a file to its end.

    Yields:
        float32 [frames, channels]; 65,536 frames or more where as many are left.

    Raises:
        DataError: Where the file is broken, or ends before its header says; the line does not name the file.
    """
    import av

    held = av.AudioFifo()  # to take each frame by itself takes as long as decoding
    try:
        for frame in _frames(path):
            frame.pts = None  # holes are told at the end
            try:
                held.write(frame)
            except ValueError:  # its samples are of another type than those before
                yield _samples(held.read())
                held = av.AudioFifo()
                held.write(frame)
            if held.samples >= _BLOCK_FRAMES:
                yield _samples(held.read())
    except DataError:
        if held.samples:  # who wants no more than that is not told what comes after
            yield _samples(held.read())
        raise
    if held.samples:
        yield _samples(held.read())


def _frames(path: Path) -> Iterator[Any]:
    """Each of the decoder's frames."""
    from av.error import FFmpegError

    with path.open("rb") as file, _opened(file) as (container, stream):
        sound, tally, decode = _sound(stream), _Tally(), _decoder(stream)
        packets, ours = container.demux(), stream.index
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                raise DataError(f"broken after {tally.frames} frames ({_reason(error)})") from error
            if packet is None:
                break
            index = packet.stream.index
            tally.see(packet, index, index == ours)
            if index != ours:
                continue
            try:
                frames = decode(packet)
            except FFmpegError:
                tally.failed_bytes += packet.size
                continue
            except ValueError as error:  # PyAV's own, where ffmpeg has no decoder for the stream
                raise DataError("ffmpeg cannot decode it; its header may be false") from error
            for frame in frames:
                rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
                if (rate_hz, channels) != (sound.sample_rate_hz, sound.channels):
                    raise DataError(
                        f"changes from {sound.sample_rate_hz} Hz and {sound.channels} channels to "
                        f"{rate_hz} Hz and {channels}; split or convert it"
                    )
                tally.frames += frame.samples
                yield frame
        size = path.stat().st_size
        file.seek(0)
        counted = _counted_bytes(sound.container, file.read(_HEAD_BYTES))
        if size < counted * (1 - _TOLERATED_LOSS):
            raise DataError(f"ends after {size} of {counted} bytes; copy or convert it again")
        if sound.container in _SELF_FRAMED:
            file.seek(0)
            tally.failed_bytes += max(0, size - tag_length(file.read(16), 0) - tally.bytes)
        says_duration = sound.container in _SAY_DURATION and (sound.container != "asf" or counted > 0)
        tally.check(sound, container, says_duration)


def _decoder(stream: Any) -> Callable[[Any], list[Any]]:
    """A function from the packets of a stream to frames.

    ffmpeg's own decoder of Opus is wrong by up to .16 of full scale where a stream changes from one mode to
    another, as those of speech and of low rates do; libopus is the codec's authors'.
    """
    import av

    if stream.codec_context.name != "opus" or "libopus" not in av.codecs_available:
        return lambda packet: packet.decode()  # type: ignore[no-any-return]
    context = av.CodecContext.create("libopus", "r")
    for name in ("extradata", "sample_rate", "layout"):
        setattr(context, name, getattr(stream.codec_context, name))
    context.options = {"request_sample_fmt": "flt"}
    decode: Callable[[Any], list[Any]] = context.decode  # type: ignore[attr-defined]
    return decode


class _Tally:
    """What came of a file's packets.

    Attributes:
        frames: Samples a channel that were decoded.
        bytes: Of the packets.
        failed_bytes: Of those that could not be decoded.
    """

    def __init__(self) -> None:
        self.frames, self.bytes, self.failed_bytes = 0, 0, 0
        self._first_seconds, self._last_seconds = math.inf, -math.inf
        self._end_seconds = 0.0  # of all streams: sound may end before a film does
        self._tick_seconds: dict[int, float] = {}  # of each stream

    def see(self, packet: Any, stream: int, ours: bool) -> None:
        """Count a packet in."""
        if ours:
            self.bytes += packet.size
        if (time := packet.pts) is None:
            return
        if not (tick_seconds := self._tick_seconds.get(stream, 0.0)):
            tick_seconds = self._tick_seconds[stream] = float(packet.time_base or 0)
            if not tick_seconds:
                return
        begin = time * tick_seconds
        end = begin + (packet.duration or 0) * tick_seconds
        self._end_seconds = max(self._end_seconds, end)
        if ours:
            self._first_seconds = min(self._first_seconds, begin)
            self._last_seconds = max(self._last_seconds, end)

    def check(self, sound: Sound, container: Any, says_duration: bool) -> None:
        """Raise DataError where more than a hundredth is missing."""
        if not self.frames:
            raise DataError("holds no samples that can be decoded")
        if sound.container != "mp3" and self.failed_bytes > _TOLERATED_LOSS * self.bytes:  # tags fail there
            raise DataError(
                f"damaged: {self.failed_bytes} of {self.bytes} bytes cannot be decoded; copy it again"
            )
        if not says_duration:
            return
        seconds = self.frames / sound.sample_rate_hz
        spanned = self._last_seconds - self._first_seconds
        if seconds < (1 - _TOLERATED_LOSS) * spanned - _EDGE_SECONDS:
            raise DataError(f"{spanned - seconds:.3f} of {spanned:.3f} s are missing within; copy it again")
        promised = (container.duration or 0) / 1e6
        end = max(self._end_seconds - max(0, container.start_time or 0) / 1e6, seconds)
        if end < (1 - _TOLERATED_LOSS) * promised - _EDGE_SECONDS:
            raise DataError(f"ends after {end:.3f} of {promised:.3f} s; copy or convert it again")
        if sound.container in _COUNT_RIGHT and seconds > promised * (1 + _TOLERATED_LOSS) + _EDGE_SECONDS:
            raise DataError(f"damaged: gives {seconds:.3f} s where {promised:.3f} are; copy it again")


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """A container and its main stream of sound."""
    import av
    from av.error import FFmpegError

    try:
        # Options of streams too would be freed more often than made where a header names no streams (PyAV).
        container = av.open(_Nameless(file), "r", container_options=_OPTIONS)
    except (FFmpegError, ValueError) as error:
        raise DataError(_reason(error)) from error
    with container:
        streams = container.streams.audio
        if not streams:
            raise DataError("has no sound")
        best = container.streams.best("audio") or streams[0]
        if best.codec_context is None:
            raise DataError("its coding is not known")
        best.codec_context.thread_count = 1
        yield container, best


def _sound(stream: Any) -> Sound:
    context = stream.codec_context
    names = tuple(channel.name for channel in context.layout.channels)
    if not names or not stream.rate:
        raise DataError("does not say its rate or channels")
    container = stream.container.format.name
    return Sound(int(stream.rate), len(names), names, container, context.name)


def _samples(frame: Any) -> NDArray[np.float32]:
    """Float32 [frames, channels] of a frame of any sample type."""
    array = frame.to_ndarray()
    if frame.format.is_planar:
        return to_float(np.stack(array, axis=1))  # five times as fast as a copy of the transpose
    return to_float(array.reshape(-1, frame.layout.nb_channels))


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Integers of any size to full scale 1."""
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)


def _counted_bytes(container: str, head: bytes) -> int:
    """Bytes that the header of a file counts, or 0, where ffmpeg guesses the length if that is false."""
    if container == "avi":
        return int.from_bytes(head[4:8], "little") + 8
    if container != "asf":
        return 0
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or len(head) < place + 92 or head[place + 88] & 1:  # written while it was sent
        return 0
    return int.from_bytes(head[place + 40 : place + 48], "little")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:200].rstrip(".")


class _Nameless:
    """An open file whose name ffmpeg does not see."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell, self._file = file.read, file.tell, file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there, or say -1, as C does, where a false header points before the file."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1
