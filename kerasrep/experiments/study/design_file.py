"""Designs as CSV files in the form of the paper's authors: columns s1 ... s8, arc, n.

s1 ... s8 are 0 or 1: self, bpm, year, taste, tag, lyrics, cdr_tag, artist. `arc` is 1 to 5: MSS-CR, MS-CR@2,
@4, @6, MS-SR@FC. `n` is the number of sources, stated once more. A source of one's own has a column of its
name, 0 or 1, beside those. Other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.experiments.study.cells import Cell
from kerasrep.recipe.base import in_order
from kerasrep.storage.table_reader import read_table
from kerasrep.storage.tables import write_table

#: Column -> source.
PUBLISHED = {f"s{number}": source for number, source in enumerate(constants.SOURCES, start=1)}
ARCS = dict(enumerate(constants.STRATEGIES[1:], start=1))


def read_design(path: Path, sources: Sequence[str] = constants.SOURCES) -> list[Cell]:
    """Read the multi-source runs of a design; lines with one source are passed over.

    Single-source runs are part of every study anyway.

    Args:
        path: The table.
        sources: Of the study; those of one's own have columns.

    Raises:
        DataError: With file and line, where a line is not of the form, contradicts itself, or stands twice.
    """
    found: dict[Cell, str] = {}
    columns = _columns(sources)
    for place, fields in read_table(path, (*columns, "arc", "n")):
        cell = _cell(place, fields, columns)
        if len(cell.sources) == 1:
            continue
        if cell in found:
            raise DataError(f"{place}: is the same run as {found[cell]}; remove one of them")
        found[cell] = place
    if not found:
        raise DataError(f"{path}: holds no run of two sources or more")
    return list(found)


def write_design(path: Path, cells: Sequence[Cell]) -> None:
    """Write multi-source runs in the same form, in their order."""
    columns = _columns([source for cell in cells for source in cell.sources])
    arcs = {strategy: arc for arc, strategy in ARCS.items()}
    rows = [
        [*cell.presence(list(columns.values())), arcs[cell.strategy], len(cell.sources)] for cell in cells
    ]
    write_table(path, [*columns, "arc", "n"], rows)


def _columns(sources: Sequence[str]) -> dict[str, str]:
    return PUBLISHED | {source: source for source in in_order(sources) if source not in constants.SOURCES}


def _cell(place: str, fields: Sequence[str], columns: Mapping[str, str]) -> Cell:
    *flags, arc, number = fields
    for column, flag in zip(columns, flags, strict=True):
        if flag not in {"0", "1"}:
            raise DataError(f"{place}: column '{column}' has {flag[:40]!r}, 0 or 1 was expected")
    sources = tuple(s for s, flag in zip(columns.values(), flags, strict=True) if flag == "1")
    if not sources:
        raise DataError(f"{place}: has no source; one of s1 to s8 must be 1")
    if not (arc.isascii() and arc.isdecimal() and int(arc) in ARCS):
        raise DataError(f"{place}: column 'arc' has {arc[:40]!r}, a number from 1 to 5 was expected")
    if number != str(len(sources)):
        raise DataError(
            f"{place}: column 'n' has {number[:40]!r}, but {len(sources)} of s1 to s8 are 1; correct either"
        )
    return Cell(ARCS[int(arc)], sources)
