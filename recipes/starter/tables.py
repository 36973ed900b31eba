"""The label tables of the folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import CollectError, read_table, write_table
from parts import NOBODY, assign_parts, joined_groups
from people import folded_name
from real_music import Piece

TRACK_COLUMNS = ("path", "kind", "package", "group", "part", "piece", "seconds")
LICENCE_COLUMNS = ("path", "title", "author", "licence", "package", "source")


def _names(piece: Piece) -> list[str]:
    """What must stay together: the package and the composer."""
    composer = folded_name(piece.composer)
    return [f"package {piece.package}", *([] if composer in NOBODY else [f"person {composer}"])]


def parts_of_pieces(pieces: Sequence[Piece], fixed: Path) -> dict[str, tuple[str, str]]:
    """Group and part of each package, by the rule of parts.py and the parts that parts.tsv keeps.

    Raises:
        CollectError: A composer joins packages that were dealt to two parts.
    """
    group_of = joined_groups(_names(piece) for piece in pieces)
    packages: dict[str, str] = {}
    hours: dict[str, float] = defaultdict(float)
    for piece in pieces:
        group = group_of[f"package {piece.package}"]
        packages[piece.package] = group
        hours[group] += piece.seconds / 3600
    kept: dict[str, str] = {}
    for row in read_table(fixed) if fixed.is_file() else []:
        group = packages.get(row["package"])
        if group is not None and kept.setdefault(group, row["part"]) != row["part"]:
            raise CollectError(
                f"{fixed}: {row['package']} is in part {row['part']} and what shares a composer with it in "
                f"{kept[group]}; leave one of the pieces out in credits.tsv"
            )
    parts = assign_parts(hours, kept)
    return {package: (group, parts[group]) for package, group in packages.items()}


def composer_label(piece: Piece) -> str:
    """The composer as an item, empty where nobody is known."""
    return "" if folded_name(piece.composer) in NOBODY else piece.composer


def one_spelling(pieces: Sequence[Piece]) -> Mapping[str, str]:
    """For each folded composer the spelling that comes first in the alphabet."""
    spellings: dict[str, str] = {}
    for name in sorted(label for piece in pieces if (label := composer_label(piece))):
        spellings.setdefault(folded_name(name), name)
    return spellings


def write_real_tables(
    out: Path, pieces: Sequence[Piece], parts: Mapping[str, tuple[str, str]], made: Sequence[Sequence[object]]
) -> None:
    """Writes tracks, groups, soundtrack, composer and licences.

    Args:
        out: The folder.
        pieces: Real music.
        parts: Group and part of each package.
        made: Rows of tracks.tsv for renderings and notes.
    """
    spelling = one_spelling(pieces)
    tracks, soundtracks, composers, licences = [], [], [], []
    for piece in pieces:
        group, part = parts[piece.package]
        label = spelling.get(folded_name(piece.composer), "") if composer_label(piece) else ""
        seconds = round(piece.seconds / len(piece.stretches), 2)
        for path in piece.stretches:
            first = piece.stretches[0]
            tracks.append((path, "real", piece.package, group, part, first, seconds))
            soundtracks.append((path, piece.package))
            if label:
                composers.append((path, label))
            source = f"{piece.source}: {piece.name}"
            licences.append((path, piece.title, piece.author, piece.licence, piece.package, source))
    rows = [*tracks, *made]
    write_table(out / "tracks.tsv", TRACK_COLUMNS, rows)
    pieces_of = ((row[0], row[TRACK_COLUMNS.index("piece")] or row[0]) for row in rows)
    write_table(out / "groups.tsv", ("track", "group"), pieces_of)
    write_table(out / "soundtrack.tsv", ("path", "item"), soundtracks)
    write_table(out / "composer.tsv", ("path", "item"), composers)
    write_table(out / "licences.tsv", LICENCE_COLUMNS, licences)
