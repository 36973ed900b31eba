"""The names under which tables speak of the files of a folder."""

from __future__ import annotations

import functools
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

#: Names shown of each side where a table and a folder do not fit.
EXAMPLES = 3
_SEVERAL = -1


@dataclass(frozen=True)
class Keys:
    r"""Finds the file that a table means, as people and programs write paths.

    A file is named by its path relative to the folder, that path without its ending, its name alone, or the
    stem of its name, in this order, where that means one file. Unicode forms (NFC, NFD) are equal, `\\` is a
    `/` where no name has it, and absolute paths and `~` may lead into the folder. Where nothing is found so,
    it is tried without regard to case, then without leading folders of the written path: all of them for an
    absolute one, which another machine may have written, else all but the last.

    Attributes:
        tracks: Paths of all files relative to the folder, with `/` between their parts.
        root: The folder.
    """

    tracks: Sequence[str]
    root: Path

    def row(self, key: str) -> int | None:
        """Position of the file that `key` means; None where it means none, or several."""
        found = self.find(key)[0]
        return None if found == _SEVERAL else found

    def is_ambiguous(self, key: str) -> bool:
        """Whether `key` means several files."""
        return self.find(key)[0] == _SEVERAL

    def find(self, key: str) -> tuple[int | None, str]:
        """Position (negative where several files are meant), and what had to be overlooked, if anything."""
        for name in self._written(key):
            if name in self._exact:
                return self._exact[name], ""
        for name in self._written(key):
            if name.casefold() in self._folded:
                return self._folded[name.casefold()], "case"
        *_, name = self._written(key)
        parts = name.split("/")
        absolute = name.startswith("/") or parts[0].endswith(":")
        for first in range(1, len(parts) - (0 if absolute else 1)):
            tail = "/".join(parts[first:])
            if tail in self._whole:
                return self._whole[tail], "leading folders"
        return None, ""

    def examples(self) -> str:
        """Some names of files."""
        return ", ".join(repr(track) for track in self.tracks[:EXAMPLES])

    def _written(self, key: str) -> Iterator[str]:
        """Forms of what a table writes, the likeliest first."""
        key = unicodedata.normalize("NFC", key)
        yield key
        slashed = key.replace("\\", "/")
        if slashed.startswith("~"):
            try:
                slashed = str(Path(slashed).expanduser())
            except RuntimeError:  # there is no such home folder
                return
        if "/" not in slashed:
            return
        normal = posixpath.normpath(slashed)
        for root in (*self._roots, self.root.name):
            if normal.startswith(f"{root}/"):
                normal = normal[len(root) + 1 :]
                break
        yield normal

    @functools.cached_property
    def _roots(self) -> tuple[str, ...]:
        """The folder, absolute, as it is called and where links lead."""
        both = (self.root.absolute().as_posix(), self.root.resolve().as_posix())
        return tuple(unicodedata.normalize("NFC", posixpath.normpath(root)) for root in both)

    @functools.cached_property
    def _exact(self) -> dict[str, int]:
        return self._meanings(lambda name: name)

    @functools.cached_property
    def _folded(self) -> dict[str, int]:
        return self._meanings(str.casefold)

    @functools.cached_property
    def _whole(self) -> dict[str, int]:
        return {unicodedata.normalize("NFC", track): row for row, track in enumerate(self.tracks)}

    def _meanings(self, fold: Callable[[str], str]) -> dict[str, int]:
        """Name -> position; a whole path counts before a stem."""
        found: dict[str, int] = {}
        paths = [PurePosixPath(track) for track in self.tracks]
        stems, names = ([p.stem for p in paths], [p.name for p in paths])
        for level in (stems, names, [str(p.with_suffix("")) for p in paths], self.tracks):
            meanings: dict[str, int] = {}
            for row, track in enumerate(level):
                name = fold(unicodedata.normalize("NFC", track))
                meanings[name] = _SEVERAL if name in meanings else row
            found.update(meanings)
        return found


@dataclass
class Unnamed:
    """Names of a table that mean no file, and those that had to be guessed.

    Attributes:
        names: The first ones that mean none.
        guessed: What was overlooked -> how often.
    """

    names: list[str] = field(default_factory=list)
    guessed: dict[str, int] = field(default_factory=dict)

    def look(self, keys: Keys, key: str) -> int | None:
        """Position of a file, as `Keys.row`; keeps what people have to be told."""
        row, overlooked = keys.find(key)
        if row is None and len(self.names) < EXAMPLES:
            self.names.append(key)
        if overlooked and row != _SEVERAL:
            self.guessed[overlooked] = self.guessed.get(overlooked, 0) + 1
        return None if row == _SEVERAL else row

    def compared(self, keys: Keys) -> str:
        """Both sides where they do not fit, such as `'2', '3' against files such as '000002.mp3'`."""
        return f"{', '.join(repr(name[:80]) for name in self.names)} against files such as {keys.examples()}"


def files_below(folder: Path, endings: Iterable[str]) -> list[str]:
    """Paths, relative to a folder, of files at any depth with some endings; hidden ones excepted."""
    wanted = frozenset(endings)
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.suffix.lower() in wanted and not any(part.startswith(".") for part in relative.parts):
            found.append(relative.as_posix())
    return sorted(found)
