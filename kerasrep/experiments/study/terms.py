"""The two linear models of the analysis as columns.

Two, because the number of sources is the sum of their presences: one asks whether the number matters, the
other which sources do. Both have the strategy, coded as differences from the mean of the strategies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasrep.experiments.study.cells import expand
from kerasrep.experiments.study.scores import RunFacts
from kerasrep.report.wording import listing

#: So many runs more than columns are wanted before interactions enter a model.
SPARE_RUNS = 10
STRATEGY = "strategy"
_WORDS = {"n_sources": "the number of sources"}


@dataclass(frozen=True)
class Terms:
    """Columns of a model.

    Attributes:
        title: Of the model.
        names: Of the columns.
        values: float64 [runs, columns].
        slopes: Name -> columns whose effects may differ from task to task.
        strategies: Levels of the strategy; the last one's difference is minus the sum of the others'.
        left_out: What was meant to be in the model and could not be estimated; one sentence or none.
        aliased: Main effects that the runs cannot tell apart: such a model is not to be fitted.
    """

    title: str
    names: tuple[str, ...]
    values: NDArray[np.float64]
    slopes: dict[str, tuple[int, ...]]
    strategies: tuple[str, ...]
    left_out: str = ""
    aliased: tuple[str, ...] = ()

    def contrast(self, name: str) -> NDArray[np.float64]:
        """One column as weights over all columns."""
        vector = np.zeros(len(self.names))
        vector[self.names.index(name)] = 1.0
        return vector

    def strategy(self, name: str, of: str = "") -> NDArray[np.float64]:
        """What a strategy adds to the mean: of the score, or of the effect of column `of`."""
        vector = np.zeros(len(self.names))
        if len(self.strategies) < 2 or (of and f"{self.strategies[0]}:{of}" not in self.names):
            return vector
        levels = [f"{level}:{of}" if of else level for level in self.strategies[:-1]]
        columns = [self.names.index(level) for level in levels]
        if name == self.strategies[-1]:
            vector[columns] = -1.0
        else:
            vector[columns[self.strategies.index(name)]] = 1.0
        return vector


def number_terms(runs: Sequence[RunFacts], strategies: Sequence[str]) -> Terms:
    """Strategy, number of sources (centred, an effect for each source more), and their interaction."""
    number = np.array([len(run.sources) for run in runs], np.float64)
    number -= number.mean()
    main = {"n_sources": number} if number.any() else {}
    return _terms("strategy × number of sources", runs, strategies, main)


def presence_terms(
    runs: Sequence[RunFacts],
    strategies: Sequence[str],
    sources: Sequence[str],
    interactions: Sequence[str] = (),
) -> Terms:
    """Strategy, presence of each source (an effect of having it), and their interactions.

    Args:
        runs: Rows.
        strategies: Levels, in order.
        sources: In order.
        interactions: Those that the design was made for, as `cells.expand` reads them. Pairs of
            sources enter where they are named; all interactions of the strategy where there are runs enough,
            else those that are named.
    """
    main = {}
    for source in sources:
        present = np.array([source in run.sources for run in runs], np.float64)
        if 0 < present.sum() < len(runs):
            main[source] = present - 0.5
    named = expand(interactions, sources)
    return _terms("strategy × presence of each source", runs, strategies, main, named)


def _terms(
    title: str,
    runs: Sequence[RunFacts],
    strategies: Sequence[str],
    main: dict[str, NDArray[np.float64]],
    named: Sequence[tuple[str, str]] = (),
) -> Terms:
    used = tuple(s for s in strategies if any(run.strategy == s for run in runs))
    coded = _sum_coded(runs, used)
    columns = {"intercept": np.ones(len(runs)), **coded, **main}
    aliased = _aliased(columns, tuple(coded))
    left_out = ""
    if aliased:
        left_out = (
            f"The model '{title}' is not fitted: in these runs {listing(aliased)} vary together, so that "
            "their effects cannot be told apart."
        )
    else:
        crossed, missing = _interactions(columns, coded, main, named)
        columns |= crossed
        left_out = f"{title}: {missing}" if missing else ""
    names = tuple(columns)
    slopes = {STRATEGY: tuple(names.index(level) for level in coded)} if coded else {}
    effects = tuple(names.index(name) for name in main)
    if effects:
        slopes["number of sources" if tuple(main) == ("n_sources",) else "presence"] = effects
    return Terms(title, names, np.column_stack(list(columns.values())), slopes, used, left_out, aliased)


def _interactions(
    columns: dict[str, NDArray[np.float64]],
    coded: dict[str, NDArray[np.float64]],
    main: dict[str, NDArray[np.float64]],
    named: Sequence[tuple[str, str]],
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Columns of interactions: all of the strategy and the named ones, else the named ones, else none.

    Returns:
        The columns, and a sentence on what is left out.
    """

    def products(pairs: Iterable[tuple[str, str]]) -> dict[str, NDArray[np.float64]]:
        blocks = {name: {name: values} for name, values in main.items()} | {STRATEGY: coded}
        return {
            f"{name}:{other}": values * main[other]
            for one, other in pairs
            if other in main
            for name, values in blocks.get(one, {}).items()
        }

    every = products([*((STRATEGY, name) for name in main), *named])
    fixed = [f"{one}:{other}" for one, other in named if not products([(one, other)])]
    n_runs = len(columns["intercept"])
    crossed: dict[str, NDArray[np.float64]] = {}
    for tried in (every, products(named)):
        whole = np.column_stack([*columns.values(), *tried.values()])
        if n_runs >= whole.shape[1] + SPARE_RUNS and np.linalg.matrix_rank(whole) == whole.shape[1]:
            crossed = tried
            break
    missing = ""
    if fixed:
        missing = f" {listing(fixed)} cannot be estimated, as one of the two is the same in all runs."
    if len(crossed) == len(every):
        return crossed, missing.strip()
    which = "The interactions of the strategy"
    if named:
        which = "Interactions that the design does not name" if crossed else "All interactions"
    return crossed, (
        f"{which} are left out: {n_runs} runs cannot tell {len(columns) + len(every)} terms apart with "
        f"{SPARE_RUNS} runs to spare.{missing}"
    )


def _aliased(columns: dict[str, NDArray[np.float64]], levels: Sequence[str]) -> tuple[str, ...]:
    """Main effects that take part in a combination of columns that is 0 for every run.

    Args:
        columns: Name -> values, the intercept among them.
        levels: Names of the columns of the strategy, which count as one.
    """
    matrix = np.column_stack(list(columns.values()))
    rank = int(np.linalg.matrix_rank(matrix))
    if rank == matrix.shape[1]:
        return ()
    null = np.linalg.svd(matrix)[2][rank:]
    involved = [name for name, weights in zip(columns, null.T, strict=True) if (abs(weights) > 1e-6).any()]
    words = ["the strategy" if name in levels else _WORDS.get(name, name) for name in involved]
    return tuple(name for name in dict.fromkeys(words) if name != "intercept")


def _sum_coded(runs: Sequence[RunFacts], strategies: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """1 for a strategy, -1 for the last one, else 0."""
    if len(strategies) < 2:
        return {}
    last = np.array([run.strategy == strategies[-1] for run in runs], np.float64)
    return {
        level: np.array([run.strategy == level for run in runs], np.float64) - last
        for level in strategies[:-1]
    }
