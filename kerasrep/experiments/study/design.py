"""From the section `design` to the multi-source runs of a study, their table, and what they can tell.

The table has the form of the paper's authors: columns s1 ... s8, arc, n. s1 ... s8 are 0 or 1: self, bpm,
year, taste, tag, lyrics, cdr_tag, artist. `arc` is 1 to 5: MSS-CR, MS-CR@2, @4, @6, MS-SR@FC. `n` is the
number of sources, stated once more. A source of one's own has a column of its name, 0 or 1, beside those.
Other columns are ignored. What a design can tell is its balance, its D-efficiency beside random designs and
the full one, and aliasing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError, RecipeError
from kerasrep.experiments.study.cells import (
    Cell,
    Factors,
    all_cells,
    coordinate_neighbours,
    model_matrix,
    presence_matrix,
)
from kerasrep.experiments.study.exchange import d_optimal, log_determinant
from kerasrep.experiments.study.recipe import DesignSettings
from kerasrep.recipe.base import in_order
from kerasrep.storage.tables import read_table, write_table

#: Column -> source.
PUBLISHED = {f"s{number}": source for number, source in enumerate(constants.SOURCES, start=1)}
ARCS = dict(enumerate(constants.STRATEGIES[1:], start=1))
RANDOM_DESIGNS = 200


@dataclass(frozen=True)
class Design:
    """Multi-source runs that were chosen, and where from.

    Attributes:
        cells: In the order in which they are run: shuffled, so that an unfinished study is still balanced.
        factors: What differs between them.
        interactions: Of the model that they were chosen for.
        kind: How they were chosen.
        n_possible: How many there are to choose from.
        how: One sentence about the choice.
    """

    cells: tuple[Cell, ...]
    factors: Factors
    interactions: tuple[str, ...]
    kind: str
    n_possible: int
    how: str


def make_design(settings: DesignSettings) -> Design:
    """Choose the multi-source runs of a study; the same settings give the same design.

    Raises:
        RecipeError: Where there are too few or too many runs.
        DataError: Where a design file is malformed.
    """
    factors = Factors(settings.sources, settings.strategies, settings.min_sources)
    possible = all_cells(factors)
    if settings.runs is not None and settings.runs > len(possible):
        raise RecipeError(
            f"design.runs: {settings.runs}, but {len(possible)} runs are possible; give fewer, or kind: full"
        )
    match settings.kind:
        case "full":
            cells, how = possible, f"All {len(possible):,} possible runs."
        case "random":
            assert settings.runs is not None  # the recipe is checked
            rng = np.random.default_rng(settings.seed)
            cells = [possible[row] for row in rng.choice(len(possible), settings.runs, replace=False)]
            how = (
                f"{settings.runs} of {len(possible):,} possible runs, drawn at random (seed {settings.seed})."
            )
        case "d-optimal":
            cells, how = _d_optimal(settings, factors, possible)
        case "file":
            cells, how = _from_file(settings, factors)
    order = np.random.default_rng([settings.seed, 1]).permutation(len(cells))
    return Design(
        tuple(cells[place] for place in order),
        factors,
        settings.interactions,
        settings.kind,
        len(possible),
        how,
    )


def _d_optimal(settings: DesignSettings, factors: Factors, possible: list[Cell]) -> tuple[list[Cell], str]:
    assert settings.runs is not None  # the recipe is checked
    matrix = model_matrix(possible, factors, settings.interactions)
    chosen = d_optimal(
        matrix.values, coordinate_neighbours(possible, factors), settings.runs, settings.starts, settings.seed
    )
    how = (
        f"{settings.runs} of {len(possible):,} possible runs, each at most once, by coordinate exchange for "
        f"{len(matrix.names)} terms: the best of {settings.starts} starts (seed {settings.seed})."
    )
    return [possible[row] for row in np.sort(chosen.rows)], how


def _from_file(settings: DesignSettings, factors: Factors) -> tuple[list[Cell], str]:
    assert settings.file is not None  # the recipe is checked
    cells = read_design(Path(settings.file), factors.sources)
    for cell in cells:
        if cell.strategy not in factors.strategies or not set(cell.sources) <= set(factors.sources):
            raise DataError(
                f"{settings.file}: names {cell.strategy} with {', '.join(cell.sources)}, but design.sources "
                "or design.strategies leave that out"
            )
    return cells, f"{len(cells)} runs, read from {settings.file}."


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


@dataclass(frozen=True)
class Balance:
    """Counts of runs.

    Attributes:
        by_source: int [sources, strategies], runs that have the source.
        by_number: int [sources + 1, strategies], runs of so many sources.
        pairs: int [sources, sources], runs that have both; runs with a source on the diagonal.
        by_strategy: int [strategies].
    """

    by_source: NDArray[np.int64]
    by_number: NDArray[np.int64]
    pairs: NDArray[np.int64]
    by_strategy: NDArray[np.int64]


def balance_of(cells: Sequence[Cell], factors: Factors) -> Balance:
    """Count how often sources, numbers of sources and strategies go together."""
    presence = presence_matrix(cells, factors.sources)
    levels = np.array([factors.strategies.index(cell.strategy) for cell in cells], np.intp)
    strategy = np.eye(len(factors.strategies), dtype=np.int64)[levels]
    number = np.eye(len(factors.sources) + 1, dtype=np.int64)[presence.sum(axis=1)]
    return Balance(presence.T @ strategy, number.T @ strategy, presence.T @ presence, strategy.sum(axis=0))


def d_efficiency(rows: NDArray[np.float64]) -> float:
    """|X'X / rows| to the power 1 / columns: 1 for an orthogonal design, 0 for one that tells too little."""
    value = log_determinant(rows)
    n_rows, n_columns = rows.shape
    return math.exp(value / n_columns) / n_rows if math.isfinite(value) else 0.0


