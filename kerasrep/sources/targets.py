"""Soft targets: every source's raw labels become points on a simplex, kept in one file.

`targets.npz` holds two arrays a source, `SOURCE.track_ids` (str [n]) and `SOURCE.target`
(float32 [n, size], rows sum to 1). `self` needs no targets and is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.run_directory import read_arrays, write_arrays

ROW_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SourceTargets:
    """Soft targets of one source.

    Attributes:
        track_ids: str [n], each once.
        target: float32 [n, size]; rows sum to 1.
    """

    track_ids: NDArray[np.str_]
    target: NDArray[np.float32]


@dataclass(frozen=True)
class TargetSet:
    """Soft targets of all sources that have labels.

    Attributes:
        sources: Source name -> targets, in the order of `constants.SOURCES`.
        report: Source name -> plain data for people: topics, components, sizes, what was left out.
    """

    sources: Mapping[str, SourceTargets]
    report: Mapping[str, Mapping[str, Any]]


def save_targets(path: Path, target_set: TargetSet) -> None:
    """Write `target_set.sources` to `path`, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    for source, targets in target_set.sources.items():
        arrays[f"{source}.track_ids"] = np.asarray(targets.track_ids, dtype=np.str_)
        arrays[f"{source}.target"] = np.asarray(targets.target, dtype=np.float32)
    write_arrays(path, arrays)


def load_targets(path: Path) -> dict[str, SourceTargets]:
    """Read soft targets and check them.

    Returns:
        Source name -> targets, in the order of `constants.SOURCES`.

    Raises:
        DataError: Where the file is missing or malformed, or rows are no points of a simplex.
    """
    arrays = read_arrays(path)
    sources = [source for source in constants.SOURCES if f"{source}.target" in arrays]
    expected = {f"{source}.{part}" for source in sources for part in ("track_ids", "target")}
    if set(arrays) != expected:
        odd = sorted(set(arrays) ^ expected)[0]
        raise DataError(
            f"{path}: array '{odd}' is missing or unknown; delete {path.parent} and prepare again"
        )
    loaded = {
        source: SourceTargets(arrays[f"{source}.track_ids"], arrays[f"{source}.target"]) for source in sources
    }
    for source, targets in loaded.items():
        fault = _fault(targets)
        if fault:
            raise DataError(f"{path}: source '{source}': {fault}; delete {path.parent} and prepare again")
    return loaded


def _fault(targets: SourceTargets) -> str | None:
    """What is wrong with the targets of one source, if anything."""
    track_ids, target = targets.track_ids, targets.target
    if track_ids.dtype.kind != "U" or track_ids.ndim != 1:
        return "track_ids is not a list of strings"
    if target.dtype != np.float32 or target.ndim != 2 or len(target) != len(track_ids):
        return f"target is {target.dtype} {list(target.shape)} for {len(track_ids)} tracks"
    if len(np.unique(track_ids)) != len(track_ids):
        return "a track stands twice"
    if not np.isfinite(target).all() or (target < 0).any():
        return "target has negative or non-finite values"
    sums = target.sum(axis=1, dtype=np.float64)
    if np.any(np.abs(sums - 1) > ROW_SUM_TOLERANCE):
        return "a row of target does not sum to 1"
    return None
