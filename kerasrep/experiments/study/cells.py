"""Cells of a design: which sources under which strategy; all that are possible; their columns in a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

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


@dataclass(frozen=True)
class ModelMatrix:
    """Model columns of some cells.

    Attributes:
        names: Of the columns; the first is `intercept`.
        values: float64 [cells, columns].
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]


def model_matrix(cells: Sequence[Cell], factors: Factors, interactions: Sequence[str] = ()) -> ModelMatrix:
    """Columns of main effects and chosen interactions.

    Sources are coded -1 and 1, the strategy by orthogonal contrasts of mean square 1, so that a balanced
    design of orthogonal factors would have a D-efficiency of 100%.

    Args:
        cells: Rows.
        factors: Their factors.
        interactions: `strategy:SOURCE`, `SOURCE:SOURCE`; `sources` stands for each of them.
    """
    columns: dict[str, NDArray[np.float64]] = {"intercept": np.ones(len(cells))}
    presence = 2.0 * presence_matrix(cells, factors.sources) - 1.0
    main = {source: presence[:, [place]] for place, source in enumerate(factors.sources)}
    levels = [factors.strategies.index(cell.strategy) for cell in cells]
    main["strategy"] = _contrasts(len(factors.strategies))[levels]
    for name, block in main.items():
        columns |= _named(name, block)
    for one, other in expand(interactions, factors.sources):
        block = (main[one][:, :, None] * main[other][:, None, :]).reshape(len(cells), -1)
        columns |= _named(f"{one}:{other}", block)
    return ModelMatrix(tuple(columns), np.column_stack(list(columns.values())))


def expand(interactions: Sequence[str], sources: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of factors that the interactions name, each once, in the order of strategy and sources.

    `sources` is each source in turn. In which order they are named, and which of two stands first, is no
    matter.
    """
    named: set[frozenset[str]] = set()
    for name in interactions:
        one, other = name.split(":")
        for first in sources if one == "sources" else [one]:
            for second in sources if other == "sources" else [other]:
                named.add(frozenset((first, second)))
    return [pair for pair in combinations(("strategy", *sources), 2) if frozenset(pair) in named]


def _contrasts(n_levels: int) -> NDArray[np.float64]:
    """Helmert's contrasts [levels, levels - 1], orthogonal, of mean square 1 and mean 0."""
    contrasts = np.zeros((n_levels, n_levels - 1))
    for column in range(n_levels - 1):
        contrasts[: column + 1, column] = -1.0
        contrasts[column + 1, column] = column + 1.0
    scale = np.sqrt((contrasts**2).mean(axis=0))
    scaled: NDArray[np.float64] = contrasts / np.where(scale > 0, scale, 1.0)
    return scaled


def _named(name: str, block: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    if block.shape[1] == 1 and not name.startswith("strategy"):
        return {name: block[:, 0]}
    return {f"{name}[{number + 1}]": block[:, number] for number in range(block.shape[1])}
