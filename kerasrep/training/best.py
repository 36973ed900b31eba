"""Which state of a training is the best, and keeping it.

Where sources share anything, the best state is that of the lowest mean validation loss. Where they share
nothing (SS-R, MSS-CR), each source's network is one of its own, and each keeps the state of its own lowest
loss, as training them apart would: one that learns for long does not take another past its best.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrep.model.restore import save_weights, weight_arrays
from kerasrep.model.strategies import SHARED, Network
from kerasrep.storage.run_directory import read_arrays, write_arrays

#: Name of the choice where all groups are kept together.
ALL = "all"


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
