"""Where audio and labels lie, which file each source is read from, what is known of tracks and artists."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import sparse

from kerasrep import constants
from kerasrep.corpora.stored_labels import LabelReader
from kerasrep.data.decoders.suffixes import read_suffixes
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import MillionSongCorpus
from kerasrep.sources.labels import CountLabels
from kerasrep.sources.readers import echonest, genres, lastfm_tags, metadata, musixmatch, track_values
from kerasrep.sources.readers.echonest import read_mismatches, read_plays
from kerasrep.sources.readers.genres import read_genres
from kerasrep.sources.readers.lastfm_tags import read_lastfm_tags
from kerasrep.sources.readers.metadata import TrackTable, read_track_metadata, read_unique_tracks
from kerasrep.sources.readers.musixmatch import read_lyrics, read_lyrics_text
from kerasrep.sources.readers.reading import Reading
from kerasrep.sources.readers.track_values import read_tempi, read_years
from kerasrep.storage.run_directory import user_path

_TRACK_ID = re.compile(r"TR[A-Z0-9]{1,38}")
#: Source -> kinds of files it needs; of a tuple, one.
NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "bpm": (("tempo",),),
    "year": (("years",),),
    "taste": (("plays",), ("tracks", "metadata")),
    "tag": (("tags",),),
    "lyrics": (("lyrics",),),
    "cdr_tag": (("genres",),),
    "artist": (("tags",), ("metadata", "tracks")),
}
#: Files that change what a source reads, beside those it needs.
_TABLES = ("metadata", "tracks")


def _zipped(name: str) -> tuple[str, ...]:
    """A text file may be plain or zipped: the plain one is preferred."""
    return (name, f"{name}.zip", f"{name.removesuffix('.txt')}.zip")


#: Which -> names it may have, the preferred one first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "metadata": (metadata.DATABASE,),
    "tracks": _zipped(metadata.TEXT_FILE),
    "tempo": _zipped(track_values.TEMPO_FILE),
    "years": _zipped(track_values.YEARS_FILE),
    "plays": _zipped(echonest.FILE),
    "mismatches": _zipped(echonest.MISMATCHES_FILE),
    "tags": (lastfm_tags.FILE,),
    "lyrics": (musixmatch.FILE, *_zipped(musixmatch.TEXT_FILES[0])),
    "genres": _zipped(genres.FILE),
}


@dataclass(frozen=True)
class Found:
    """What lies under the folder.

    Attributes:
        audio: Track id -> file, by id.
        labels: Which -> its file; the text form of lyrics may have two.
        skipped: Audio file -> why it is not used.
    """

    audio: Mapping[str, Path]
    labels: Mapping[str, tuple[Path, ...]]
    skipped: Mapping[str, str]


def find_files(root: Path, settings: MillionSongCorpus) -> Found:
    """Search `root`, and `settings.audio` where it is set.

    Raises:
        DataError: Where a folder or a file that was named is missing, a label file stands twice, or there
            is no audio.
    """
    audio_root = root if settings.audio is None else root / user_path(settings.audio)
    wanted = {name for names in NAMES.values() for name in names} | {
        name for text in musixmatch.TEXT_FILES for name in _zipped(text)
    }
    by_name: dict[str, list[Path]] = {}
    audio: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for path in _walk(root, "corpus.root"):
        if path.name in wanted:
            by_name.setdefault(path.name, []).append(path)
        elif audio_root == root:
            _take_audio(path, audio, skipped)
    if audio_root != root:
        for path in _walk(audio_root, "corpus.audio"):
            _take_audio(path, audio, skipped)
    if not audio:
        raise DataError(f"{audio_root}: holds no audio named by track id, such as TRMMMYQ128F932D901.mp3")
    return Found(dict(sorted(audio.items())), _label_files(root, settings, by_name), skipped)


def _walk(root: Path, key: str) -> Iterator[Path]:
    """All files at any depth, hidden ones left out, in an order that does not depend on the disk."""
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; set {key} to the folder of the Million Song Dataset")
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _take_audio(path: Path, audio: dict[str, Path], skipped: dict[str, str]) -> None:
    if path.suffix.lower() not in read_suffixes():
        return
    track = path.name.partition(".")[0]
    if not _TRACK_ID.fullmatch(track):
        skipped[str(path)] = "name is not a track id"
    elif track in audio:
        skipped[str(path)] = f"track is there already: {audio[track]}"
    else:
        audio[track] = path


def _label_files(
    root: Path, settings: MillionSongCorpus, by_name: Mapping[str, list[Path]]
) -> dict[str, tuple[Path, ...]]:
    """The files of each kind that there are."""

    def only(kind: str, names: tuple[str, ...]) -> Path | None:
        for name in names:
            places = by_name.get(name, [])
            if len(places) > 1:
                raise DataError(
                    f"{places[0]}: stands at {places[1]} as well; remove one, or set corpus.files.{kind}"
                )
            if places:
                return places[0]
        return None

    files: dict[str, tuple[Path, ...]] = {}
    for kind, names in NAMES.items():
        if kind in settings.files:
            path: Path | None = root / user_path(settings.files[kind])  # type: ignore[index]
            if path is not None and not path.exists():
                raise DataError(f"{path}: does not exist; correct corpus.files.{kind}")
        else:
            path = only(kind, names)
        if path is not None:
            files[kind] = (path,)
    if files.get("lyrics", (root,))[0].name in _zipped(musixmatch.TEXT_FILES[0]):
        second = only("lyrics", _zipped(musixmatch.TEXT_FILES[1]))
        files["lyrics"] += () if second is None else (second,)
    return files


class LabelFiles:
    """The label files of one root.

    Args:
        paths: Kind of file -> its files, one or, for lyrics, two.
        with_audio: Tracks whose title and artist's name are wanted.
        progress: Show bars.
    """

    def __init__(
        self, paths: Mapping[str, tuple[Path, ...]], with_audio: Container[str], progress: bool
    ) -> None:
        self._paths = paths
        self._with_audio = with_audio
        self._progress = progress
        self._tables: dict[str, TrackTable] = {}

    def missing(self) -> dict[str, str]:
        """Source -> which files were looked for."""
        found: dict[str, str] = {}
        for source, needs in NEEDS.items():
            for kinds in needs:
                if not any(kind in self._paths for kind in kinds):
                    names = " or ".join(name for kind in kinds for name in NAMES[kind])
                    keys = " or ".join(f"corpus.files.{kind}" for kind in kinds)
                    found[source] = f"looked for {names}; set {keys}"
                    break
        return found

    def artist_of(self, track: str) -> str | None:
        """Artist's id, or name where no file gives ids."""
        table = self._artist_table()
        return None if table is None else table.artists.get(track)

    def described(self, track: str) -> tuple[str, str]:
        """Title and artist's name, empty where unknown."""
        table = self._artist_table()
        return ("", "") if table is None else table.described.get(track, ("", ""))

    def notices(self) -> Iterator[str]:
        """What was skipped in the tables that were read so far, and a file whose lack does harm."""
        for kind in sorted(self._tables):
            yield from self._tables[kind].tally.notices()
        if "plays" in self._paths and "mismatches" not in self._paths:
            yield (
                f"{self._paths['plays'][0]}: no {NAMES['mismatches'][0]} was found, "
                "so plays of songs matched to wrong tracks are used"
            )

    def forget(self) -> None:
        """Free the memory of the tables; they are read again when needed."""
        self._tables.clear()

    def readers(self) -> dict[str, LabelReader]:
        """A reader for each source whose files are there."""
        missing = self.missing()
        tables = tuple(path for kind in _TABLES for path in self._paths.get(kind, ()))
        readers: dict[str, LabelReader] = {}
        for source in constants.SOURCES:
            if source in NEEDS and source not in missing:
                kinds = {kind for kinds in NEEDS[source] for kind in kinds} | (
                    {"mismatches"} if source == "taste" else set()
                )
                own = tuple(
                    path for kind in sorted(kinds - set(_TABLES)) for path in self._paths.get(kind, ())
                )
                readers[source] = LabelReader(own + tables, partial(self._read, source))
        return readers

    def _read(self, source: str) -> Reading:
        reads: Mapping[str, Callable[[], Reading]] = {
            "bpm": lambda: read_tempi(self._paths["tempo"][0], self._known(), self._progress),
            "year": lambda: read_years(self._paths["years"][0], self._known(), self._progress),
            "taste": self._taste,
            "tag": self._tags,
            "lyrics": self._lyrics,
            "cdr_tag": lambda: read_genres(self._paths["genres"][0], self._known(), self._progress),
            "artist": self._artist,
        }
        reading = reads[source]()
        tallies = [table.tally for table in self._tables.values() if table.tally.counts]
        return Reading(
            reading.labels,
            {**reading.skipped, **{str(tally.path): tally.counts for tally in tallies}},
            [*reading.notices, *(notice for tally in tallies for notice in tally.notices())],
        )

    def _table(self, *kinds: str) -> TrackTable | None:
        """The first of the tables that is there."""
        for kind in kinds:
            if kind in self._paths:
                if kind not in self._tables:
                    read = read_track_metadata if kind == "metadata" else read_unique_tracks
                    self._tables[kind] = read(self._paths[kind][0], self._with_audio, self._progress)
                return self._tables[kind]
        return None

    def _artist_table(self) -> TrackTable | None:
        return self._table("metadata", "tracks")

    def _known(self) -> Container[str] | None:
        """Tracks of the data set; None where no table says."""
        tables = [table for kind in _TABLES if (table := self._table(kind)) is not None]
        if not tables:
            return None
        return tables[0].artists if len(tables) == 1 else _Either(tables[0].artists, tables[1].artists)

    def _tags(self) -> Reading:
        return read_lastfm_tags(self._paths["tags"][0], self._known(), self._progress)

    def _lyrics(self) -> Reading:
        paths = self._paths["lyrics"]
        if paths[0].suffix.lower() in {".db", ".sqlite", ".sqlite3"}:
            return read_lyrics(paths[0], self._known(), self._progress)
        return read_lyrics_text(paths, self._known(), self._progress)

    def _taste(self) -> Reading:
        table = self._table("tracks", "metadata")
        assert table is not None
        mismatches = frozenset(
            pair
            for path in self._paths.get("mismatches", ())
            for pair in read_mismatches(path, self._progress)
        )
        return read_plays(self._paths["plays"][0], table.songs, mismatches, self._progress)

    def _artist(self) -> Reading:
        table = self._artist_table()
        assert table is not None
        reading = self._tags()
        assert isinstance(reading.labels, CountLabels)
        return Reading(artist_labels(reading.labels, table.artists, self._paths["tags"][0]))


