"""MusicXML and kern scores, through music21."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kerasrep.corpora.demo.score import Metre, Part, Score, UnreadableScoreError, check_usable, estimate_key
from kerasrep.corpora.demo.words import count_words, join_syllables, merge_parts

_MOST_PARTS = 8
_MOST_BARS = 160  # music21 takes a second for a long movement; a track needs half a minute of it
_UNHEARD = ("print", "direction", "harmony", "beam", "stem", "notations", "accidental")


def read_staff_file(path: Path) -> Score:
    """Read one MusicXML (`.xml`, `.musicxml`, `.mxl`) or kern (`.krn`) file.

    Raises:
        UnreadableScoreError: music21 refuses it, or it holds too few notes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream = _parse(path)
            voices = list(stream.parts)[:_MOST_PARTS]
            parts = [_notes(voice) for voice in voices]
            words = merge_parts(_words(voice) for voice in voices)
            metre, pickup = _metre(stream)
        except Exception as error:  # music21 raises many kinds on files that it cannot read
            raise UnreadableScoreError(f"music21 refuses it ({type(error).__name__})") from error
    usable = check_usable(parts)
    tonic, mode = estimate_key(usable)
    return Score(usable, metre, tonic, mode, pickup, words)


def _parse(path: Path) -> Any:
    """A music21 stream; the readers are called directly, because `converter.parse` keeps pickles."""
    if path.suffix == ".krn":
        from music21.converter.subConverters import ConverterHumdrum

        converter = ConverterHumdrum()
        converter.parseFile(path)
        return converter.stream
    from music21.musicxml.xmlToM21 import MusicXMLImporter

    root = ElementTree.fromstring(text_of_musicxml(path).encode())
    _shorten(root)
    return MusicXMLImporter().xmlRootToScore(root)


def _shorten(root: ElementTree.Element) -> None:
    """Take out late bars and what is only seen, which music21 is slow to read."""
    for part in root.iter("part"):
        bars = part.findall("measure")
        for bar in bars[_MOST_BARS:]:
            part.remove(bar)
        for bar in bars[:_MOST_BARS]:
            for parent in (bar, *bar.findall("note")):
                for child in [child for child in parent if child.tag in _UNHEARD]:
                    parent.remove(child)


def _notes(part: Any) -> Part:
    """Sounding notes of a part, ties joined, grace notes left out."""
    rows: list[tuple[float, float, int]] = []
    open_ties: dict[int, int] = {}  # pitch -> row that the next tied note prolongs
    flat = part.flatten()
    for element in flat.notes:
        start, duration = float(element.offset), float(element.duration.quarterLength)
        if duration <= 0 or not hasattr(element, "pitches"):
            continue
        for note in getattr(element, "notes", [element]):
            if not hasattr(note, "pitch"):
                continue  # unpitched percussion
            pitch = int(note.pitch.midi)
            tie = note.tie.type if note.tie is not None else None
            if tie in ("continue", "stop") and pitch in open_ties:
                row = open_ties[pitch] if tie == "continue" else open_ties.pop(pitch)
                first = rows[row]
                rows[row] = (first[0], start + duration - first[0], pitch)
                continue
            if tie == "start":
                open_ties[pitch] = len(rows)
            rows.append((start, duration, pitch))
    return Part.from_rows(rows)


def _words(part: Any) -> dict[str, int]:
    """Words of the first verse."""
    syllables = []
    for element in part.recurse().notes:
        if element.lyrics:
            lyric = element.lyrics[0]
            syllables.append((lyric.text or "", lyric.syllabic))
    return dict(count_words(join_syllables(syllables)))


def _metre(stream: Any) -> tuple[Metre, float]:
    """First time signature, and the length of an incomplete first bar in quarter notes."""
    signature = stream.recurse().getElementsByClass("TimeSignature").first()
    metre = Metre() if signature is None else Metre(signature.numerator, signature.denominator)
    measure = stream.parts[0].getElementsByClass("Measure").first()
    length = 0.0 if measure is None else float(measure.duration.quarterLength)
    return metre, length if 0 < length < metre.bar_quarters else 0.0


def text_of_musicxml(path: Path) -> str:
    """The XML text of a plain or zipped MusicXML file.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is no archive, or an empty one.
    """
    if path.suffix == ".mxl":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("META-INF") and "." in name]
            if not names:
                raise zipfile.BadZipFile("empty")
            data = archive.read(names[0])
    else:
        data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    # The declaration would name an encoding that decoded text no longer has.
    return re.sub(r"^\ufeff?\s*<\?xml[^>]*\?>", "", data.decode(encoding, "replace"))
