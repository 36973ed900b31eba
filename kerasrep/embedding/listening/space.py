"""How similar tracks are: cosines of centred vectors, and how rare such a similarity is.

Embeddings are never negative, so that plain cosines are high between all tracks. Without the mean of the
table they spread to both sides of 0. For maps, tracks become points of a plane, near where they are similar.
"""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.errors import DataError

#: Tables of fewer tracks are not centred: the mean of two rows makes opposites of them.
MIN_CENTRED_TRACKS = 8
#: Tracks whose similarities among each other are looked at; fewer where each has many rows.
SAMPLED_TRACKS, FEWEST_SAMPLED_TRACKS = 1500, 200
#: Shares of pairs at which their similarity is kept.
SHARES = np.linspace(0, 1, 2001)
#: Values that a track is brought to before the plane is looked for.
FIRST_AXES = 50
#: Points that take part in the search for a plane; others are put among their nearest ones.
MOST_UMAP, MOST_TSNE = 100_000, 10_000
#: With fewer points, their two main axes are the plane.
FEWEST = 8
#: Fewer points than this are placed by one thread.
FEW = 2_000
_NEAREST = 5


class Space:
    """All values of a table, or those of a branch.

    Attributes:
        name: Of the branch; empty for all values.
        is_centred: Whether the mean of the table is taken off.
    """

    def __init__(self, tracks: Tracks, name: str = "", columns: NDArray[np.int64] | None = None) -> None:
        self.name = name
        self._tracks, self._columns = tracks, columns
        self.is_centred = len(tracks.paths) >= MIN_CENTRED_TRACKS

    @functools.cached_property
    def _centre(self) -> NDArray[np.float32]:
        table = self._tracks.table.embeddings
        mean = table.mean(axis=0, dtype=np.float64) if self.is_centred else np.zeros(table.shape[1])
        return self._taken(mean.astype(np.float32))

    def _taken(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if self._columns is None else vectors[..., self._columns]

    def unit(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Centred and of length 1; one that is the mean itself stays 0.

        Args:
            vectors: float32 [..., dimension of the table].

        Returns:
            float32 [..., dimension].

        Raises:
            DataError: Where one is zero, and points nowhere.
        """
        taken = self._taken(vectors)
        if not self.name and not taken.any(axis=-1).all():
            raise DataError("an embedding is zero and points nowhere; embed the index with another model")
        centred = taken - self._centre
        lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(centred, lengths, out=centred, where=lengths > 0)
        return unit

    def between(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Similarity of rows of the table with the nearest of some vectors.

        Args:
            vectors: float32 [vectors, dimension of the table].
            rows: [rows].

        Returns:
            float32 [rows].
        """
        similarities = self.unit(self._tracks.table.embeddings[rows]) @ self.unit(vectors).T
        found: NDArray[np.float32] = similarities.max(axis=1)
        return found

    @functools.cached_property
    def quantiles(self) -> NDArray[np.float32]:
        """float32, at `SHARES`: similarities of pairs of tracks; of large tables, of some tracks.

        Rows that are segments are compared as a search does: the mean of one track with the nearest segment
        of the other.
        """
        tracks, rng = self._tracks, np.random.default_rng(0)
        n = len(tracks.paths)
        most = max(FEWEST_SAMPLED_TRACKS, SAMPLED_TRACKS * n // len(tracks.table.paths))
        chosen = np.arange(n) if n <= most else np.sort(rng.choice(n, most, False))
        if len(chosen) < 2:
            return np.zeros(len(SHARES), np.float32)
        rows = np.flatnonzero(np.isin(tracks.of_row, chosen))
        rows = rows[np.argsort(tracks.of_row[rows], kind="stable")]
        firsts = np.flatnonzero(np.diff(tracks.of_row[rows], prepend=-1))
        queries = self.unit(tracks.vectors[chosen])
        similarities = queries @ self.unit(tracks.table.embeddings[rows]).T
        of_pairs: NDArray[np.float32] = np.maximum.reduceat(similarities, firsts, axis=1)
        others = ~np.eye(len(chosen), dtype=bool)
        quantiles: NDArray[np.float32] = np.quantile(of_pairs[others], SHARES).astype(np.float32)
        return quantiles

    def percentile(self, similarities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Percent of the pairs of tracks that are less similar, in tenths, rounded down.

        It is 100 beyond all pairs alone. Similarities count as they are shown, to four decimals, so that
        equal ones have the same percentile. Tables of fewer than `MIN_CENTRED_TRACKS` have none: NaN.
        """
        if not self.is_centred:
            return np.full(len(similarities), np.nan)
        last = len(SHARES) - 1
        places = np.searchsorted(np.round(self.quantiles, 4), np.round(similarities, 4))
        shares = np.where(places > last, 1.0, SHARES[np.minimum(places, last - 1)])
        tenths: NDArray[np.float64] = np.floor(1000 * shares + 1e-6) / 10
        return tenths


def branch_spaces(tracks: Tracks) -> list[Space]:
    """A space for each branch, where the columns name several."""
    columns: dict[str, list[int]] = {}
    for number, name in enumerate(tracks.table.columns):
        parts = name.split("/")
        if len(parts) > 2 and parts[0] in ("mean", "sd"):
            del parts[0]
        columns.setdefault(parts[0], []).append(number)
    if len(columns) < 2 or not all("/" in name for name in tracks.table.columns):
        return []
    return [Space(tracks, name, np.array(numbers)) for name, numbers in columns.items()]


def plane(unit: NDArray[np.float32]) -> tuple[NDArray[np.float32], str]:
    """Places of points, the same in every call.

    Args:
        unit: float32 [points, dimension], of length 1 each.

    Returns:
        float32 [points, 2], and how they were found, in a sentence.
    """
    from sklearn.decomposition import PCA

    n = len(unit)
    if n < 2:
        return np.zeros((n, 2), np.float32), "One track alone."
    if not np.ptp(unit, axis=0).any():
        return np.zeros((n, 2), np.float32), "All tracks have the same vector."
    axes = PCA(min(FIRST_AXES, n, unit.shape[1]), svd_solver="randomized", random_state=0)
    reduced = axes.fit_transform(unit).astype(np.float32)
    if n < FEWEST:
        places = np.zeros((n, 2), np.float32)
        places[:, : reduced.shape[1]] = reduced[:, :2]
        return places, "The two main axes of the vectors (PCA)."
    umap = find_spec("umap") is not None
    most = MOST_UMAP if umap else MOST_TSNE
    chosen = np.arange(n) if n <= most else np.sort(np.random.default_rng(0).choice(n, most, False))
    places = _umap(reduced[chosen]) if umap else _tsne(reduced[chosen])
    how = f"{reduced.shape[1]} main axes (PCA), then {'UMAP' if umap else 't-SNE'}, seed 0"
    if n > most:
        places = _among_nearest(reduced, chosen, places)
        how += f" of {most:,} tracks; the others stand among their {_NEAREST} nearest of these"
    return places, f"{how}. Distances within a group mean more than those between groups."


def _umap(points: NDArray[np.float32]) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread
        from umap import UMAP

        # Its default start, by eigenvectors, does not always end.
        fitted = UMAP(n_neighbors=min(15, len(points) - 1), init="pca", random_state=0)
        return np.asarray(fitted.fit_transform(points), np.float32)


def _tsne(points: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    fitted = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="pca", random_state=0)
    # Threads that wait for each other make few points slow where other work runs.
    with threadpool_limits(1 if len(points) < FEW else None):
        return np.asarray(fitted.fit_transform(points), np.float32)


def _among_nearest(
    points: NDArray[np.float32], chosen: NDArray[np.int64], places: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Places of all points: the mean of those of the nearest chosen ones, the nearer the heavier."""
    from sklearn.neighbors import KNeighborsRegressor

    model = KNeighborsRegressor(_NEAREST, weights="distance").fit(points[chosen], places)
    found = np.asarray(model.predict(points), np.float32)
    found[chosen] = places
    return found
