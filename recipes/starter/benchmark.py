"""Tables of the development benchmark, one for each question and part, for `kerasrep-evaluate`.

A trunk that learnt from part A is scored on part B and the other way round; C is opened once. Probes are
fitted and scored inside a part, by cross-validation whose folds keep a group together: the stretches of a
piece, the notes whose samples are shared, the renderings of one style.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from files import write_table
from parts import PARTS, hash_order
from people import folded_name
from real_music import Piece
from rendered import Made
from tables import composer_label, one_spelling

FEWEST_GROUPS = 5
"""Pieces that a class needs: one for each fold."""

FEWEST_VOICES = 3
"""Groups of samples that a class of notes needs: two SoundFonts have some 13 to a family, in three parts."""

MOST_TEMPO_ITEMS = 300
Row = tuple[str, object, str]
"""Path, label, group."""


def with_enough_groups(rows: Iterable[Row], fewest: int = FEWEST_GROUPS) -> list[Row]:
    """Without the classes that have too few groups.

    >>> with_enough_groups([("a", "x", "1"), ("b", "x", "2")])
    []
    """
    rows = list(rows)
    groups = Counter(label for label, _ in {(label, group) for _, label, group in rows})
    return [row for row in rows if groups[row[1]] >= fewest]


def _real_rows(pieces: Sequence[Piece]) -> dict[str, list[Row]]:
    spelling = one_spelling(pieces)
    soundtrack = [(path, piece.package, piece.stretches[0]) for piece in pieces for path in piece.stretches]
    composer = [
        (path, spelling[folded_name(piece.composer)], piece.stretches[0])
        for piece in pieces
        if composer_label(piece)
        for path in piece.stretches
    ]
    return {"soundtrack": with_enough_groups(soundtrack), "composer": with_enough_groups(composer)}


def _made_rows(renderings: Made, notes: Made, part: str) -> dict[str, list[Row]]:
    def mine(made: Made) -> list[Mapping[str, object]]:
        return [row for row in made.labels if row["part"] == part]

    def rows(chosen: Iterable[Mapping[str, object]], label: str) -> list[Row]:
        return [(str(row["path"]), row[label], str(row["group"])) for row in chosen]

    steady = sorted(
        (row for row in mine(renderings) if row["tempo"]), key=lambda row: hash_order(str(row["path"]))
    )
    return {
        "note_family": with_enough_groups(
            rows((row for row in mine(notes) if not row["drum"]), "item"), FEWEST_VOICES
        ),
        "note_drum": with_enough_groups(
            rows((row for row in mine(notes) if row["drum"]), "item"), FEWEST_VOICES
        ),
        "tempo": sorted(rows(steady[:MOST_TEMPO_ITEMS], "tempo")),
    }


def write_benchmark(
    out: Path, pieces: Sequence[Piece], parts: Mapping[str, tuple[str, str]], renderings: Made, notes: Made
) -> None:
    """Writes benchmark/QUESTION_PART.tsv: path, label, group."""
    for part in PARTS:
        mine = [piece for piece in pieces if parts[piece.package][1] == part]
        questions = _real_rows(mine) | _made_rows(renderings, notes, part)
        for name, rows in questions.items():
            write_table(out / "benchmark" / f"{name}_{part.lower()}.tsv", ("path", "label", "group"), rows)
