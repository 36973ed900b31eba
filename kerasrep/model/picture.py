"""A picture of a strategy: which blocks are shared, which belong to a source, and their parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasrep import constants
from kerasrep.model.strategies import SHARED, Network
from kerasrep.storage.run_directory import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7", "fc", "head")
SHARED_COLOUR, BRANCH_COLOUR, HEAD_COLOUR = "#4c78a8", "#f2b35d", "#b7d7a8"


def describe_network(network: Network) -> str:
    """Text: parameters shared and per branch, and the layers of each group."""
    parameters = network.parameters()
    lines = [f"{network.strategy}: {sum(parameters.values()):,} parameters"]
    names = {g: "shared part" if g == SHARED else f"branch and head of {g}" for g in parameters}
    width = max(28, *map(len, names.values()))
    for group, count in parameters.items():
        lines.append(f"  {names[group]:<{width}} {count:>10,}  {' '.join(_levels(network, group))}")
    return "\n".join(lines)


def draw_strategy(network: Network, path: Path) -> None:
    """Draw the strategy as PNG, from the front end at the bottom to the heads at the top.

    Args:
        network: Of any strategy.
        path: Where the picture goes; written whole or not at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_sources = len(network.sources)
    figure = Figure(figsize=(max(5.0, 1.35 * n_sources + 1.5), 7.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.6, n_sources - 0.4)
    axes.set_ylim(-2.5, len(LEVELS) + 0.4)
    middle = (n_sources - 1) / 2
    _box(axes, middle, -2, n_sources, "waveform, 2.5 s stereo", "#dddddd")
    _box(axes, middle, -1, n_sources, "Kapre log-mel dB, standardised", "#dddddd")
    levels = {group: _levels(network, group) for group in network.groups}
    sizes = _level_sizes(network)
    for height, level in enumerate(LEVELS):
        if level in levels.get(SHARED, ()):
            _box(axes, middle, height, n_sources, f"{level}  {_number(sizes, SHARED, level)}", SHARED_COLOUR)
            continue
        for place, source in enumerate(network.sources):
            text = f"{level}\n{_number(sizes, source, level)}"
            _box(axes, place, height, 1, text, HEAD_COLOUR if level == "head" else BRANCH_COLOUR)
    for place, source in enumerate(network.sources):
        axes.text(place, len(LEVELS) - 0.35, source, ha="center", va="bottom", weight="bold")
    total = sum(network.parameters().values())
    axes.set_title(f"{network.strategy}: {total:,} parameters", fontsize=12)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (x - width / 2 + 0.06, y - 0.32), width - 0.12, 0.64, boxstyle="round,pad=0.02", facecolor=colour
    )
    axes.add_patch(box)
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


def _number(sizes: Mapping[tuple[str, str], int], group: str, level: str) -> str:
    return f"{sizes[group, level]:,}" if (group, level) in sizes else "frozen"


def _levels(network: Network, group: str) -> list[str]:
    """Levels of the network that a group holds."""
    n_shared = constants.N_SHARED_BLOCKS[network.strategy]
    shared_fc = network.branches == (SHARED,)
    if group == SHARED:
        return list(LEVELS[:n_shared]) + (["fc"] if shared_fc else [])
    return ["head"] if shared_fc else list(LEVELS[n_shared:])


def _level_sizes(network: Network) -> dict[tuple[str, str], int]:
    """Trainable values by group and level."""
    sizes: dict[tuple[str, str], int] = {}
    for group in network.groups:
        for variable in network.variables(group):
            if variable.trainable:
                name = variable.path.split("/")[0].removeprefix(f"{group}_").removesuffix("_bn")
                name = re.sub(r"^(conv\d)[a-z]+$", r"\1", name)  # parts of a residual block
                level = name if name in LEVELS else "head"
                sizes[group, level] = sizes.get((group, level), 0) + int(np.prod(variable.shape))
    return sizes
