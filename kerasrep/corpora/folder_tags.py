"""The tags of a folder's files as tables of labels, read once and kept until a file changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kerasrep.corpora.stored_labels import file_state
from kerasrep.errors import DataError
from kerasrep.recipe.schema import fingerprint
from kerasrep.sources.readers.tags import Tags, read_tags
from kerasrep.storage.run_directory import home, read_json, write_json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TagTables:
    """Tags as rows of tables.

    Attributes:
        root: Of the folder; named in errors.
        tags: Of its files, by track.
    """

    root: Path
    tags: Tags

    @classmethod
    def of(cls, root: Path, paths: Mapping[str, Path], progress: bool = False) -> TagTables:
        """Read the tags of all tracks, unless that is done and no file has changed since."""
        digits = fingerprint([FORMAT_VERSION, [[track, *file_state(path)] for track, path in paths.items()]])
        kept = home() / "tags" / f"{digits}.json"
        if kept.is_file():
            return cls(root, Tags(**read_json(kept)))
        tags = read_tags(list(paths.items()), progress)
        write_json(kept, asdict(tags))
        return cls(root, tags)

    def rows(
        self, name: str, key: str, several: bool, required: Sequence[str], optional: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[str]]]:
        """Rows as `read_table` gives them: track and value, then empty fields.

        Args:
            name: Field of the tags.
            key: What asks for it, in the recipe.
            several: Whether a track may have several values; its first one counts otherwise.
            required: Columns that are asked for.
            optional: The same.

        Raises:
            DataError: Where no file has the field.
        """
        by_track = self._field(name, key)
        number = 0
        for track, values in by_track.items():
            for value in values if several else values[:1]:
                number += 1
                yield (
                    f"{self.root}, tag {number}",
                    [track, value, *[""] * (len(required) + len(optional) - 2)],
                )

    def groups(self, fields: Sequence[str], tracks: Iterable[str]) -> dict[str, str]:
        """Track -> group: the first of `fields` that it has; `folder` is the one that the file lies in.

        Raises:
            DataError: Where no file has any of them, and `folder` is not among them.
        """
        found: dict[str, str] = {}
        for name in fields:
            values = self.tags.values.get(name, {})
            if name == "folder":
                values = {track: [Path(track).parent.as_posix()] for track in tracks if "/" in track}
            for track, texts in values.items():
                found.setdefault(track, f"{name} {texts[0]}")
        if not found and "folder" not in fields:
            self._field(fields[0], "corpus.groups")
        return found

    def _field(self, name: str, key: str) -> Mapping[str, list[str]]:
        by_track = self.tags.values.get(name)
        if not by_track:
            raise DataError(
                f"{self.root}: no file has the tag '{name}'; use a table, or remove {key} "
                f"({self.tags.describe()})"
            )
        return by_track
