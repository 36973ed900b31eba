"""A file is looked at before it is decoded: what it holds, and which library reads all of that."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kerasrep import constants
from kerasrep.data import notices
from kerasrep.data.decoders import chunks, downmix, ffmpeg, flac, mpeg, ogg
from kerasrep.data.decoders.chunks import WHOLE_FRACTION
from kerasrep.data.decoders.content import Bytes, Content
from kerasrep.errors import DataError
from kerasrep.storage import limits

if TYPE_CHECKING:
    import soundfile

MIN_RATE_HZ = 1_000
#: Damage that takes less of a file is a notice.
_TOLERATED_LOSS = 0.01
#: Files up to this size are read at once to look at them; larger ones are mapped into memory.
_MAPPED_BYTES = 64 << 20
#: A file that begins with so many zeros was never written: libsndfile would search all of it for MPEG frames.
_ZEROS_BYTES = 1 << 20
#: More than any count of samples; libsndfile gives about 2**63 where a header has none.
_NO_COUNT = 1 << 50


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


@dataclass(frozen=True)
class Plan:
    """How a file is read.

    Attributes:
        header: With the samples that are there.
        content: What the file holds.
        by_ffmpeg: Whether ffmpeg decodes it.
        names: Of more than two channels.
    """

    header: AudioHeader
    content: Content
    by_ffmpeg: bool
    names: tuple[str, ...] = ()


def make_plan(path: Path) -> Plan:
    """Look at a file, and choose what reads it."""
    _check_file(path)
    sound = open_soundfile(path)
    if sound is None:
        return _plan_ffmpeg(path)
    if sound.format == "VOC" and ffmpeg.is_there():  # libsndfile takes headers of its blocks for samples
        sound.close()
        return _plan_ffmpeg(path)
    with sound as file:
        header = AudioHeader(file.samplerate, file.frames, file.channels, file.format, file.subtype)
    content = _content(path, header)
    if content.frames is not None:
        header = replace(header, frames=content.frames)
    elif content.fault and header.frames >= _NO_COUNT:  # of a cut file, by libsndfile 1.2.0
        raise DataError(f"{path}: {content.fault}")
    by_ffmpeg = not content.libsndfile and content.start_byte is None
    names: tuple[str, ...] = ()
    if header.channels > constants.N_CHANNELS:
        names = _channel_names(path, header.channels)
        by_ffmpeg = by_ffmpeg or header.format == "OGG"  # whose order of channels is its own
    if by_ffmpeg:
        header = _as_ffmpeg(path, header, content)
    return Plan(_checked(path, header), content, by_ffmpeg, names)


def _plan_ffmpeg(path: Path) -> Plan:
    """For what libsndfile does not open."""
    if not ffmpeg.is_there():
        raise DataError(f"{path}: is no audio that libsndfile reads, and {ffmpeg.MISSING}")
    try:
        sound = ffmpeg.look(path)
        header = AudioHeader(sound.sample_rate_hz, -1, sound.channels, sound.container, sound.codec)
        content = _content(path, header)
        frames = ffmpeg.count_frames(path) if content.frames is None else content.frames
    except DataError as error:
        raise DataError(f"{path}: is no audio that libsndfile or ffmpeg reads ({error})") from error
    header = _checked(path, replace(header, frames=frames))
    return Plan(header, replace(content, libsndfile=False), True, sound.names)


def _as_ffmpeg(path: Path, header: AudioHeader, content: Content) -> AudioHeader:
    """With ffmpeg's rate: it decodes all Opus at 48 kHz."""
    if not ffmpeg.is_there():
        raise DataError(f"{path}: libsndfile does not read all of it, and {ffmpeg.MISSING}")
    try:
        sound = ffmpeg.look(path)
    except DataError as error:
        raise DataError(f"{path}: neither libsndfile nor ffmpeg reads all of it ({error})") from error
    frames = content.frames or round(header.seconds * sound.sample_rate_hz)
    return replace(header, sample_rate_hz=sound.sample_rate_hz, frames=frames)


def _channel_names(path: Path, channels: int) -> tuple[str, ...]:
    try:
        names = ffmpeg.look(path).names if ffmpeg.is_there() else ()
    except DataError:
        names = ()
    if len(names) != channels or not downmix.is_known(names):
        notices.add(path, f"does not say where its {channels} channels stand; each goes to both sides")
    return names


def _content(path: Path, header: AudioHeader) -> Content:
    """What the file holds, by how its container is built; -1 frames where ffmpeg alone opens it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if header.format in {"FLAC", "flac"}:
            claimed = header.frames if 0 < header.frames < _NO_COUNT else None
            return flac.content_of(_bytes(file, size), claimed)
        if header.format in {"OGG", "ogg"}:
            return ogg.content_of(_bytes(file, size))
        if header.format == "MP3":
            return mpeg.content_of(_bytes(file, size), header.frames)
        if header.frames < 0:
            return chunks.content_of(file, size, None, header.channels, 0)
        return chunks.content_of(file, size, header.subtype, header.channels, header.frames)


def _bytes(file: BinaryIO, size: int) -> Bytes:
    if size <= _MAPPED_BYTES:
        return file.read()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def check_content(path: Path, header: AudioHeader, content: Content) -> None:
    """Raise DataError where a whole file was asked for and too much of it is missing."""
    if content.fault:
        raise DataError(f"{path}: {content.fault}")
    if header.frames < content.promised * WHOLE_FRACTION:
        raise DataError(
            f"{path}: ends after {header.frames} of {content.promised} frames; copy or convert it again"
        )
    seconds = content.lost / header.sample_rate_hz
    if content.lost > _TOLERATED_LOSS * header.frames:
        raise DataError(f"{path}: {seconds:.3g} of {header.seconds:.3g} s are damaged; copy it again")
    if content.lost:
        notices.add(path, f"{seconds:.3g} of {header.seconds:.5g} s are damaged and left out")
    if content.notice:
        notices.add(path, content.notice)


def _check_file(path: Path) -> None:
    """Refuse anything but a regular file before it can block."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is not a regular file; remove it or point to an audio file")
        if status.st_size == 0:
            raise DataError(f"{path}: is empty; copy it again")
        with path.open("rb") as file:
            if status.st_size > _ZEROS_BYTES and not any(file.read(4)) and not any(file.read(_ZEROS_BYTES)):
                raise DataError(
                    f"{path}: begins with a megabyte of zeros, so it was never written; copy it again"
                )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error
    except ValueError as error:  # NUL in the name
        raise DataError(f"{path!s:.200}: is no file name ({error})".replace("\0", "\\0")) from error


def open_soundfile(path: Path) -> soundfile.SoundFile | None:
    """Open a file with libsndfile, where it can.

    Why it cannot is one variable of the process, which threads that open other files write to as well.
    """
    import soundfile

    try:
        sound = soundfile.SoundFile(os.fsencode(path))  # bytes, as names may be no UTF-8
    except soundfile.LibsndfileError:
        return None
    except TypeError as error:  # soundfile takes the extension .raw as headerless samples
        raise DataError(
            f"{path}: headerless samples have no rate; convert the file to WAV or FLAC"
        ) from error
    if sound.format == "RAW":  # what libsndfile makes of anything whose suffix is au or snd
        sound.close()
        return None
    # soundfile seeks after every read; an MP3 decoder then forgets what a frame has left for the next ones.
    sound.seekable = lambda: False  # type: ignore[method-assign]
    return sound


def _checked(path: Path, header: AudioHeader) -> AudioHeader:
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
