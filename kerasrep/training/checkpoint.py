"""The whole state of a training in one NPZ file, and which of its states is the best.

The state has vectors, position, sums of the open epoch and history.

Where sources share anything, the best state is that of the lowest mean validation loss. Where they share
nothing (SS-R, MSS-CR), each source's network is one of its own, and each keeps the state of its own lowest
loss, as training them apart would: one that learns for long does not take another past its best.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import DataError
from kerasrep.model.restore import save_weights, weight_arrays
from kerasrep.model.strategies import SHARED, Network
from kerasrep.storage.run_directory import read_arrays, write_arrays
from kerasrep.training.vectors import GroupState

#: Name of the choice where all groups are kept together.
ALL = "all"
FORMAT = 2


@dataclass(frozen=True)
class Best:
    """The best state of one choice.

    Attributes:
        loss: Mean validation loss of its sources, nats.
        epoch: When it was reached.
    """

    loss: float
    epoch: int


def choices(network: Network) -> dict[str, tuple[str, ...]]:
    """Choice -> the sources whose mean loss decides it; one a source where nothing is shared."""
    if SHARED in network.groups:
        return {ALL: network.sources}
    return {source: (source,) for source in network.sources}


def choice_of(source: str, best: Mapping[str, Best]) -> Best:
    """The choice that decided about a source."""
    return best[source] if source in best else best[ALL]


def improved(
    network: Network,
    losses: Mapping[str, float],
    best: Mapping[str, Best],
    epoch: int,
    within_groups: Collection[str] = (),
    last: bool = False,
    few: Collection[str] = (),
) -> dict[str, Best]:
    """The choices that are better now than ever before; all of them where the last state is kept.

    Args:
        network: Says what is shared.
        losses: Source -> validation loss, nats, finite.
        best: What was best so far; empty before the first epoch.
        epoch: Now.
        within_groups: Sources that are validated on groups that are trained on; they decide for themselves
            alone.
        last: Whether the recipe keeps the last state.
        few: Sources of too few validation tracks to decide anything; where there are no others, the last
            state is kept.
    """
    found = {}
    for choice, sources in choices(network).items():
        enough = [source for source in sources if source not in few]
        deciding = [source for source in enough if source not in within_groups] or enough
        mean = float(np.mean([losses[source] for source in deciding or sources]))
        if last or not deciding or choice not in best or mean < best[choice].loss:
            found[choice] = Best(mean, epoch)
    return found


def keep(path: Path, network: Network, fill: Callable[[], None], chosen: Mapping[str, Best]) -> None:
    """Put the present weights of some choices into the file of the best ones, whole or not at all.

    Args:
        path: NPZ of all weights and statistics; choices that it holds and that are not `chosen` stay.
        network: Filled with the present weights.
        fill: Fills it.
        chosen: Choices that are better now.
    """
    fill()
    if set(chosen) == set(choices(network)):
        save_weights(path, network)
        return
    own = {variable.path for source in chosen for variable in network.variables(source)}
    present, before = weight_arrays(network), read_arrays(path)
    write_arrays(path, {name: value if name in own else before[name] for name, value in present.items()})


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        step: Steps done.
        sums: float64 [3, sources], loss, accuracy and uses since the epoch began.
        seconds: Time spent training, over all sessions.
        best: Choice -> its best state so far; see `kerasrep.training.checkpoint`.
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
