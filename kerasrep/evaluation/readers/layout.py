"""Where files of a data set may lie: mirrors move folders and change formats, lists keep the old names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kerasrep.errors import DataError
from kerasrep.evaluation.readers.split_list import Locate

#: In a data set's folder, read instead of the published split where it is there.
SPLIT_LIST = "split.tsv"
#: Formats in which mirrors keep audio, the most likely first.
AUDIO_ENDINGS = (".wav", ".mp3", ".au", ".flac", ".ogg", ".opus", ".m4a")


def split_list_of(folder: Path, named: Path | None) -> Path | None:
    """The list that the user has named, else the one in the folder, if any."""
    return named or first_there(folder, SPLIT_LIST)


def first_there(folder: Path, *names: str) -> Path | None:
    """The first of some files or folders that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def required(folder: Path, described_at: str, *names: str) -> Path:
    """The first of some files or folders that is there.

    Raises:
        DataError: Where none is; names all of them and the page of the data set.
    """
    found = first_there(folder, *names)
    if found is None:
        wanted = " or ".join(names)
        raise DataError(f"{folder}: has no {wanted}; the data set is described at {described_at}")
    return found


def audio_files(folder: Path) -> list[Path]:
    """Files with an ending of `AUDIO_ENDINGS` right in a folder, by name; hidden ones excepted."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in AUDIO_ENDINGS)
    return sorted(path for path in files if not path.name.startswith("."))


def locator(*folders: str) -> Locate:
    """A function that finds the audio of a listed path: as it is written, else moved, else in another format.

    Where a list and the published archive differ, they do so in leading folders and in the format. So the
    last two parts of the path (`000/000002.mp3`, `disco/disco.00038.au`) are looked for in `folders`, and
    then all places again with each of `AUDIO_ENDINGS`. Where nothing is found, the path in the first of
    `folders` is given, which is the published one.

    Args:
        folders: Folders of audio, relative to that of the data set; "" for itself.
    """

    def locate(audio: Path, name: PurePosixPath) -> Path:
        tail = PurePosixPath(*name.parts[-2:])
        places = [audio / name, *(audio / folder / tail for folder in folders)]
        others = (place.with_suffix(ending) for place in places for ending in AUDIO_ENDINGS)
        return next((place for place in (*places, *others) if place.is_file()), places[1])

    return locate
