"""Where samples lie in WAV, RF64, W64, AIFF, CAF and AU files, whose sizes are often none or stale."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from kerasrep.data.decoders.content import Content

#: A file that ends before this part of what its header promises is broken.
WHOLE_FRACTION = 0.99
#: Less behind the samples is no sound: junk, or the end of a chunk.
_JUNK_BYTES = 4096
#: Sizes that stand for "unknown" where a file was written into a pipe: ffmpeg's and others', then SoX's.
_STREAMED_SIZES = (range(0xFFFFFFF0, 1 << 32), range(0x7FFF0000, (1 << 31) + 1))
_UNKNOWN = -1
#: Tags that programs append without a chunk.
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
#: Chunks that stand behind the samples; a file of false sizes is searched for them from its end.
_TRAILERS = (
    b"LIST",
    b"id3 ",
    b"ID3 ",
    b"bext",
    b"_PMX",
    b"cue ",
    b"smpl",
    b"fact",
    b"PEAK",
    b"AFsp",
    b"ANNO",
)
_SEARCHED_BYTES = 1 << 20
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a"
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

#: Bytes of a sample that takes the same room everywhere.
SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}


class _Samples(NamedTuple):
    """Where samples begin, how many bytes the header says, their byte order, and how chunks are written."""

    start: int
    claimed: int
    big_endian: bool
    layout: _Layout


class _Layout(NamedTuple):
    """How chunks are written.

    Attributes:
        form: Of name and size.
        first_byte: Of the first chunk.
        names: Of the chunk of samples.
        inner_bytes: In front of the samples in that chunk.
        pad: Chunks begin at multiples of this.
        counts_itself: Whether sizes count name and size too.
    """

    form: struct.Struct
    first_byte: int
    names: tuple[bytes, ...]
    inner_bytes: int = 0
    pad: int = 2
    counts_itself: bool = False


_LAYOUTS = {
    b"RIFF": _Layout(struct.Struct("<4sI"), 12, (b"data",)),
    b"RIFX": _Layout(struct.Struct(">4sI"), 12, (b"data",)),
    b"RF64": _Layout(struct.Struct("<4sI"), 12, (b"data",)),
    b"BW64": _Layout(struct.Struct("<4sI"), 12, (b"data",)),
    b"FORM": _Layout(struct.Struct(">4sI"), 12, (b"SSND",), 8),
    b"caff": _Layout(struct.Struct(">4sq"), 8, (b"data",), 4, 1),
    b"riff": _Layout(struct.Struct("<16sq"), 40, (_W64_DATA,), 0, 8, counts_itself=True),
}


def content_of(file: BinaryIO, size: int, subtype: str | None, channels: int, claimed_frames: int) -> Content:
    """What a file holds whose samples lie in one piece.

    Args:
        file: Open at any place.
        size: Of the file, in bytes.
        subtype: libsndfile's name of the coding, or None where ffmpeg finds the end.
        channels: 1 or more.
        claimed_frames: Samples a channel that libsndfile would read.
    """
    samples = _find_samples(file, size)
    if samples is None:
        return Content()
    found = size - samples.start
    if found < samples.claimed * WHOLE_FRACTION:
        return Content(
            fault=f"ends after {found} of {samples.claimed} bytes of samples; copy or convert it again"
        )
    end, notice = samples.start + samples.claimed, ""
    if samples.claimed >= found or samples.claimed == _UNKNOWN:
        end = size
    elif (rest := _behind(file, end, size, samples.layout)) == "joined":
        return Content(fault="holds several files one after another; split or convert it")
    elif rest == "samples":
        end = _trailer(file, samples.start, size, samples.layout)
        there = end - samples.start
        notice = f"its header counts {samples.claimed} bytes of samples, and {there} are there and taken"
    frame_bytes = SAMPLE_BYTES.get(subtype or "", 0) * channels
    if not frame_bytes:  # coded, as ADPCM is
        right = end <= samples.start + samples.claimed or samples.claimed == _UNKNOWN
        if right or subtype is None:
            return Content()
        return Content(
            fault=f"header counts {samples.claimed} bytes of samples, there are {found}; convert it again"
        )
    frames = (end - samples.start) // frame_bytes
    enough = claimed_frames >= frames
    counted = None if enough else frames
    return Content(counted, enough, samples.start, samples.big_endian, notice=notice)


def _claim(size: int, inner_bytes: int = 0) -> int:
    """Bytes of samples that a size promises, or `_UNKNOWN`."""
    unknown = size < 0 or any(size in sizes for sizes in _STREAMED_SIZES)
    return _UNKNOWN if unknown else max(0, size - inner_bytes)


def _find_samples(file: BinaryIO, size: int) -> _Samples | None:
    file.seek(0)
    head = file.read(32)
    if head[:4] in {b".snd", b"dns."}:
        order = ">" if head[:4] == b".snd" else "<"
        start, length = struct.unpack(f"{order}2I", head[4:12].ljust(8, b"\0"))
        return _Samples(start, _claim(length), order == ">", _Layout(struct.Struct(">4sI"), 0, ()))
    layout = _LAYOUTS.get(head[:4])
    if layout is None or (head[:4] == b"riff" and head[:16] != _W64_RIFF):
        return None
    long_size, big_endian = None, head[:4] in {b"RIFX", b"FORM", b"caff"}
    for name, start, length in _chunks(file, layout.first_byte, size, layout):
        if name in layout.names:
            length_there = long_size if long_size is not None and length == 0xFFFFFFFF else length
            claimed = _claim(length_there, layout.inner_bytes)
            return _Samples(start + layout.inner_bytes, claimed, big_endian, layout)
        file.seek(start)
        if name == b"ds64":
            long_size = struct.unpack("<2q", file.read(16).ljust(16, b"\0"))[1]
        elif name == b"COMM" and head[8:12] == b"AIFC":
            big_endian = file.read(22)[18:22] not in {b"sowt", b"SOWT"}
        elif name == b"desc":
            big_endian = not int.from_bytes(file.read(16)[12:16], "big") & 2
    return None


def _chunks(file: BinaryIO, place: int, size: int, layout: _Layout) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of each chunk from a place on."""
    while place + layout.form.size <= size:
        file.seek(place)
        name, length = layout.form.unpack(file.read(layout.form.size))
        length -= layout.form.size if layout.counts_itself else 0
        start = place + layout.form.size
        yield name, start, length
        if length < 0:
            return
        place = start + length + -length % layout.pad


