"""Kinds of figure that several reports draw: heat maps, and points with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep.report.drawing import GRID, INK, PALETTE
from kerasrep.report.wording import number

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
    texts: NDArray[np.str_] | None = None,
    limit: float | None = None,
    around_zero: bool = True,
    size: float = 7,
    turn: float = 45,
) -> None:
    """A heat map: coloured cells with texts.

    Args:
        axes: Where to draw.
        values: float64 [rows, columns]; cells that are NaN stay empty.
        rows: Their names.
        columns: Their names.
        texts: Of the cells; by default the values with one decimal.
        limit: The value of the darkest colour; by default the largest.
        around_zero: Whether colours are those of a scale with two ends, else they begin at 0.
        size: Of the letters in cells.
        turn: Angle of the columns' names.
    """
    top = limit or float(np.nanmax(np.abs(values))) or 1.0
    colours, low = (DIVERGING, -top) if around_zero else ("Blues", 0.0)
    axes.pcolormesh(values, cmap=colours, vmin=low, vmax=top, edgecolors="white", linewidth=0.4)
    axes.invert_yaxis()
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        text = number(value, 1) if texts is None else texts[row, column]
        tone = "white" if abs(value) > 0.6 * top else INK
        if text:
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=tone)
    turned: dict[str, Any] = {"rotation": turn, "ha": "right", "va": "center", "rotation_mode": "anchor"}
    axes.set_xticks(np.arange(len(columns)) + 0.5, list(columns), **turned)
    axes.set_yticks(np.arange(len(rows)) + 0.5, list(rows))
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
