"""What is rendered: songs written for MMA's grooves, MIDI files of packages, and how each is varied."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts import hash_order
from people import SHORTEST_IN_FREE_TEXT, LeaveOut

GROOVE_LIBRARY = Path("/usr/share/mma/lib")
TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_MAJOR_STEPS, _MINOR_STEPS = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_MAJOR_CHORDS, _MINOR_CHORDS = ("", "m", "m", "", "7", "m", "dim"), ("m", "dim", "", "m", "m", "", "7")
_PROGRESSIONS = (
    "0 5 3 4",
    "0 3 4 0",
    "0 4 5 3",
    "5 3 0 4",
    "1 4 0 0",
    "0 0 3 0 4 3 0 4",
    "0 2 3 4",
    "0 3 1 4",
    "0 6 3 0",
)
"""Degrees from 0, a bar each."""
_BARS = 40
LENGTH_SECONDS = 30.0
LAST_SOUNDING_PROGRAM = 119
"""Above it are telephones and applause."""


@dataclass(frozen=True)
class Groove:
    """A groove of MMA: `library:name`, and the file that defines it, which stands for its style."""

    library: str
    name: str
    style: str


@dataclass(frozen=True)
class Song:
    """A score to render.

    Attributes:
        score: symusic's score in seconds.
        package: Where it is from.
        group: What a split must not divide: the groove's style, or the MIDI file.
        groove: Style; empty for MIDI files.
        tempo_bpm: 0 where it changes.
        key: Such as `D minor`; empty where unknown.
        scale: Pitch classes of the key.
    """

    score: Any
    package: str
    group: str
    groove: str
    tempo_bpm: float
    key: str
    scale: tuple[int, ...] = ()


def list_grooves(library: Path = GROOVE_LIBRARY) -> list[Groove]:
    """All grooves that MMA's libraries define, in a fixed order that mixes styles."""
    grooves = []
    for path in sorted(library.rglob("*.mma")):
        for name in re.findall(r"^\s*DefGroove\s+(\S+)", path.read_text(encoding="latin-1"), re.MULTILINE):
            grooves.append(Groove(path.relative_to(library).parts[0], name, path.stem))
    return sorted(grooves, key=lambda groove: hash_order(f"{groove.library}:{groove.name}"))


def list_midi(folders: Sequence[tuple[str, Path]], out: LeaveOut) -> list[tuple[str, Path]]:
    """MIDI files of unpacked packages, without those that name people of the leave-out list."""
    found = []
    for package, folder in folders:
        for path in sorted(folder.rglob("*.mid")):
            readable = b"\n".join(re.findall(rb"[ -~]{6,}", path.read_bytes())).decode("ascii")
            if not out.found_in(path.name) and not out.found_in(readable, SHORTEST_IN_FREE_TEXT):
                found.append((package, path))
    return found


def song_text(groove: Groove, tempo_bpm: int, tonic: int, minor: bool, draw: random.Random) -> str:
    """A song for MMA: a progression in a key, again and again.

    >>> print(song_text(Groove("stdlib", "Rock1", "rock"), 120, 2, False, random.Random(0)).splitlines()[3])
    1 D
    """
    steps, kinds = (_MINOR_STEPS, _MINOR_CHORDS) if minor else (_MAJOR_STEPS, _MAJOR_CHORDS)
    degrees = [0, *(int(d) for d in draw.choice(_PROGRESSIONS).split()[1:])]
    lines = [
        f"RndSeed {draw.randrange(1_000_000)}",
        f"Tempo {tempo_bpm}",
        f"Groove {groove.library}:{groove.name}",
    ]
    for bar in range(_BARS):
        degree = degrees[bar % len(degrees)]
        lines.append(f"{bar + 1} {TONICS[(tonic + steps[degree]) % 12]}{kinds[degree]}")
    return "\n".join(lines) + "\n"


def write_song(groove: Groove, draw: random.Random) -> Song:
    """Lets MMA write a song in a drawn tempo and key.

    Raises:
        RuntimeError: MMA refuses the groove.
    """
    import symusic

    tempo, tonic, minor = draw.randint(64, 184), draw.randrange(12), draw.random() < 0.4
    with tempfile.TemporaryDirectory() as folder:
        song, midi = Path(folder) / "song.mma", Path(folder) / "song.mid"
        song.write_text(song_text(groove, tempo, tonic, minor, draw), encoding="ascii")
        command = ["mma", "-w", "-f", str(midi), str(song)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode or not midi.is_file():
            raise RuntimeError(f"MMA refused {groove.library}:{groove.name}")
        score = symusic.Score(str(midi)).to("second")
    scale = tuple((tonic + step) % 12 for step in (_MINOR_STEPS if minor else _MAJOR_STEPS))
    key = f"{TONICS[tonic]} {'minor' if minor else 'major'}"
    return Song(score, "mma", f"groove {groove.style}", groove.style, float(tempo), key, scale)


def read_song(package: str, path: Path, draw: random.Random) -> Song:
    """Reads a MIDI file: 30 s out of it, in a drawn tempo and transposition."""
    import symusic

    score = symusic.Score(str(path)).to("second")
    tempos = {round(tempo.qpm, 2) for tempo in score.tempos}
    factor, shift = draw.uniform(0.8, 1.25), draw.randint(-5, 5)
    start = draw.uniform(0.0, max(0.0, score.end() - LENGTH_SECONDS * factor))
    for track in score.tracks:
        notes = []
        for note in track.notes:
            time = (note.time - start) / factor
            if 0.0 <= time < LENGTH_SECONDS:
                pitch = note.pitch if track.is_drum else min(127, max(0, note.pitch + shift))
                notes.append(symusic.Note(time, note.duration / factor, pitch, note.velocity, "second"))
        track.notes = symusic.core.NoteSecondList(notes) if hasattr(symusic.core, "NoteSecondList") else notes
        track.controls, track.pitch_bends, track.pedals = [], [], []
    tempo = next(iter(tempos)) / factor if len(tempos) == 1 else 0.0
    return Song(score, package, f"score {package} {path.stem}", "", round(tempo, 2), "")


def add_melody(song: Song, draw: random.Random) -> None:
    """Adds a voice that wanders through the song's scale."""
    import symusic

    track = symusic.Track("melody", program=draw.randrange(112), is_drum=False, ttype="second")
    step = 60.0 / song.tempo_bpm / draw.choice((1, 2, 2, 4))
    time, pitch = 0.0, draw.randrange(55, 80)
    while time < LENGTH_SECONDS:
        length = step * draw.choice((1, 1, 2, 2, 4))
        if draw.random() < 0.8:
            pitch = max(45, min(90, pitch + draw.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5))))
            while pitch % 12 not in song.scale:
                pitch += 1
            track.notes.append(symusic.Note(time, length * 0.95, pitch, draw.randrange(60, 120), "second"))
        time += length
    song.score.tracks.append(track)


def draw_programs(song: Song, draw: random.Random) -> None:
    """Gives half the voices another program."""
    for track in song.score.tracks:
        if not track.is_drum and draw.random() < 0.5:
            track.program = draw.randint(0, LAST_SOUNDING_PROGRAM)
