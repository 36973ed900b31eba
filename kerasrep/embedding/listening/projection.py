"""Tracks as points of a plane, near where they are similar."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

#: Values that a track is brought to before the plane is looked for.
FIRST_AXES = 50
#: Points that take part in the search for a plane; others are put among their nearest ones.
MOST_UMAP, MOST_TSNE = 100_000, 10_000
#: With fewer points, their two main axes are the plane.
FEWEST = 8
#: Fewer points than this are placed by one thread.
FEW = 2_000
_NEAREST = 5


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
