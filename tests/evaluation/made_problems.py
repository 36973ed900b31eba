"""Small labelled tasks with embeddings that know something of the labels."""

from pathlib import Path

import numpy as np

from kerasrep.evaluation.base import LabelledData


def problem(kind, n_items=100, dimension=20, noise=1.5, splits=None, groups=None, seed=0):
    """Data and float32 embeddings from which its labels can be told now and then."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_items, 3))
    embeddings = hidden @ rng.normal(size=(3, dimension)) + noise * rng.normal(size=(n_items, dimension))
    labels = 100 + 30 * hidden[:, 0] if kind == "regression" else np.array(list("abc"))[hidden.argmax(axis=1)]
    data = LabelledData(
        tuple(f"item{i}" for i in range(n_items)),
        (Path("a.wav"),) * n_items,
        labels,
        None if splits is None else np.array(splits),
        None if groups is None else np.array(groups),
    )
    return data, embeddings.astype(np.float32)