@dataclass(frozen=True)
class Efficiency:
    """D-efficiencies, from 0 to 1.

    Attributes:
        design: Of the design.
        full: Of all possible runs together.
        random: float64 [draws], of random designs of the same size.
        n_terms: Columns of the model.
        interactions: Of the model.
    """

    design: float
    full: float
    random: NDArray[np.float64]
    n_terms: int
    interactions: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What the numbers say."""
        median, best = float(np.median(self.random)), float(self.random.max())
        above = int((self.random < self.design).sum())
        return (
            f"The design's D-efficiency is {self.design:.1%}; {len(self.random)} random designs of its size "
            f"have a median of {median:.1%} and {best:.1%} at best, so it is above {above} of them. A study "
            f"of all possible runs would have {self.full:.1%}."
        )


def efficiency_of(design: Design) -> Efficiency:
    """D-efficiency of a design, of random ones of its size, and of all possible runs.

    The model is that which the design was made for; interactions that it cannot estimate are left out.
    """
    possible = all_cells(design.factors)
    interactions = design.interactions
    n_terms = len(model_matrix(possible[:1], design.factors, interactions).names)
    if n_terms > len(design.cells):
        interactions = ()
    candidates = model_matrix(possible, design.factors, interactions).values
    own = model_matrix(design.cells, design.factors, interactions).values
    rng = np.random.default_rng(0)
    size = min(len(design.cells), len(possible))
    draws = (rng.choice(len(possible), size, replace=False) for _ in range(RANDOM_DESIGNS))
    random = [d_efficiency(candidates[rows]) for rows in draws]
    return Efficiency(
        d_efficiency(own), d_efficiency(candidates), np.array(random), candidates.shape[1], interactions
    )


@dataclass(frozen=True)
class Aliasing:
    """Correlations between what the analysis wants to tell apart.

    Attributes:
        names: Sources, contrasts of the strategy, `number of sources`.
        correlations: float64 [names, names].
    """

    names: tuple[str, ...]
    correlations: NDArray[np.float64]

    def largest(self, count: int = 5) -> list[tuple[str, str, float]]:
        """The pairs of the largest correlations, the number of sources left out (it is a sum)."""
        pairs = [
            (one, other, float(self.correlations[i, j]))
            for i, one in enumerate(self.names[:-1])
            for j, other in enumerate(self.names[:-1])
            if i < j
        ]
        return sorted(pairs, key=lambda pair: -abs(pair[2]))[:count]


def aliasing_of(cells: Sequence[Cell], factors: Factors) -> Aliasing:
    """Correlations of main effects over some cells; 0 where a column does not vary."""
    matrix = model_matrix(cells, factors)
    number = presence_matrix(cells, factors.sources).sum(axis=1, dtype=np.float64)
    columns = np.column_stack([matrix.values[:, 1:], number])
    centred = columns - columns.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    scaled = centred / np.where(scale > 1e-12, scale, 1.0)
    return Aliasing((*matrix.names[1:], "number of sources"), scaled.T @ scaled)
