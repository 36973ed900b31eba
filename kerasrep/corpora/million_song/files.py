"""Where audio and label files lie: one walk through the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kerasrep.data.decoders.suffixes import read_suffixes
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import MillionSongCorpus
from kerasrep.sources.readers import echonest, genres, lastfm_tags, metadata, musixmatch, tempo, years
from kerasrep.storage.run_directory import user_path


def _zipped(name: str) -> tuple[str, ...]:
    """A text file may be plain or zipped: the plain one is preferred."""
    return (name, f"{name}.zip", f"{name.removesuffix('.txt')}.zip")


#: Which -> names it may have, the preferred one first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "metadata": (metadata.DATABASE,),
    "tracks": _zipped(metadata.TEXT_FILE),
    "tempo": _zipped(tempo.FILE),
    "years": _zipped(years.FILE),
    "plays": _zipped(echonest.FILE),
    "mismatches": _zipped(echonest.MISMATCHES_FILE),
    "tags": (lastfm_tags.FILE,),
    "lyrics": (musixmatch.FILE, *_zipped(musixmatch.TEXT_FILES[0])),
    "genres": _zipped(genres.FILE),
}
_TRACK_ID = re.compile(r"TR[A-Z0-9]{1,38}")


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
