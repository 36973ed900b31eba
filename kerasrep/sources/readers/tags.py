"""Tags inside audio files: ID3, Vorbis comments, MP4, APE and WMA, brought to common names and forms.

Case and white space are folded, several values of a field are split, years are taken out of dates and
numbers out of tempi, and what says nothing, such as `<Unknown>`, is dropped and counted. A file that cannot
be read has no tags; it never ends the reading of others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kerasrep.report.wording import counted
from kerasrep.runtime.console import Progress
from kerasrep.runtime.threads import in_order
from kerasrep.storage.tables import LARGEST_NUMBER

#: Field -> names that it has in tags of any format, in small letters.
FIELDS: dict[str, tuple[str, ...]] = {
    "artist": ("artist", "tpe1", "©art", "author"),
    "album": ("album", "talb", "©alb", "wm/albumtitle"),
    "albumartist": ("albumartist", "album artist", "tpe2", "aart", "wm/albumartist"),
    "genre": ("genre", "tcon", "©gen", "wm/genre"),
    "date": ("date", "year", "tdrc", "tyer", "tdrl", "©day", "wm/year"),
    "composer": ("composer", "tcom", "©wrt", "wm/composer"),
    "label": ("label", "organization", "publisher", "tpub", "wm/publisher"),
    "bpm": ("bpm", "tempo", "tbpm", "tmpo", "wm/beatsperminute"),
    "language": ("language", "tlan", "wm/language"),
    "key": ("key", "initialkey", "initial key", "tkey", "wm/initialkey"),
    "comment": ("comment", "comm", "description", "©cmt"),
}
#: Fields that hold one thing a track unless it says otherwise; an artist may be called AC/DC.
SINGLE_FIELDS = frozenset({"artist", "album", "albumartist", "composer", "label", "key"})
NUMBER_FIELDS = frozenset({"date", "bpm"})
#: Comments that iTunes writes for itself, such as volumes of each file in hexadecimal digits.
_FOR_PROGRAMS = "comm:itun"
_TITLES = ("title", "tit2", "©nam")
_FIELD_OF = {name: field_name for field_name, names in FIELDS.items() for name in names}
_JUNK = re.compile(
    r"[-?._\s]*|<.*>|\[(unknown|untitled|none|no artist)\]|(unknown|unnamed)( \w+)?|no (artist|album|genre)|"
    r"various( artists)?|va|n/?a|none|null|undefined|untitled|other|misc|track \d+|0+"
)
_YEAR = re.compile(r"(?<!\d)(1[5-9]|20)\d\d(?!\d)")
_NUMBER = re.compile(r"\d+([.,]\d+)?")
LONGEST_CHARACTERS = 200
#: That read files.
THREADS = 8
#: From so many files on a bar is shown.
SHOWN_FILES = 1000


@dataclass
class Tags:
    """Tags of some files.

    Attributes:
        values: Field -> file -> what it says, in order and without repetition.
        dropped: Field -> how many values said nothing.
        unreadable: Files that could not be read.
        files: How many were looked at.
    """

    values: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    files: int = 0

    def describe(self) -> str:
        """What was found, and how often, in one line."""
        parts = []
        for name, by_file in sorted(self.values.items(), key=lambda item: (-len(item[1]), item[0])):
            different = len({text for texts in by_file.values() for text in texts})
            parts.append(f"{name} {len(by_file)} ({different} different)")
        found = ", ".join(parts) or "none"
        dropped = sum(self.dropped.values())
        junk = f"; {dropped} values say nothing" if dropped else ""
        bad = ""
        if self.unreadable:
            unreadable = counted(len(self.unreadable), "file")
            bad = f"; {unreadable} could not be read, such as {self.unreadable[0]}"
        return f"tags of {self.files} files: {found}{junk}{bad}"


def read_tags(files: Sequence[tuple[str, Path]], progress: bool = False) -> Tags:
    """Read the tags of some files, several at once: on a cold disk or over a network that is mostly waiting.

    Args:
        files: Name of each in the result, and where it lies.
        progress: Show a bar where it takes long.
    """
    tags, dropped = Tags(files=len(files)), Counter[str]()
    shown = progress and len(files) >= SHOWN_FILES
    with Progress(len(files), "tags", "file", shown) as bar:
        for (name, _), raw in zip(
            files, in_order(_raw_tags, [path for _, path in files], THREADS), strict=True
        ):
            bar.update()
            if raw is None:
                tags.unreadable.append(name)
                continue
            for field_name, texts in raw.items():
                values = _values(field_name, texts)
                dropped[field_name] += sum(value is None for value in values)
                kept = list(dict.fromkeys(value for value in values if value is not None))
                if kept:
                    tags.values.setdefault(field_name, {})[name] = kept
    tags.dropped = {name: count for name, count in sorted(dropped.items()) if count}
    return tags


def shown_tags(path: Path) -> dict[str, str]:
    """Artist, title, album, genre and year of a file as people read them, as far as it has them."""
    raw = _raw_tags(path, dict.fromkeys(_TITLES, "title")) or {}
    found = {}
    for name in ("artist", "title", "album", "genre", "date"):
        texts = (" ".join(text.split())[:LONGEST_CHARACTERS] for text in raw.get(name, []))
        if name == "date":
            texts = (year.group() for text in raw.get(name, []) if (year := _YEAR.search(text)))
        if text := ", ".join(filter(None, texts)):
            found["year" if name == "date" else name] = text
    return found


def _raw_tags(path: Path, more: Mapping[str, str] = MappingProxyType({})) -> dict[str, list[str]] | None:
    """Field -> texts, as they stand in one file; `None` where it cannot be read.

    Args:
        path: The file.
        more: Name -> field, beside those of `FIELDS`.
    """
    import mutagen

    try:
        file = mutagen.File(path)
        return None if file is None else _texts_by_field(file, more)
    except Exception:  # of damaged files mutagen raises whatever its parsing meets
        return None


def _texts_by_field(file: Any, more: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in (file.tags or {}).items():
        name = str(key).lower()
        if name.startswith(_FOR_PROGRAMS):
            continue
        name = name.rpartition(":")[2] if name.startswith("----:") else name.partition(":")[0]
        if field_name := _FIELD_OF.get(name) or more.get(name):
            found.setdefault(field_name, []).extend(_texts(value))
    return found


def _texts(value: Any) -> list[str]:
    """What a tag of any format says: ID3 frames, lists, APE values, WMA attributes."""
    several = getattr(value, "genres", None) or getattr(value, "text", None) or value
    if isinstance(several, list | tuple):
        return [text for one in several for text in _texts(one)]
    if isinstance(several, bytes):
        return [several.decode("utf-8", "replace")]
    return str(several).split("\0")


def _values(name: str, texts: Iterable[str]) -> list[str | None]:
    """Values in their common form; `None` for each that says nothing."""
    separators = r"[;|]" if name in SINGLE_FIELDS else r"[;|,/\\]"
    if name not in NUMBER_FIELDS and name != "comment":
        texts = [part for text in texts for part in re.split(separators, text)]
    return [_value(name, text) for text in texts]


def _value(name: str, text: str) -> str | None:
    folded = " ".join(text.casefold().split())
    if name == "date":
        year = _YEAR.search(folded)
        return year.group() if year else None
    if name == "bpm":
        number = _NUMBER.match(folded)
        tempo = number.group().replace(",", ".") if number else "0"
        return tempo if 0 < float(tempo) <= LARGEST_NUMBER else None
    printable = folded.isprintable() and len(folded) <= LONGEST_CHARACTERS
    return folded if printable and not _JUNK.fullmatch(folded) else None
