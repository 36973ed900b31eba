"""What the scores of `kerasrep.evaluation.suite` depend on, and the keys that stored results are found by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kerasrep
from kerasrep.errors import RecipeError
from kerasrep.evaluation.base import Kind, LabelledData, Task, TaskData
from kerasrep.evaluation.neighbours import PROBE as NEIGHBOURS
from kerasrep.evaluation.probing.probes import CHANCE, PROBES
from kerasrep.recipe.schema import fingerprint

FORMAT_VERSION = 1  # raise it whenever the same embeddings and labels give other scores
FITTED_BY = ("numpy", "scipy", "scikit-learn")  # whose versions may change scores
#: Kinds that nothing of `PROBES` is for -> what judges them.
OTHERS: dict[str, tuple[str, ...]] = {"recommendation": ("wmf_features",), "neighbours": (NEIGHBOURS,)}


@dataclass(frozen=True)
class Options:
    """What scores depend on, beside data and representation.

    Attributes:
        probes: Names; `None` for all.
        n_folds: Folds, or repeats.
        seed: Of folds, probes and resampling.
        tune: Choose C on the training part.
        dense: Recommendation among active users and often played items only.
        shuffle_labels: Permute labels first, as a control.
        max_missing: Part of a task's items that may lack usable audio.
    """

    probes: tuple[str, ...] | None = None
    n_folds: int = 5
    seed: int = 0
    tune: bool = False
    dense: bool = False
    shuffle_labels: bool = False
    max_missing: float = 0.02


def check_probes(probes: Sequence[str] | None, option: str = "--probes") -> None:
    """Refuse a name that no kind of task knows.

    Args:
        probes: Names; `None` for all.
        option: How the user named them.

    Raises:
        RecipeError: Naming it.
    """
    known = [*dict.fromkeys(probe.name for probes in PROBES.values() for probe in probes)]
    known += [name for names in OTHERS.values() for name in names]
    known.remove(CHANCE)  # is always added
    for name in probes or ():
        if name not in known:
            raise RecipeError(f"{option}: there is no probe '{name}'; there are {', '.join(known)}")


def probes_of_kind(names: Sequence[str], kind: Kind) -> tuple[str, ...]:
    """The named probes that there are for a kind of task."""
    known = OTHERS[kind] if kind in OTHERS else [probe.name for probe in PROBES[kind]]
    return tuple(name for name in names if name in known and name != CHANCE)


def has_probe(names: Sequence[str] | None, kind: Kind) -> bool:
    """Whether any of the named probes is for a kind of task; all are where none is named."""
    return names is None or bool(probes_of_kind(names, kind))


def result_key(task: Task, data: TaskData, matrix: NDArray[np.float32], options: Options) -> str:
    """Sixteen hexadecimal digits that change with everything that scores depend on.

    Args:
        task: Which.
        data: The items that are used.
        matrix: float32 [items, dimension], their embeddings.
        options: Only those that matter for the kind of task count.
    """
    digest = hashlib.sha256(np.ascontiguousarray(matrix).data)
    parts: list[Any] = [data.item_ids, data.groups]
    depends: list[Any] = [options.n_folds, options.seed, options.shuffle_labels]
    if isinstance(data, LabelledData):
        parts += [data.labels, data.splits]
        depends += [options.tune, options.probes and probes_of_kind(options.probes, task.kind)]
    else:
        parts += [data.user_ids, np.asarray([data.k, data.held_out_fraction])]
        parts += [data.plays.data, data.plays.indices, data.plays.indptr]
    for part in parts:
        array = np.asarray([] if part is None else part)
        digest.update(f"{array.dtype.kind}{array.shape}".encode())
        digest.update(array.tobytes() if array.dtype.kind in "fi" else "\0".join(array).encode())
    depends += [FORMAT_VERSION, kerasrep.__version__, [metadata.version(name) for name in FITTED_BY]]
    return fingerprint([task.name, matrix.shape, depends, digest.hexdigest()])
