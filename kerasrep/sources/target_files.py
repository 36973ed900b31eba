"""The file that targets are kept in: arrays of an uncompressed NPZ, named `SOURCE.PART`.

Every source has `track_ids` (str [n]) and `kind` (str []). Topics and mixtures have `target` (float32
[n, size], rows sum to 1). Classes, labels, numbers and vectors have the rows of `stretches.Stretches`:
`first` (int64 [n + 1]), `values` (int32 [rows], or float32 [rows, size]), `size` (int64 []), and, where they
are timed, `start`, `end` and `reach` (float64 [rows], seconds) and `gaps_negative` (bool []). `self` needs no
targets and is not in it. Files of former versions have no `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.recipe.base import in_order
from kerasrep.sources.stretches import STRETCH_KINDS, Stretches, Times
from kerasrep.sources.targets import SourceTargets, TargetSet
from kerasrep.storage.mapped_arrays import map_arrays, release
from kerasrep.storage.run_directory import write_arrays

ROW_SUM_TOLERANCE = 1e-6
ROWS_AT_ONCE = 1 << 16  # of a check
_TIMES = ("start", "end", "reach")
#: Parts of a source -> kinds of dtype, dimensions.
_PARTS = {
    "track_ids": ("U", 1),
    "kind": ("U", 0),
    "target": ("f", 2),
    "first": ("i", 1),
    "size": ("i", 0),
    "gaps_negative": ("b", 0),
    **dict.fromkeys(_TIMES, ("f", 1)),
}

_Arrays = Mapping[str, NDArray[Any]]


def save_targets(path: Path, target_set: TargetSet) -> None:
    """Write `target_set.sources` to `path`, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    for source, targets in target_set.sources.items():
        parts = {"track_ids": np.asarray(targets.track_ids, dtype=np.str_), "kind": np.asarray(targets.kind)}
        if targets.stretches is None:
            parts["target"] = np.asarray(targets.target, dtype=np.float32)
        else:
            parts |= _parts(targets.stretches)
        arrays |= {f"{source}.{part}": array for part, array in parts.items()}
    write_arrays(path, arrays)


def _parts(stretches: Stretches) -> dict[str, NDArray[Any]]:
    parts = {"first": stretches.first, "values": stretches.values, "size": np.asarray(stretches.size)}
    if stretches.times is not None:
        parts |= {name: getattr(stretches.times, name) for name in _TIMES}
        parts["gaps_negative"] = np.asarray(stretches.gaps_negative)
    return parts


def load_targets(path: Path) -> dict[str, SourceTargets]:
    """Open targets and check them; their arrays stay in the file.

    Returns:
        Source name -> targets, in the order of `recipe.base.in_order`.

    Raises:
        DataError: Where the file is missing or malformed, or rows are no points of a simplex.
    """
    by_source: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in map_arrays(path).items():
        source, _, part = name.partition(".")
        by_source.setdefault(source, {})[part] = array
    loaded = {}
    for source in in_order(by_source):
        arrays = by_source[source]
        fault = _fault_of_parts(arrays)
        if fault is None:
            loaded[source] = _targets(source, arrays)
            fault = _fault(loaded[source])
        if fault is not None:
            raise DataError(f"{path}: source '{source}': {fault}; delete {path.parent} and prepare again")
        for array in arrays.values():
            release(array)
    return loaded


def _targets(source: str, arrays: _Arrays) -> SourceTargets:
    default = "mixture" if source in constants.VALUE_SOURCES else "topics"
    kind: Any = str(arrays.get("kind", default))
    if "target" in arrays:
        return SourceTargets(arrays["track_ids"], arrays["target"], kind)
    times = Times(*(arrays[name] for name in _TIMES)) if "start" in arrays else None
    negative = bool(arrays.get("gaps_negative", False))
    size = int(arrays["size"])
    stretches = Stretches(kind, size, arrays["first"], arrays["values"], times, negative)
    return SourceTargets.of_stretches(arrays["track_ids"], stretches)


def _fault_of_parts(arrays: _Arrays) -> str | None:
    """What is wrong with the arrays of one source, each by itself."""
    parts = (
        {"track_ids", "target"} if "target" in arrays else {"track_ids", "kind", "first", "values", "size"}
    )
    if "start" in arrays:
        parts |= {*_TIMES, "gaps_negative"}
    odd = sorted((parts ^ set(arrays)) - ({"kind"} if "target" in arrays else set()))
    if odd:
        return f"array '{odd[0]}' is missing or unknown"
    for part, array in arrays.items():
        kind, dimensions = _PARTS.get(part, (array.dtype.kind, array.ndim))
        if part == "track_ids" and (array.dtype.kind, array.ndim) != (kind, dimensions):
            return "track_ids is not a list of strings"
        if (array.dtype.kind, array.ndim) != (kind, dimensions):
            return f"array '{part}' has dtype {array.dtype} and {array.ndim} dimensions"
    if "target" not in arrays and str(arrays["kind"]) not in STRETCH_KINDS:
        return f"has the unknown kind '{arrays['kind']}'"
    return None


def _fault(targets: SourceTargets) -> str | None:
    """What is wrong with the targets of one source, if anything."""
    if len(np.unique(targets.track_ids)) != len(targets.track_ids):
        return "a track stands twice"
    if targets.stretches is not None:
        return _fault_of_stretches(targets.stretches, len(targets.track_ids))
    track_ids, target = targets.track_ids, targets.target
    if target.dtype != np.float32 or len(target) != len(track_ids):
        return f"target is {target.dtype} {list(target.shape)} for {len(track_ids)} tracks"
    parts = [target[first : first + ROWS_AT_ONCE] for first in range(0, len(target), ROWS_AT_ONCE)]
    if not all(np.isfinite(part).all() and (part >= 0).all() for part in parts):
        return "target has negative or non-finite values"
    if any(np.any(np.abs(part.sum(axis=1, dtype=np.float64) - 1) > ROW_SUM_TOLERANCE) for part in parts):
        return "a row of target does not sum to 1"
    return None


def _fault_of_stretches(stretches: Stretches, n_tracks: int) -> str | None:
    first, values, times = stretches.first, stretches.values, stretches.times
    if len(first) != n_tracks + 1 or first[0] != 0 or np.any(np.diff(first) < 0) or first[-1] != len(values):
        return f"'first' does not divide {len(values)} rows among {n_tracks} tracks"
    if times is not None and len({len(values), len(times.start), len(times.end), len(times.reach)}) != 1:
        return "rows and their times differ in number"
    parts = [values[first : first + ROWS_AT_ONCE] for first in range(0, len(values), ROWS_AT_ONCE)]
    if stretches.kind in ("classes", "labels"):
        sound = values.ndim == 1 and values.dtype.kind == "i"
        sound = sound and all(((part >= 0) & (part < stretches.size)).all() for part in parts)
    else:
        sound = values.ndim == 2 and values.dtype == np.float32 and values.shape[1] == stretches.size
        sound = sound and all(np.isfinite(part).all() for part in parts)
    return None if sound else f"values are no {stretches.kind} of size {stretches.size}"
