"""The whole state of a training in one NPZ file: vectors, position, sums of the open epoch, history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.storage.run_directory import read_arrays, write_arrays
from kerasrep.training.best import Best
from kerasrep.training.vectors import GroupState

FORMAT = 2


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        step: Steps done.
        sums: float64 [3, sources], loss, accuracy and uses since the epoch began.
        seconds: Time spent training, over all sessions.
        best: Choice -> its best state so far; see `kerasrep.training.best`.
        history: One mapping an epoch, epoch 0 being before training.
    """

    step: int
    sums: NDArray[np.float64]
    seconds: float = 0.0
    best: dict[str, Best] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, states: Mapping[str, GroupState], progress: Progress) -> None:
    """Write the state, whole or not at all."""
    meta = {
        "format": FORMAT,
        "step": progress.step,
        "seconds": progress.seconds,
        "best": {choice: asdict(best) for choice, best in progress.best.items()},
        "history": progress.history,
    }
    arrays: dict[str, NDArray[Any]] = {"meta": np.asarray(json.dumps(meta)), "sums": progress.sums}
    for state in states.values():
        arrays |= state.arrays()
    write_arrays(path, arrays)


def restore_state(path: Path, states: Mapping[str, GroupState], n_sources: int) -> Progress:
    """Read a state into the vectors of all replicas.

    Raises:
        DataError: Where the file is missing, malformed, or of another network.
    """
    arrays = read_arrays(path)
    expected = {"meta", "sums"} | {
        f"{state.name}.{part}" for state in states.values() for part in state.parts
    }
    odd = sorted(set(arrays) ^ expected)
    if odd:
        raise DataError(f"{path}: array '{odd[0]}' is missing or unknown; start again without --resume")
    for state in states.values():
        for part in state.parts:
            found, wanted = arrays[f"{state.name}.{part}"], state.first(part)
            if found.shape != tuple(wanted.shape) or found.dtype != np.float32:
                raise DataError(f"{path}: array '{state.name}.{part}' is of another network")
    try:
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != FORMAT or arrays["sums"].shape != (3, n_sources):
            raise DataError(f"{path}: was written by another version; start again without --resume")
        progress = Progress(
            step=int(meta["step"]),
            sums=arrays["sums"].astype(np.float64),
            seconds=float(meta["seconds"]),
            best={
                choice: Best(float(best["loss"]), int(best["epoch"])) for choice, best in meta["best"].items()
            },
            history=[  # under the names that figures have now
                {name.replace("_agreement/", "_accuracy/"): value for name, value in row.items()}
                for row in meta["history"]
            ],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: its description cannot be read; start again without --resume") from error
    for state in states.values():
        state.restore(arrays)
    return progress
