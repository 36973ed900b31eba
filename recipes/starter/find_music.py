"""Music inside an unpacked package, with all that is said about whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from files import read_table, write_text
from sound import MODULE_SUFFIXES, UnreadableError, module_text, read_tags

_RECORDING_SUFFIXES = (".ogg", ".oga", ".opus", ".mp3", ".flac", ".wav")
SHORTEST_SECONDS = 30.0
_SMALLEST_BYTES = {".wav": 400_000}
_SMALLEST_OTHER_BYTES = 80_000
"""30 s of the poorest encoding; what is smaller is not opened."""
_PEOPLE_TAGS = ("artist", "composer", "author", "performer", "album_artist", "album artist", "copyright")
_TERMS_TAGS = ("license", "licence", "copyright", "comment", "description")


@dataclass(frozen=True)
class Found:
    """A file that may be music.

    Attributes:
        path: The file.
        name: Path inside the package; members of archives stand in a folder NAME.members.
        title: From tags or the game's own lists, empty where nothing says it.
        people: Who made it as tags and lists have it, main person first; empty where nothing says it.
        free_text: Other text that may name people (inside modules).
        terms: What tags say of its licence.
    """

    path: Path
    name: str
    title: str = ""
    people: tuple[str, ...] = ()
    free_text: str = ""
    terms: str = ""

    @property
    def is_module(self) -> bool:
        """Whether it is a tracker module."""
        return self.path.suffix.lower() in MODULE_SUFFIXES


@dataclass(frozen=True)
class Credit:
    """A row of credits.tsv: what somebody read in the copyright and credits files of a package.

    Attributes:
        package: Its name.
        files: Pattern of the path inside the package; the first row that matches counts.
        use: `yes`, or `no` for what is left out.
        author: One or several, separated by `;`; empty where tags say it or nobody does.
        licence: Short name.
        note: Where it was read, or why it is left out.
    """

    package: str
    files: str
    use: str
    author: str
    licence: str
    note: str


class Credits:
    """All rows, by package."""

    def __init__(self, rows: list[Credit]) -> None:
        self._rows = rows

    @classmethod
    def read(cls, path: Path) -> Credits:
        """The table in a file."""
        return cls([Credit(**row) for row in read_table(path)])

    def of(self, package: str, name: str) -> Credit | None:
        """The first row whose pattern matches a file of a package."""
        for row in self._rows:
            if row.package == package and fnmatchcase(name, f"*{row.files}"):
                return row
        return None


@lru_cache(maxsize=256)
def _object_tracks(description: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Title and people of each file that an `object.json` of OpenRCT2 lists."""
    content = json.loads(description.read_text(encoding="utf-8"))
    authors = tuple(content.get("authors", []))
    tracks = dict.fromkeys(content.get("samples", []), ("", authors))
    for track in content.get("properties", {}).get("tracks", []):
        composers = tuple(name.strip() for name in track.get("composer", "").split(",") if name.strip())
        tracks[track["source"]] = (track.get("name", ""), composers + authors)
    return tracks


def _beside(path: Path) -> tuple[str, tuple[str, ...]]:
    """Title and people out of a file beside the music: `.music` XML, `object.json`."""
    for folder in list(path.parents)[:2]:
        description = folder / "object.json"
        if folder.name.endswith((".parkobj.members", ".members")) and description.is_file():
            return _object_tracks(description).get(str(path.relative_to(folder)), ("", ()))
    for description in (path.with_suffix(".music"), *sorted(path.parent.glob("*.music"))):
        if description.is_file():
            root = ElementTree.fromstring(description.read_text(encoding="utf-8", errors="replace"))
            if description.stem == path.stem or root.get("file") == path.name:
                names = tuple(
                    name.strip() for name in (root.get("composer") or "").split(",") if name.strip()
                )
                return root.get("title") or "", names
    return "", ()


def _describe(path: Path, name: str) -> Found | None:
    """A file with its credits; None where it is too short or no audio."""
    if path.suffix.lower() in MODULE_SUFFIXES:
        text = module_text(path)
        title = next((line.split(":", 1)[1] for line in text.splitlines() if line.startswith("Title.")), "")
        return Found(path, name, title.strip(), free_text=text)
    tags = read_tags(path)
    if float(tags["seconds"]) < SHORTEST_SECONDS:
        return None
    title, people = _beside(path)
    tagged = tuple(tags[key] for key in _PEOPLE_TAGS if tags.get(key))
    terms = " ".join(tags[key] for key in _TERMS_TAGS if key in tags)
    return Found(path, name, title or tags.get("title", ""), people + tagged, tags.get("album", ""), terms)


def _may_be_music(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    suffix = path.suffix.lower()
    if suffix in MODULE_SUFFIXES:
        return True
    if path.stat().st_size < _SMALLEST_BYTES.get(suffix, _SMALLEST_OTHER_BYTES):
        return False
    if suffix in _RECORDING_SUFFIXES:
        return True
    if suffix == "":
        with path.open("rb") as file:
            return file.read(4) == b"OggS"
    return False


@dataclass
class Search:
    """What came out of looking through one package.

    Attributes:
        found: Music.
        unreadable: Name inside the package and why, of files that no decoder takes.
    """

    found: list[Found] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def _candidates(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if _may_be_music(path))


def find_music(folder: Path, cache: Path) -> Search:
    """Looks for recordings of 30 s and more, and for tracker modules, in an unpacked package.

    Args:
        folder: The unpacked package.
        cache: Where the answer is kept, so that the next run does not look again.
    """
    if cache.is_file():
        content = json.loads(cache.read_text(encoding="utf-8"))
        found = [
            Found(**row | {"path": folder / row["name"], "people": tuple(row["people"])})
            for row in content["found"]
        ]
        return Search(found, [(name, why) for name, why in content["unreadable"]])
    search = _search(folder)
    rows = [{key: value for key, value in asdict(found).items() if key != "path"} for found in search.found]
    write_text(
        cache, json.dumps({"found": rows, "unreadable": search.unreadable}, ensure_ascii=False, indent=1)
    )
    return search


def _search(folder: Path) -> Search:
    search = Search()
    for path in _candidates(folder):
        name = str(path.relative_to(folder))
        try:
            found = _describe(path, name)
        except (UnreadableError, ValueError, ElementTree.ParseError) as error:
            search.unreadable.append((name, str(error)))
            continue
        if found is not None:
            search.found.append(found)
    return search
