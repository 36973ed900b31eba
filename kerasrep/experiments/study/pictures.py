"""What the figures of a study share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep.experiments.study.effects import Effect
from kerasrep.report.drawing import GRID, INK, PALETTE, Picture, rendered_png, rendered_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 5.2  # letters stay readable where a phone shrinks it
ROW_INCHES = 0.27
MARKERS = ("o", "s", "^", "D", "v")
#: Diverging, and told apart by any colour blindness.
COLOURS = "RdBu_r"


def picture(
    name: str,
    title: str,
    sentence: str,
    figure: Figure,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> Picture:
    """A figure with its data and its sentence."""
    return Picture(name, title, sentence, rendered_png(figure, sentence), rendered_svg(figure), header, rows)


def grid(axes: Axes, axis: Literal["x", "y"] = "x") -> None:
    """Light lines behind the data."""
    axes.grid(axis=axis, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def colour(place: int) -> str:
    """Of the strategy at a place."""
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
    colours = COLOURS if around_zero else "Blues"
    low = -top if around_zero else 0.0
    axes.imshow(values, cmap=colours, vmin=low, vmax=top, aspect="auto")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if np.isfinite(value):
                dark = abs(value) > 0.62 * top
                text = (
                    f"{value:.{decimals}f}".replace("-0.0", "0.0")
                    if decimals == 1
                    else f"{value:.{decimals}f}"
                )
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else INK
                )
    axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def forest(axes: Axes, effects: Sequence[Effect], label: str) -> None:
    """Effects with their intervals, first above; filled where they are significant after correction."""
    places = range(len(effects))
    for place, effect in zip(places, effects, strict=True):
        tone = PALETTE[0] if effect.significant else "#777777"
        axes.plot([effect.low, effect.high], [place, place], color=tone, linewidth=1.6)
        axes.plot(
            [effect.value],
            [place],
            "o",
            color=tone,
            markersize=5,
            markerfacecolor=tone if effect.significant else "white",
        )
    axes.axvline(0.0, color="#555555", linewidth=0.9)
    axes.set_yticks(list(places), [effect.name.replace(" - ", " − ") for effect in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel(label)
    grid(axes)


EFFECT_HEADER = ("family", "effect", "value", "low", "high", "df", "p", "p_holm")


def effect_row(effect: Effect) -> tuple[Any, ...]:
    """An effect as a line of a table."""
    return (
        effect.family,
        effect.name,
        effect.value,
        effect.low,
        effect.high,
        effect.df,
        effect.p_value,
        effect.p_holm,
    )


def plain(effect: Effect) -> str:
    """`+0.31 [0.02, 0.60]`."""
    return f"{effect.value:+.2f} [{effect.low:.2f}, {effect.high:.2f}]"
