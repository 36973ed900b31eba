"""Finding the pieces in the wheels, and which of them are versions of one tune."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from kerasrep.corpora.demo import abc_notation, staff_notation
from kerasrep.corpora.demo.catalogue import COLLECTIONS, Collection
from kerasrep.corpora.demo.draws import digest
from kerasrep.errors import DataError

_INSTALL = 'install them with: pip install "kerasrep[demo]"'
_EXCLUDED = re.compile(r"_old\.|_bak\.|bwv846")  # superseded; a prelude among chorales
_CHORALE_INCIPIT_NOTES = 8
# Titles that name a kind of piece, not a tune.
_GENERIC = frozenset(
    (
        *("untitled", "air", "allegro", "cotillion", "country dance", "dance", "do", "gavotte", "gigg"),
        *("hornpipe", "irish air", "jig", "march", "minuet", "polka", "quick march", "quick step"),
        *("quickstep", "reel", "rondo", "scotch air", "slow air", "slow march", "song", "strathspey"),
        *("walk around", "waltz"),
    )
)
_MOVEMENT = re.compile(r"(gloria|credo|kyrie|sanctus|agnus dei|benedicamus)( \d+)?( pmfc.*)?")


@dataclass(frozen=True)
class Piece:
    """One piece that could become a track.

    Attributes:
        piece_id: Unique; letters, digits, hyphens.
        collection: Name of its collection.
        source: Path under music21's corpus folder.
        tune: Index of an ABC tune in its file; -1 where the file is one piece.
        title: For people.
        keys: Normalised titles and incipits; pieces that share one are versions of one tune.
    """

    piece_id: str
    collection: str
    source: str
    tune: int
    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """Versions of one tune, and which groups are reserved.

    Attributes:
        of_piece: Piece id -> group name.
        evaluation: Names of the groups that nothing may train on: a third of each collection's.
    """

    of_piece: dict[str, str]
    evaluation: frozenset[str]


def package_folder(name: str) -> Path:
    """Where a package lies, without importing it.

    Raises:
        DataError: It is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the demo corpus needs the package '{name}', which is missing; {_INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def score_folder() -> Path:
    """music21's folder of scores.

    Raises:
        DataError: music21 is missing, or was installed without its scores.
    """
    folder = package_folder("music21") / "corpus"
    if not (folder / "oneills1850").is_dir():
        raise DataError(f"{folder}: music21 was installed without its scores; {_INSTALL}")
    return folder


def sound_font() -> Path:
    """The General MIDI SoundFont of pretty_midi's wheel.

    Raises:
        DataError: pretty_midi or its SoundFont is missing.
    """
    path = package_folder("pretty_midi") / "TimGM6mb.sf2"
    if not path.is_file():
        raise DataError(f"{path}: pretty_midi was installed without its SoundFont; {_INSTALL}")
    return path


def find_pieces(collections: Iterable[Collection], folder: Path) -> list[Piece]:
    """All pieces of the collections, in a fixed order; unreadable ones are found out later."""
    pieces: list[Piece] = []
    for collection in collections:
        found = sorted({path for pattern in collection.patterns for path in folder.glob(pattern)})
        paths = {path.with_suffix(""): path for path in found}.values()  # some stand there in two formats
        for path in paths:
            if _EXCLUDED.search(path.name):
                continue
            source = path.relative_to(folder).as_posix()
            if collection.reader == "abc":
                pieces += _tunes(collection, path, source)
            else:
                pieces.append(_whole_file(collection, path, source))
    return pieces


def read_text(path: Path) -> str:
    """Text of an ABC file, UTF-8 or Latin-1."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def normalise_title(title: str) -> str:
    """What two spellings of one title share: no accents, case, articles, numbers of versions, subtitles."""
    text = unicodedata.normalize("NFKD", title.replace("’", "'"))
    text = "".join(mark for mark in text if not unicodedata.combining(mark)).lower()
    text = re.split(r"\s--|\(|\[", text)[0] or text
    text = re.sub(r"^(.*),\s*(the|a|an)\b\W*$", r"\2 \1", text).replace("'", "")
    words = re.findall(r"[^\W_]+", text)
    while words and words[0] in ("the", "a", "an"):
        words = words[1:]
    while len(words) > 1 and (
        words[-1].isdigit() or words[-1] in ("no", "version", "setting", "first", "second")
    ):
        words = words[:-1]
    return " ".join(words)


def group_pieces(pieces: Sequence[Piece]) -> Groups:
    """Join pieces that share a title or an incipit, and reserve a third of each collection's groups.

    The reserve depends on the pieces alone, not on any setting: what is held back once is always held back.
    """
    keys = {key: column for column, key in enumerate(sorted({key for piece in pieces for key in piece.keys}))}
    rows = [row for row, piece in enumerate(pieces) for _ in piece.keys]
    columns = [len(pieces) + keys[key] for piece in pieces for key in piece.keys]
    size = len(pieces) + len(keys)
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    _, labels = csgraph.connected_components(graph, directed=False)
    names: dict[int, str] = {}
    homes: dict[str, list[str]] = {collection.name: [] for collection in COLLECTIONS}
    of_piece = {}
    for piece, label in zip(pieces, labels, strict=False):
        if label not in names:
            names[label] = f"{piece.piece_id}: {normalise_title(piece.title)}"
            homes[piece.collection].append(names[label])
        of_piece[piece.piece_id] = names[label]
    evaluation = {
        name
        for groups in homes.values()
        for place, name in enumerate(sorted(groups, key=lambda name: digest("evaluation", name)))
        if place % 3 == 1
    }
    return Groups(of_piece, frozenset(evaluation))


def _tunes(collection: Collection, path: Path, source: str) -> list[Piece]:
    pieces = []
    for index, tune in enumerate(abc_notation.split_tunes(read_text(path))):
        titles = [title for title in tune.fields.get("T", []) if title]
        title = titles[0] if titles else "Untitled"
        keys = [f"title:{name}" for name in map(normalise_title, titles) if name and name not in _GENERIC]
        opening = abc_notation.incipit(tune)
        if opening:
            keys.append(f"incipit:{opening}")
        stem = _slug(path.stem)
        piece_id = f"{collection.name}-{stem}-{index:03d}"
        pieces.append(Piece(piece_id, collection.name, source, index, title, tuple(keys)))
    return pieces


def _whole_file(collection: Collection, path: Path, source: str) -> Piece:
    folder = path.parent.name
    stem = re.sub(r"^PMFC[_ ]\d+([_-]\d+[a-z]?)?[-_ ]", "", path.stem)
    title = stem.replace("_", " ").strip()
    keys: tuple[str, ...]
    if collection.name == "chamber":  # movements of one work stay together
        work = folder if re.match(r"(opus|k)\d", folder) else path.stem
        title = f"{path.relative_to(path.parents[1]).parts[0]} {path.stem}" if work == folder else title
        keys = (f"work:{collection.name}:{work}",)
    elif collection.name == "bach-chorales":
        keys = (f"title:{path.stem}", *_chorale_incipit(path))
    elif collection.name in ("monteverdi", "palestrina") or _MOVEMENT.fullmatch(normalise_title(title)):
        keys = (f"file:{collection.name}:{path.stem}",)
    else:
        keys = (f"title:{normalise_title(title)}",)
    return Piece(f"{collection.name}-{_slug(path.stem, folder)}", collection.name, source, -1, title, keys)


def _chorale_incipit(path: Path) -> tuple[str, ...]:
    """Diatonic steps of the first part's opening: Bach set many chorale tunes more than once."""
    try:
        text = staff_notation.text_of_musicxml(path)
    except (OSError, zipfile.BadZipFile):
        return ()
    first_part = text.partition("<part id=")[2].partition("</part>")[0]
    heights = [
        "CDEFGAB".index(step) + 7 * int(octave)
        for step, octave in re.findall(
            r"<step>([A-G])</step>\s*(?:<alter>[^<]*</alter>\s*)?<octave>(\d)</octave>", first_part
        )[: _CHORALE_INCIPIT_NOTES + 1]
    ]
    if len(heights) <= _CHORALE_INCIPIT_NOTES:
        return ()
    return ("chorale:" + ",".join(str(step) for step in np.diff(heights)),)


def _slug(stem: str, folder: str = "") -> str:
    """A file-safe word; a movement's file takes its folder's name along."""
    text = f"{folder}-{stem}" if stem.startswith("movement") else stem
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
