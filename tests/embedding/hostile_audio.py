"""A folder of files that are broken, strange or no audio at all, each with what must become of it.

python tests/embedding/hostile_audio.py FOLDER      # makes the folder and lists its contents
"""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 22_050
#: What must become of a file: embedded, told as bad, either (as libsndfile's version has it), passed over.
GOOD, BAD, EITHER, PASSED = "good", "bad", "either", "passed over"

Maker = Callable[[Path], None]
KINDS: list[tuple[str, str, Maker]] = []


def noise(seconds: float = 1.0, channels: int = 2, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    frames = max(1, int(seconds * rate_hz))
    return np.random.default_rng(seed).normal(0, 0.1, (frames, channels)).clip(-1, 1).astype(np.float32)


def encoded(form: str, subtype: str, samples: np.ndarray | None = None, rate_hz: int = RATE_HZ) -> bytes:
    """A whole file in memory."""
    file = io.BytesIO()
    samples = noise(rate_hz=rate_hz) if samples is None else samples
    with soundfile.SoundFile(file, "w", rate_hz, samples.shape[1], subtype, format=form) as sound:
        for start in range(0, len(samples), 4096):  # libsndfile's Vorbis writer has no stack for more
            sound.write(samples[start : start + 4096])
    return file.getvalue()


def wav(
    tag: int = 1,
    channels: int = 2,
    rate_hz: int = RATE_HZ,
    bits: int = 16,
    data: bytes = bytes(8000),
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
) -> bytes:
    """A WAV file of chosen fields, right or not."""
    align = channels * bits // 8
    fields = (tag, channels, rate_hz, (rate_hz * align) & 0xFFFFFFFF, align & 0xFFFF, bits)
    chunk = b"fmt " + struct.pack("<IHHIIHH", 16, *fields)
    body = (
        b"WAVE" + chunk + before + b"data" + struct.pack("<I", len(data) if data_size is None else data_size)
    )
    size = len(body) + len(data) if riff_size is None else riff_size
    return b"RIFF" + struct.pack("<I", size) + body + data


def float_wav(value: float, where: int = -1) -> bytes:
    samples = noise(1.0)
    samples[where] = value
    return encoded("WAV", "FLOAT", samples)


def kind(
    name: str, outcome: str, content: bytes | Callable[[], bytes] | Maker, special: bool = False
) -> None:
    """Register a file: its bytes, a function that gives them, or (`special`) one that makes the path."""
    if special:
        KINDS.append((name, outcome, content))  # type: ignore[arg-type]
        return

    def make(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content())  # type: ignore[operator]

    KINDS.append((name, outcome, make))


def cut(content: bytes, part: float) -> bytes:
    return content[: int(len(content) * part)]


def spoilt(content: bytes, where: float = 0.5, n_bytes: int = 300) -> bytes:
    start = int(len(content) * where)
    return content[:start] + random.Random(0).randbytes(n_bytes) + content[start + n_bytes :]


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


def mp3(**options: object) -> bytes:
    return encoded("MP3", "MPEG_LAYER_III", **options)  # type: ignore[arg-type]


def flac() -> bytes:
    return encoded("FLAC", "PCM_16")


def ogg(**options: object) -> bytes:
    return encoded("OGG", "VORBIS", **options)  # type: ignore[arg-type]


def false_flac_length() -> bytes:
    """STREAMINFO claims 2^36 - 1 samples."""
    content = bytearray(flac())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    return bytes(content)


def false_xing() -> bytes:
    """The count of frames in the first frame's Xing or Info header is 2^32 - 1."""
    content = bytearray(mp3(samples=noise(3.0)))
    place = max(content.find(b"Xing"), content.find(b"Info"))
    if place > 0:
        content[place + 8 : place + 12] = b"\xff\xff\xff\x7f"
    return bytes(content)


def false_id3() -> bytes:
    """A tag that claims 256 MB in front of the frames."""
    return b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + mp3()


def no_audio() -> None:
    text = b"This is a letter, not a sound.\n" * 40
    kind("text.wav", BAD, text)
    kind("text.mp3", BAD, text)
    kind("text.flac", BAD, text)
    kind("utf16.wav", BAD, "nothing to hear".encode("utf-16"))
    kind("page.mp3", BAD, b"<!doctype html><title>404</title>" * 30)
    kind("empty.wav", BAD, b"")
    kind("empty.mp3", BAD, b"")
    kind("one-byte.wav", BAD, b"R")
    kind("zeros.wav", BAD, bytes(4000))
    kind("zeros.mp3", BAD, bytes(4000))
    kind("zeros.flac", BAD, bytes(4000))
    kind("ones.ogg", BAD, b"\xff" * 4000)
    for suffix in ("wav", "flac", "ogg", "aiff", "au", "caf", "w64"):
        kind(f"random.{suffix}", BAD, random.Random(1).randbytes(5000))
    kind("random.mp3", EITHER, random.Random(1).randbytes(5000))  # something may look like frames
    kind("picture.wav", BAD, b"\x89PNG\r\n\x1a\n" + bytes(500))
    kind("midi.wav", BAD, b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00")

    def archive() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr("a.wav", wav())
        return file.getvalue()

    kind("archive.flac", BAD, archive)
    kind("packed.wav", BAD, lambda: gzip.compress(wav()))


def broken() -> None:
    kind("header-only.wav", BAD, wav(data=b""))
    kind("half-a-header.wav", BAD, wav()[:20])
    kind("cut.wav", BAD, lambda: cut(encoded("WAV", "PCM_16"), 0.5))
    kind("cut-extensible.wav", BAD, lambda: cut(encoded("WAVEX", "PCM_24"), 0.9))
    kind("cut-float.aiff", BAD, lambda: cut(encoded("AIFF", "FLOAT"), 0.9))
    kind("cut.flac", BAD, lambda: cut(flac(), 0.5))
    kind("cut.mp3", EITHER, lambda: cut(mp3(), 0.5))
    kind("cut.ogg", EITHER, lambda: cut(ogg(), 0.5))
    kind("cut.aiff", BAD, lambda: cut(encoded("AIFF", "PCM_16"), 0.5))
    kind("spoilt.flac", BAD, lambda: spoilt(flac()))
    kind("spoilt.mp3", EITHER, lambda: spoilt(mp3(samples=noise(3.0))))
    kind("spoilt.ogg", EITHER, lambda: spoilt(ogg(samples=noise(3.0))))
    kind("spoilt-head.flac", BAD, lambda: spoilt(flac(), 0.0, 60))
    kind("huge-data.wav", EITHER, wav(data_size=0xFFFFFFF0))
    kind("no-data-size.wav", EITHER, wav(data_size=0))
    kind("streamed-by-sox.wav", GOOD, wav(data_size=0x7FFFF000))
    kind("huge-riff.wav", EITHER, wav(riff_size=0xFFFFFFFF))
    kind("small-riff.wav", EITHER, wav(riff_size=4))
    kind("huge-chunk.wav", BAD, wav(before=b"LIST" + struct.pack("<I", 0xFFFFFFFE)))
    kind("many-channels.wav", BAD, wav(channels=65_535))
    kind("no-channels.wav", BAD, wav(channels=0))
    kind("no-rate.wav", BAD, wav(rate_hz=0))
    kind("highest-rate.wav", BAD, wav(rate_hz=0xFFFFFFFF))
    kind("one-hertz.wav", BAD, wav(rate_hz=1))
    kind("no-bits.wav", BAD, wav(bits=0))
    kind("odd-bits.wav", EITHER, wav(bits=13))
    kind("unknown-tag.wav", BAD, wav(tag=0x1234))
    kind("false-length.flac", BAD, false_flac_length)
    kind("false-frames.mp3", EITHER, false_xing)
    kind("false-id3.mp3", EITHER, false_id3)
    kind("garbage-first.mp3", EITHER, lambda: bytes(1500) + mp3())
    kind("two-rates.mp3", EITHER, lambda: mp3() + mp3(rate_hz=44_100))
    kind("two-streams.ogg", EITHER, lambda: ogg() + ogg())
    kind("nan.wav", BAD, lambda: float_wav(np.nan))
    kind("infinite.wav", BAD, lambda: float_wav(np.inf, 0))
    kind("enormous.wav", BAD, lambda: float_wav(1e30))
    kind("nan-at-once.wav", BAD, lambda: float_wav(np.nan, 0))


def strange_but_good() -> None:
    kind("one-sample.wav", GOOD, lambda: encoded("WAV", "PCM_16", noise(0)))
    kind("silence.wav", GOOD, lambda: encoded("WAV", "PCM_16", np.zeros((70_000, 2), np.float32)))
    kind("loud.wav", BAD, lambda: float_wav(30_000.0))
    kind("1khz.wav", GOOD, lambda: encoded("WAV", "PCM_16", rate_hz=1_000))
    kind("8khz.wav", GOOD, lambda: encoded("WAV", "PCM_16", rate_hz=8_000))
    kind("192khz.flac", GOOD, lambda: encoded("FLAC", "PCM_24", rate_hz=192_000))
    kind("odd-rate.wav", GOOD, lambda: encoded("WAV", "PCM_16", rate_hz=12_347))
    kind("mono.ogg", GOOD, lambda: ogg(samples=noise(channels=1)))
    kind("six-channels.wav", GOOD, lambda: encoded("WAV", "PCM_16", noise(channels=6)))
    kind("1024-channels.wav", GOOD, lambda: encoded("WAV", "PCM_16", noise(0.1, channels=1024)))
    for subtype in ("PCM_U8", "PCM_24", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"):
        kind(f"{subtype.lower()}.wav", GOOD, lambda subtype=subtype: encoded("WAV", subtype))
    kind("big-endian.aiff", GOOD, lambda: encoded("AIFF", "PCM_16"))
    kind("sun.au", GOOD, lambda: encoded("AU", "FLOAT"))
    kind("long.rf64", GOOD, lambda: encoded("RF64", "PCM_16"))
    kind("sony.w64", GOOD, lambda: encoded("W64", "PCM_16"))
    kind("apple.caf", GOOD, lambda: encoded("CAF", "PCM_16"))
    kind("mp3-inside.wav", GOOD, mp3)
    kind("wav-inside.mp3", GOOD, lambda: encoded("WAV", "PCM_16"))
    kind("flac-inside.ogg", GOOD, flac)
    kind("UPPER.WAV", GOOD, lambda: encoded("WAV", "PCM_16"))


def names_and_places() -> None:
    sound = encoded("WAV", "PCM_16")
    kind("two\nlines.wav", GOOD, sound)
    kind("tab\tand \x1b[31mred.wav", GOOD, sound)
    kind("\N{MUSICAL SYMBOL G CLEF}\N{SMILING FACE WITH SUNGLASSES}.wav", GOOD, sound)
    kind("e\N{COMBINING ACUTE ACCENT}\u202ereversed.wav", GOOD, sound)
    kind(os.fsdecode(b"latin-\xe9\xff.wav"), GOOD, sound)
    kind("-o.wav", GOOD, sound)
    kind("a,b;\"c\" 'd' $HOME *?.wav", GOOD, sound)
    kind("n" * 251 + ".wav", GOOD, sound)
    kind("bad\nname.wav", BAD, b"text")
    kind(os.fsdecode(b"bad-\xff.wav"), BAD, b"text")
    kind(".hidden.wav", PASSED, sound)
    kind("notes.txt", PASSED, b"notes")
    kind("sound.raw", PASSED, sound)

    def special(name: str, outcome: str, make: Maker) -> None:
        kind(name, outcome, make, special=True)

    special("folder.wav", BAD, lambda path: path.mkdir())
    special("pipe.wav", BAD, os.mkfifo)
    special("dangling.wav", BAD, lambda path: path.symlink_to("nowhere.wav"))
    special("to-itself.wav", BAD, lambda path: path.symlink_to(path.name))
    special("loop", PASSED, lambda path: path.symlink_to(".", target_is_directory=True))
    special("zero-device.wav", BAD, lambda path: path.symlink_to("/dev/zero"))
    special("linked.wav", GOOD, lambda path: path.symlink_to("8khz.wav"))
    special("sparse.wav", BAD, make_sparse)
    special("socket.wav", BAD, make_socket)
    special("deep", PASSED, make_deep)
    closed = PASSED if os.geteuid() == 0 else BAD  # nothing is closed to root
    special("closed", closed, make_closed)
    special("unreadable.wav", GOOD if os.geteuid() == 0 else BAD, make_unreadable)


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 33)


def make_socket(path: Path) -> None:
    """Bound by a short name, as sockets have 107 bytes for theirs."""
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        server.bind(path.name)
    finally:
        os.chdir(here)
        server.close()


def make_deep(path: Path) -> None:
    """Folders deeper than a path may be long; the sound at the bottom cannot be named."""
    here = Path.cwd()
    path.mkdir()
    os.chdir(path)
    try:
        for _ in range(40):
            Path("d" * 120).mkdir()
            os.chdir("d" * 120)
        Path("out of reach.wav").write_bytes(wav())
    finally:
        os.chdir(here)


def make_closed(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


def make_unreadable(path: Path) -> None:
    path.write_bytes(encoded("WAV", "PCM_16"))
    path.chmod(0)


no_audio()
broken()
strange_but_good()
names_and_places()


def make_hostile(folder: Path) -> dict[str, str]:
    """Fill a folder; returns name -> what must become of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, _, make in KINDS:
        make(folder / name)
    return {name: outcome for name, outcome, _ in KINDS}


def remove_hostile(folder: Path) -> None:
    """Remove it, whatever is in it: ordinary removal cannot name what lies too deep."""
    for name in ("closed", "unreadable.wav"):
        if (folder / name).exists():
            (folder / name).chmod(stat.S_IRWXU)
    here = Path.cwd()
    os.chdir(folder / "deep")
    try:
        depth = 0
        while Path("d" * 120).is_dir():
            os.chdir("d" * 120)
            depth += 1
        Path("out of reach.wav").unlink(missing_ok=True)
        for _ in range(depth):
            os.chdir("..")
            Path("d" * 120).rmdir()
    finally:
        os.chdir(here)


if __name__ == "__main__":
    for made, outcome in make_hostile(Path(sys.argv[1])).items():
        print(f"{outcome:12} {made!r}")
