"""One rendering, one note: what a process makes of its number, and the labels that it keeps."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files import write_text
from instruments import DRUM_KEYS, drum_class, family
from people import folded_words
from scores import LENGTH_SECONDS, Groove, Song, add_melody, draw_programs, read_song, write_song
from sound import SAMPLE_RATE_HZ, write_opus
from soundfont import DRUM_BANK
from synthesis import Audio, as_int16, drum_kits, in_a_room, play, play_hit, play_with_fonts, read_font

KILOBITS = 40
NOTE_SECONDS = 2.5
_GAP_SECONDS = 0.1
_DRUM_SECONDS = 0.2
_VELOCITIES = (50, 70, 90, 110)
_KEYS = range(36, 91)
"""Velocities and keys of single notes."""
_SCORE_SHARE = 0.15
Span = tuple[str, float, float]
"""Item, start and end in seconds."""


@dataclass(frozen=True)
class RenderJob:
    """A rendering to make: its number decides everything that is drawn."""

    number: int
    out: Path
    labels: Path
    fonts: tuple[str, ...]
    grooves: tuple[Groove, ...]
    midi: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class NoteJob:
    """A single note or drum hit to make."""

    number: int
    out: Path
    labels: Path
    font: str
    program: int
    key: int
    velocity: int
    seconds: float
    drum: bool
    group: str


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans of the same item that touch or nearly so become one; in order of time.

    >>> merged([("bass", 0.0, 1.0), ("bass", 1.05, 2.0), ("bass", 3.0, 4.0)])
    [('bass', 0.0, 2.0), ('bass', 3.0, 4.0)]
    """
    last: dict[str, Span] = {}
    done: list[Span] = []
    for item, start, end in sorted(spans, key=lambda span: (span[1], span[2], span[0])):
        before = last.get(item)
        if before is not None and start <= before[2] + _GAP_SECONDS:
            last[item] = (item, before[1], max(before[2], end))
        else:
            if before is not None:
                done.append(before)
            last[item] = (item, start, end)
    return sorted([*done, *last.values()], key=lambda span: (span[1], span[0], span[2]))


def sounding(tracks: Iterable[Any]) -> list[Span]:
    """Which instrument families and drum classes sound when, within the length of a rendering."""
    spans = []
    for track in tracks:
        for note in track.notes:
            if note.time < LENGTH_SECONDS:
                item = drum_class(note.pitch) if track.is_drum else family(track.program)
                end = note.time + (_DRUM_SECONDS if track.is_drum else max(note.duration, _GAP_SECONDS))
                spans.append((item, round(note.time, 2), round(min(end, LENGTH_SECONDS), 2)))
    return merged(spans)


def _song(job: RenderJob, draw: random.Random) -> Song:
    if job.midi and draw.random() < _SCORE_SHARE:
        package, path = job.midi[draw.randrange(len(job.midi))]
        return read_song(package, path, draw)
    song = write_song(job.grooves[job.number % len(job.grooves)], draw)
    if draw.random() < 0.7:
        add_melody(song, draw)
    return song


def render(job: RenderJob) -> None:
    """Makes one rendering with its labels, and keeps them."""
    draw = random.Random(f"rendering {job.number}")
    song = _song(job, draw)
    draw_programs(song, draw)
    fonts = list(job.fonts) if draw.random() < 0.5 else [draw.choice(job.fonts)]
    audio = play_with_fonts(song.score, fonts, int(LENGTH_SECONDS * SAMPLE_RATE_HZ), draw)
    if draw.random() < 0.6:
        audio = in_a_room(audio, draw)
    name = "-".join(folded_words(song.groove or song.group))
    path = f"audio/{song.package}/{job.number:05d}-{name}.opus"
    write_opus(job.out / path, as_int16(audio, draw.uniform(0.3, 0.95)), KILOBITS, thorough=False)
    labels = {
        "path": path,
        "kind": "rendered",
        "package": song.package,
        "group": song.group,
        "seconds": LENGTH_SECONDS,
        "groove": song.groove,
        "tempo": song.tempo_bpm,
        "key": song.key,
        "sounding": sounding(song.score.tracks),
    }
    write_text(job.labels, json.dumps(labels))


def draw_note(number: int, fonts: Sequence[str]) -> tuple[str, int, int, int, float, bool]:
    """Font, program, key, velocity, length and whether it is a drum, for a note's number.

    Three of four are notes, through all programs in turn; the others drum hits, through all keys in turn.
    """
    draw = random.Random(f"note {number}")
    font = draw.choice(list(fonts))
    velocity, seconds = draw.choice(_VELOCITIES), draw.choice((0.3, 0.8, 1.6, 2.2))
    if number % 4 == 3:
        key = DRUM_KEYS[number // 4 % len(DRUM_KEYS)]
        return font, draw.choice(drum_kits(font) or [0]), key, velocity, seconds, True
    program = (number - number // 4) % 128
    return font, program, draw.choice(_KEYS), velocity, seconds, False


def _play_note(job: NoteJob, length: int) -> Audio:
    import symusic

    score = symusic.Score(480).to("second")
    track = symusic.Track("note", program=job.program, is_drum=False, ttype="second")
    track.notes.append(symusic.Note(0.0, job.seconds, job.key, job.velocity, "second"))
    score.tracks.append(track)
    return play(score, job.font, length)


def render_note(job: NoteJob) -> None:
    """Makes one note or drum hit with its labels, and keeps them."""
    length = int(NOTE_SECONDS * SAMPLE_RATE_HZ)
    if job.drum:
        audio = play_hit(job.font, job.program, job.key, job.velocity, length)
    else:
        audio = _play_note(job, length)
    bank = Path(job.font).stem.lower().replace("_", "-")
    kind = "drum" if job.drum else "note"
    path = f"audio/notes/{job.number:05d}-{bank}-{kind}-{job.program}-{job.key}.opus"
    write_opus(job.out / path, as_int16(audio, 0.7), KILOBITS, thorough=False)
    labels = {
        "path": path,
        "kind": "note",
        "package": bank,
        "group": job.group,
        "seconds": NOTE_SECONDS,
        "program": None if job.drum else job.program,
        "item": drum_class(job.key) if job.drum else family(job.program),
        "drum": job.drum,
    }
    write_text(job.labels, json.dumps(labels))


def voice(font: str, program: int, key: int, *, drum: bool) -> str:
    """The name of a preset, for drums of one key of a kit."""
    return f"{Path(font).stem} {'drum' if drum else 'program'} {program}{f' {key}' if drum else ''}"


def all_voices(font: str) -> Iterator[tuple[str, str, set[str]]]:
    """Every preset and every key of the drum kits: name, class, hashes of the samples that it plays."""
    programs = [(0, program, _KEYS, family(program)) for program in range(128)]
    kits = drum_kits(font) or [0]
    drums = [(DRUM_BANK, kit, [key], f"drum {drum_class(key)}") for kit in kits for key in DRUM_KEYS]
    for bank, program, keys, item in [*programs, *drums]:
        hashes = {
            value
            for key in keys
            for velocity in _VELOCITIES
            for value in read_font(font).samples_of(bank, program, key, velocity)
        }
        name = voice(font, program, keys[0], drum=bank == DRUM_BANK)
        yield name, item, {f"sample {value}" for value in hashes}