def _behind(file: BinaryIO, place: int, size: int, layout: _Layout) -> str:
    """What lies behind the samples as counted: "chunks", little "junk", "joined" or "samples"."""
    place += -(place - layout.first_byte) % layout.pad
    file.seek(place)
    head = file.read(16)
    if head[:4] in _LAYOUTS or head[:4] in {b".snd", b"dns."}:
        return "joined"
    if size - place < _JUNK_BYTES:
        return "junk"
    if head.startswith((*_TAGS, *_TRAILERS)):
        return "chunks"
    for name, start, length in _chunks(file, place, size, layout):
        if not name[:4].isascii() or not name[:4].decode().isprintable() or length < 0:
            return "samples"
        if size - (start + length) < _JUNK_BYTES:
            return "chunks" if start + length <= size + layout.pad else "samples"
    return "samples"


def _trailer(file: BinaryIO, start: int, size: int, layout: _Layout) -> int:
    """Where samples end that reach to chunks at the end of the file, or to its end."""
    begin = max(start, size - _SEARCHED_BYTES)
    file.seek(begin)
    tail = file.read(size - begin)
    for trailer in _TRAILERS if layout.names else ():
        place = tail.rfind(trailer)
        if place >= 0 and _reaches_end(file, begin + place, size, layout):
            return begin + place
    return size


def _reaches_end(file: BinaryIO, place: int, size: int, layout: _Layout) -> bool:
    return any(0 <= size - (first + length) <= 1 for _, first, length in _chunks(file, place, size, layout))
