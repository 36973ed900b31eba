"""Cells of a design: which sources under which strategy; and all that are possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Factors:
    """What can differ between multi-source runs.

    Attributes:
        sources: Each is in a run or not.
        strategies: Levels of the strategy.
        min_sources: Of a run.
    """

    sources: tuple[str, ...]
    strategies: tuple[str, ...]
    min_sources: int = 2


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        strategy: Of sharing.
        sources: In the order of the factors.
    """

    strategy: str
    sources: tuple[str, ...]

    def presence(self, sources: Sequence[str]) -> tuple[int, ...]:
        """1 for each of `sources` that is in the cell, else 0."""
        return tuple(int(source in self.sources) for source in sources)


def all_cells(factors: Factors) -> list[Cell]:
    """Every subset of at least `min_sources` sources under every strategy: 247 x 5 for the paper's."""
    subsets = [
        tuple(s for s, there in zip(factors.sources, bits, strict=True) if there)
        for bits in product((0, 1), repeat=len(factors.sources))
        if sum(bits) >= factors.min_sources
    ]
    return [Cell(strategy, subset) for strategy in factors.strategies for subset in subsets]


def presence_matrix(cells: Sequence[Cell], sources: Sequence[str]) -> NDArray[np.int64]:
    """0 and 1, int64 [cells, sources]."""
    return np.array([cell.presence(sources) for cell in cells], np.int64).reshape(len(cells), len(sources))


def coordinate_neighbours(cells: Sequence[Cell], factors: Factors) -> list[NDArray[np.intp]]:
    """For each of all possible cells, the places of those that differ in one coordinate.

    A coordinate is the presence of one source, or the strategy.
    """
    place = {cell: number for number, cell in enumerate(cells)}
    found = []
    for cell in cells:
        others = [
            Cell(strategy, cell.sources) for strategy in factors.strategies if strategy != cell.strategy
        ]
        for source in factors.sources:
            flipped = tuple(s for s in factors.sources if (s in cell.sources) != (s == source))
            others.append(Cell(cell.strategy, flipped))
        found.append(np.array([place[other] for other in others if other in place], np.intp))
    return found
