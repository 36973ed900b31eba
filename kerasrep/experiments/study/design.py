"""From the section `design` to the multi-source runs of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrep.errors import DataError, RecipeError
from kerasrep.experiments.study.cells import Cell, Factors, all_cells, coordinate_neighbours
from kerasrep.experiments.study.design_file import read_design
from kerasrep.experiments.study.exchange import d_optimal
from kerasrep.experiments.study.model_matrix import model_matrix
from kerasrep.experiments.study.recipe import DesignSettings


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
            cells, how = _random(settings, possible)
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


def _random(settings: DesignSettings, possible: list[Cell]) -> tuple[list[Cell], str]:
    assert settings.runs is not None  # the recipe is checked
    rng = np.random.default_rng(settings.seed)
    rows = rng.choice(len(possible), settings.runs, replace=False)
    how = f"{settings.runs} of {len(possible):,} possible runs, drawn at random (seed {settings.seed})."
    return [possible[row] for row in rows], how


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
