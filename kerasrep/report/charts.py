"""Kinds of figure that several reports draw: heat maps, and points with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep.report.drawing import GRID, INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES = 0.27
MARKERS = ("o", "s", "^", "D", "v")
#: Diverging, and told apart by any colour blindness.
DIVERGING = "RdBu_r"


def grid(axes: Axes, axis: Literal["x", "y", "both"] = "x") -> None:
    """Light lines behind the data."""
    axes.grid(axis=axis, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def colour(place: int) -> str:
    """The colour of the line at a place."""
    return PALETTE[place % len(PALETTE)]


def heat(
    axes: Axes,
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    decimals: int = 1,
    limit: float | None = None,
    around_zero: bool = True,
) -> None:
    """Numbers in coloured cells; NaN stays empty."""
    top = limit or float(np.nanmax(np.abs(values))) or 1.0
    colours, low = (DIVERGING, -top) if around_zero else ("Blues", 0.0)
    axes.imshow(values, cmap=colours, vmin=low, vmax=top, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        tone = "white" if abs(value) > 0.62 * top else INK
        text = f"{round(value, decimals) + 0.0:.{decimals}f}"  # never -0.0
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=tone)
    axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def forest(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float, float, bool]], label: str
) -> None:
    """Values with their intervals around zero, first above.

    Args:
        axes: Where to draw.
        names: One a point.
        points: Value, low, high, and whether it is significant: such points are filled.
        label: Of the axis.
    """
    for place, (value, low, high, significant) in enumerate(points):
        tone = PALETTE[0] if significant else "#777777"
        inside = tone if significant else "white"
        axes.plot([low, high], [place, place], color=tone, linewidth=1.6)
        axes.plot([value], [place], "o", color=tone, markersize=5, markerfacecolor=inside)
    axes.axvline(0.0, color="#555555", linewidth=0.9)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label)
    grid(axes)
