"""Decoding anything to one form, and writing Opus files that every reader accepts."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from files import written_whole
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 48_000
CHANNELS = 2
LONGEST_SECONDS = 600.0
"""What is decoded of one file at most."""

MODULE_SUFFIXES = (".xm", ".mod", ".it", ".s3m")
SILENCE = 64
"""Of 32,767: what is quieter than -54 dB at the ends is cut off."""

Samples = NDArray[np.int16]
"""[samples, channels] at SAMPLE_RATE_HZ."""


class UnreadableError(Exception):
    """A file that no decoder here takes."""


def _run(command: list[str], content: bytes | None = None, seconds: float = 300.0) -> bytes:
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise UnreadableError(f"{command[0]} took more than {seconds:g} s") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UnreadableError(f"{command[0]}: {' '.join(last) or 'failed'}") from error
    return done.stdout


def read_tags(path: Path) -> dict[str, str]:
    """Tags of the container and its first audio stream, keys in lower case, and `seconds`.

    Raises:
        UnreadableError: There is no audio in it.
    """
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration:format_tags:stream_tags"]
    found = json.loads(_run([*command, "-select_streams", "a:0", "-of", "json", str(path)]) or b"{}")
    if not found.get("streams"):
        raise UnreadableError("no audio stream")
    tags: dict[str, str] = {}
    for part in (found.get("format", {}), found["streams"][0]):
        tags |= {key.lower(): str(value) for key, value in part.get("tags", {}).items()}
    return tags | {"seconds": str(found.get("format", {}).get("duration", 0))}


def module_text(path: Path) -> str:
    """What a tracker module says of itself: title, type, message, and any readable text in it.

    Tracker musicians sign in the names of samples, which openmpt123 does not print.
    """
    command = ["openmpt123", "--info", "--details", "--message", "--", str(path)]
    lines = _run(command).decode("utf-8", "replace").splitlines()
    said = [line for line in lines if not line.startswith(("openmpt123", "Copyright", "Filename"))]
    readable = re.findall(rb"[ -~]{6,}", path.read_bytes())
    return "\n".join([*said, *(text.decode("ascii") for text in readable)])


def _decode_with_ffmpeg(path: Path) -> Samples:
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-i",
        str(path),
        "-map",
        "0:a:0",
        "-t",
        f"{LONGEST_SECONDS}",
    ]
    raw = _run([*command, "-f", "s16le", "-ar", f"{SAMPLE_RATE_HZ}", "-ac", f"{CHANNELS}", "-"])
    return np.frombuffer(raw, np.int16).reshape(-1, CHANNELS)


def _decode_module(path: Path) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "rendered.wav"
        command = ["openmpt123", "--batch", "--quiet", "--samplerate", f"{SAMPLE_RATE_HZ}"]
        _run([*command, "--end-time", f"{LONGEST_SECONDS:g}", "-o", str(wav), "--", str(path)])
        return _decode_with_ffmpeg(wav)


def without_silent_ends(samples: Samples) -> Samples:
    """The samples from the first to the last that can be heard."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)).max(axis=1) >= SILENCE)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def decode(path: Path) -> Samples:
    """Decodes a recording, or renders a tracker module, without silence at its ends.

    Raises:
        UnreadableError: Neither ffmpeg nor openmpt123 reads it, or there is nothing to hear.
    """
    module = path.suffix.lower() in MODULE_SUFFIXES
    samples = without_silent_ends(_decode_module(path) if module else _decode_with_ffmpeg(path))
    if not len(samples):
        raise UnreadableError("nothing to hear in it")
    return samples


def write_opus(path: Path, samples: Samples, kilobits: int, thorough: bool = True) -> None:
    """Encodes samples as Opus, from PCM, and reads the length back with libsndfile before the file counts.

    Opus that is made by copying packets or from odd page times is refused by libsndfile in half of the cases;
    made from PCM, none was.

    Args:
        path: The file.
        samples: PCM.
        kilobits: A second, about.
        thorough: Decode all of it; otherwise its header and its last second alone.

    Raises:
        UnreadableError: The file does not read back at its full length.
    """
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", f"{SAMPLE_RATE_HZ}", "-ac", f"{CHANNELS}"]
    with written_whole(path) as temporary:
        encoder = ["-c:a", "libopus", "-b:a", f"{kilobits}k", "-fflags", "+bitexact", "-flags", "+bitexact"]
        _run([*command, "-i", "-", *encoder, str(temporary)], samples.tobytes())
        with soundfile.SoundFile(temporary) as file:
            skipped = 0 if thorough else file.seek(max(0, file.frames - SAMPLE_RATE_HZ))
            length = skipped + sum(len(block) for block in file.blocks(SAMPLE_RATE_HZ * 10, dtype="int16"))
            complete = length == len(samples) and file.samplerate == SAMPLE_RATE_HZ
        if not complete:
            raise UnreadableError(f"encoded {len(samples)} samples, {length} read back")