class _Either(Container[str]):
    def __init__(self, first: Container[str], second: Container[str]) -> None:
        self._first, self._second = first, second

    def __contains__(self, track: object) -> bool:
        return track in self._first or track in self._second


def artist_labels(tags: CountLabels, artists: Mapping[str, str], where: Path) -> CountLabels:
    """Tags of all tracks of an artist added up; one document an artist, which all its tracks share.

    Source: Kim et al. 2018, arXiv 1802.04051, section 3.1.

    Args:
        tags: Documents are tracks.
        artists: Track -> artist, of every track; those without tags get their artist's document.
        where: The file of tags, for the error.

    Raises:
        DataError: Where no tagged track has an artist.
    """
    documents: dict[str, int] = {}
    pairs = [
        (documents.setdefault(artists[track], len(documents)), row)
        for track, row in zip(tags.track_ids, tags.documents.tolist(), strict=True)
        if track in artists
    ]
    if not pairs:
        raise DataError(f"{where}: no tagged track has a known artist; are the files of one data set?")
    rows, columns = np.array(pairs, np.int64).T
    members = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns)), shape=(len(documents), tags.counts.shape[0])
    )
    labelled = [(track, documents[artist]) for track, artist in artists.items() if artist in documents]
    return CountLabels(
        sparse.csr_matrix(members @ tags.counts),
        tags.terms,
        [track for track, _ in labelled],
        np.array([row for _, row in labelled], np.int64),
    )
