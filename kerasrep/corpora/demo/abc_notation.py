"""ABC tunes: splitting files, reading headers, and notes through symusic."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kerasrep.corpora.demo.score import (
    KEY_NAMES,
    Metre,
    Part,
    Score,
    UnreadableScoreError,
    check_usable,
    estimate_key,
)
from kerasrep.corpora.demo.words import count_words, merge_parts, text_of_abc_lyrics

_BAR_START_VELOCITY = 105  # what symusic's reader, abcmidi, gives to notes that begin a bar
_MODE_NAMES = {
    "maj": "major",
    "ion": "major",
    "min": "minor",
    "aeo": "minor",
    "dor": "dorian",
    "phr": "phrygian",
    "lyd": "lydian",
    "mix": "mixolydian",
    "loc": "locrian",
}
_FIELD = re.compile(r"^([A-Za-z]):(.*)$")
_LETTER_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class AbcTune:
    """One tune's text, from its `X:` line to the next.

    Attributes:
        text: Lines without carriage returns.
    """

    text: str

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """Header fields up to and including `K:`, in order, stripped of comments."""
        found: dict[str, list[str]] = {}
        for line in self.text.splitlines():
            if match := _FIELD.match(line):
                found.setdefault(match[1], []).append(match[2].split("%")[0].strip())
                if match[1] == "K":
                    break
        return found

    @cached_property
    def body(self) -> str:
        """Lines after `K:` that hold notes."""
        _, _, rest = self.text.partition("\nK:")
        lines = rest.splitlines()[1:]
        return "\n".join(line for line in lines if not line.startswith("%") and not _FIELD.match(line))

    def first(self, name: str) -> str:
        """First value of a header field, or an empty string."""
        return next(iter(self.fields.get(name, [])), "")


def split_tunes(text: str) -> list[AbcTune]:
    """Split a file at its `X:` lines; what stands before the first is left out."""
    blocks = re.split(r"(?m)^(?=X:)", text.replace("\r\n", "\n").replace("\r", "\n"))
    return [AbcTune(block.strip() + "\n") for block in blocks if block.startswith("X:")]


def parse_metre(text: str) -> Metre | None:
    """Read an `M:` field: `C`, `C|` or two numbers."""
    text = text.strip()
    if text in ("C", "C|"):
        return Metre(4, 4) if text == "C" else Metre(2, 2)
    match = re.match(r"(\d+)\s*/\s*(\d+)", text)
    if match and 0 < int(match[1]) <= 24 and int(match[2]) in (1, 2, 4, 8, 16):
        return Metre(int(match[1]), int(match[2]))
    return None


def parse_key(text: str) -> tuple[int, str] | None:
    """Read a `K:` field: pitch class of the tonic, and mode."""
    if text.strip().lower().startswith("hp"):  # Highland pipes
        return 9, "mixolydian"
    match = re.match(r"\s*([A-Ga-g])([#b]?)\s*([A-Za-z]*)", text)
    if not match:
        return None
    tonic = (_LETTER_CLASSES[match[1].upper()] + {"#": 1, "b": -1, "": 0}[match[2]]) % len(KEY_NAMES)
    word = match[3].lower()
    mode = "minor" if word == "m" else _MODE_NAMES.get(word[:3], "major")
    return tonic, mode


def incipit(tune: AbcTune, n_notes: int = 12) -> str:
    """Diatonic steps between the first notes, which tell the same tune under another title.

    Returns:
        Comma-separated intervals, or an empty string where there are too few notes.
    """
    plain = re.sub(r'"[^"]*"|\{[^}]*\}|![^!]*!|\[[A-Za-z]:[^\]]*\]', "", tune.body)
    letters = re.findall(r"([A-Ga-g])([',]*)", plain)[: n_notes + 1]
    if len(letters) <= n_notes:
        return ""
    degrees = [
        "CDEFGAB".index(letter.upper()) + 7 * (letter.islower() + marks.count("'") - marks.count(","))
        for letter, marks in letters
    ]
    return ",".join(str(step) for step in np.diff(degrees))


@contextlib.contextmanager
def counted_output() -> Iterator[list[int]]:
    """Catch what native code writes to the process's output; the list then holds the number of lines.

    symusic's reader prints warnings to the file descriptor itself, past `sys.stdout`.
    """
    lines: list[int] = []
    saved = os.dup(1)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 1)
        try:
            yield lines
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            caught.seek(0)
            lines.append(sum(1 for _ in caught))


def read_tune(tune: AbcTune) -> tuple[Score, int]:
    """Read one tune.

    Returns:
        The score, and how many warnings the reader gave.

    Raises:
        UnreadableScoreError: The reader refuses the tune, or it holds too few notes.
    """
    read, bar_starts, warnings = _read_notes(tune)
    parts = check_usable(read)
    metre = parse_metre(tune.first("M")) or Metre()
    tonic, mode = parse_key(tune.first("K")) or estimate_key(parts)
    return Score(parts, metre, tonic, mode, _pickup(bar_starts, metre), _words([tune])), warnings


def read_parts(tunes: Sequence[AbcTune]) -> tuple[Score, int]:
    """Read the tunes of a file as simultaneous parts of one piece.

    Returns:
        The score, and how many warnings the reader gave.

    Raises:
        UnreadableScoreError: As `read_tune`.
    """
    parts: list[Part] = []
    warnings = 0
    for tune in tunes:
        read, _, n_warnings = _read_notes(tune)
        parts += read[:1]
        warnings += n_warnings
    usable = check_usable(parts)
    tonic, mode = estimate_key(usable)
    metre = parse_metre(tunes[0].first("M")) or Metre()
    return Score(usable, metre, tonic, mode, 0.0, _words(tunes)), warnings


def _read_notes(tune: AbcTune) -> tuple[list[Part], list[float], int]:
    """Parts, starts (in quarters) of notes that begin a bar, and the number of warnings."""
    from symusic import Score as SymusicScore

    # Quoted text is fingering or rehearsal letters here; the reader would play it as guitar chords.
    lines = (line if _FIELD.match(line) else re.sub(r'"[^"]*"', "", line) for line in tune.text.splitlines())
    text = "\n".join(line for line in lines if not line.startswith("w:"))
    with tempfile.TemporaryDirectory(prefix="kerasrep-") as folder, counted_output() as warnings:
        path = Path(folder) / "tune.abc"
        path.write_text(text, encoding="utf-8")
        try:
            # `from_abc` names its temporary file by an unseeded generator: two processes read each other's.
            score = SymusicScore.from_file(path)
        except Exception as error:  # the extension raises RuntimeError and others, undocumented
            raise UnreadableScoreError("the ABC reader refuses it") from error
    tpq = score.ticks_per_quarter
    parts, bar_starts = [], []
    for track in score.tracks:
        notes = track.notes.numpy()
        # The reader begins each note one tick late and ends it one early, so that repeated notes separate.
        starts = np.maximum(notes["time"].astype(np.float64) - 1, 0) / tpq
        durations = (notes["duration"] + 1) / tpq
        parts.append(Part.from_rows(list(zip(starts, durations, notes["pitch"].tolist(), strict=True))))
        bar_starts += starts[notes["velocity"] == _BAR_START_VELOCITY].tolist()
    return parts, bar_starts, warnings[0]


def _pickup(bar_starts: Sequence[float], metre: Metre) -> float:
    """Most frequent place of bar beginnings within the metre's grid, in quarter notes."""
    places = Counter(round(start % metre.bar_quarters, 3) for start in bar_starts)
    return places.most_common(1)[0][0] if places else 0.0


def _words(tunes: Sequence[AbcTune]) -> dict[str, int]:
    lyrics = [re.findall(r"(?m)^w:(.*)$", tune.text) for tune in tunes]
    return merge_parts(count_words(text_of_abc_lyrics(" ".join(lines))) for lines in lyrics)
