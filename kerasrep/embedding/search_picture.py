"""A picture of a search: a map of the index with queries and neighbours, and how similar these are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.reading import Table
from kerasrep.embedding.search import Query
from kerasrep.report.drawing import PALETTE, drawing, label, new_figure, write_png

#: Points of the index that are drawn; the map is fitted to them.
MAX_POINTS = 5000
#: Queries that are drawn.
MAX_QUERIES = 6
_LONGEST_NAME = 36


def draw_search(path: Path, table: Table, queries: Sequence[Query]) -> None:
    """Write a PNG: left the index on its two main axes, right bars of similarity, one colour per query.

    The map shows unit vectors, so that near points are similar; two axes show a part of what there is, which
    their labels say.
    """
    drawn = queries[:MAX_QUERIES]
    n_bars = sum(len(query.neighbours) for query in drawn) + 2 * len(drawn)
    with drawing():
        figure = new_figure(13, max(5.0, 1.2 + 0.24 * n_bars))
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        _draw_map(left, table, drawn)
        _draw_bars(right, drawn)
        if len(queries) > len(drawn):
            figure.supxlabel(f"the first {len(drawn)} of {len(queries)} queries", fontsize=9)
        write_png(path, figure, "Queries and their neighbours on a map of the index")


def _draw_map(axes: Any, table: Table, queries: Sequence[Query]) -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    n_rows = len(table.paths)
    chosen = np.arange(n_rows) if n_rows <= MAX_POINTS else np.sort(rng.choice(n_rows, MAX_POINTS, False))
    points = _unit(table.embeddings[chosen])
    fitted = np.concatenate([points, *(_unit(query.vector[None]) for query in queries)])
    pca = PCA(2, svd_solver="randomized", random_state=0).fit(fitted)
    axes.scatter(*pca.transform(points).T, s=10, color="0.75", linewidths=0, label="index")
    for number, query in enumerate(queries):
        colour = PALETTE[number]
        rows = [neighbour.row for neighbour in query.neighbours]
        place = pca.transform(_unit(query.vector[None]))[0]
        if rows:
            near = pca.transform(_unit(table.embeddings[rows]))
            axes.scatter(*near.T, s=45, color=colour, edgecolors="white", linewidths=0.7, zorder=3)
            for rank, (x, y) in enumerate(near, 1):
                axes.annotate(str(rank), (x, y), (4, 4), textcoords="offset points", fontsize=8, color=colour)
        star = {"marker": "*", "color": colour, "edgecolors": "black", "zorder": 4}
        axes.scatter(*place, s=220, label=f" {_name(query.path)}", **star)
    shares = 100 * pca.explained_variance_ratio_
    axes.set_xlabel(f"first axis, {shares[0]:.0f}% of the variance")
    axes.set_ylabel(f"second axis, {shares[1]:.0f}%")
    axes.set_title(f"{min(n_rows, MAX_POINTS)} of {n_rows} rows; stars: queries, numbers: neighbours")
    axes.legend(loc="best", fontsize=8)


def _draw_bars(axes: Any, queries: Sequence[Query]) -> None:
    position, ticks, names = 0, [], []
    lowest = min((n.similarity for query in queries for n in query.neighbours), default=0.0)
    for number, query in enumerate(queries):
        bold = {"weight": "bold", "va": "center", "color": PALETTE[number]}
        axes.text(0, position, _name(query.path), transform=axes.get_yaxis_transform(), **bold)
        position += 1
        for rank, neighbour in enumerate(query.neighbours, 1):
            axes.barh(position, neighbour.similarity, color=PALETTE[number], height=0.75)
            axes.text(neighbour.similarity, position, f" {neighbour.similarity:.4f}", fontsize=8, va="center")
            ticks.append(position)
            names.append(f"{rank}  {_name(neighbour.path)}")
            position += 1
        position += 1
    # Similarities are often close together, near 1: the axis begins below the lowest and says so.
    margin = max(0.02, 0.6 * (1 - lowest))
    axes.set_xlim(max(-1.0, lowest - margin), 1 + margin / 3)
    axes.set_ylim(position - 0.5, -1)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xlabel("cosine similarity (the axis does not begin at 0)")


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _name(path: Path | str) -> str:
    return label(Path(path).name, _LONGEST_NAME)
