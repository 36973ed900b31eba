"""What all figures share: how they are drawn, kinds that several reports draw, and what belongs to one."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep.errors import one_line
from kerasrep.report.wording import number, shorten
from kerasrep.storage.atomic import atomic_file
from kerasrep.storage.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
WIDTH_INCHES = 5.2  # letters stay readable where a phone shrinks it

#: Okabe and Ito's colours, which people with any colour blindness tell apart; yellow is too pale on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F7F7F")
HATCHES = ("", "///", "...", "xxx")
INK, GRID = "#222222", "#dddddd"

_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.parse_math": False,  # a class may be called "$1"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "svg.hashsalt": "kerasrep",  # equal figures, equal files
    "svg.fonttype": "path",
}
ROW_INCHES = 0.27
MARKERS = ("o", "s", "^", "D", "v")
#: Diverging, and told apart by any colour blindness.
DIVERGING = "RdBu_r"


@dataclass(frozen=True)
class Picture:
    """One figure with its data.

    Attributes:
        name: File name without suffix, relative to the folder of figures.
        title: What it shows.
        sentence: What can be seen in it, computed from the numbers.
        png: The picture.
        svg: The same in outlines, for the page; `None` where the PNG does as well.
        header: Columns of its data.
        rows: Its data.
    """

    name: str
    title: str
    sentence: str
    png: bytes
    svg: bytes | None
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def address(self) -> str:
        """The picture as an address that a page shows; as an image, an SVG runs no scripts."""
        kind, content = ("png", self.png) if self.svg is None else ("svg+xml", self.svg)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height on a page, at 96 dots an inch; outlines are shown larger."""
        scale = 96 / DPI * (1.0 if self.svg is None else 1.25)
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        return round(scale * width), round(scale * height)


def picture(
    name: str, title: str, sentence: str, figure: Figure, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Picture:
    """A figure with its sentence and its data; letters of the SVG are outlines."""
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(name, title, sentence, rendered_png(figure, sentence), svg.getvalue(), header, rows)


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Settings of all figures inside the block; Matplotlib's own are as before after it."""
    from matplotlib import rc_context

    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn instead
        import matplotlib

        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(
    width_inches: float, height_inches: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """A figure that pyplot knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


@contextlib.contextmanager
def one_panel(height_inches: float, width_inches: float = WIDTH_INCHES) -> Iterator[tuple[Figure, Axes]]:
    """A new figure and its only axes, drawn with the settings of all figures."""
    with drawing():
        figure = new_figure(width_inches, height_inches)
        yield figure, figure.add_subplot()


def rendered_png(figure: Figure, description: str) -> bytes:
    """PNG of a figure; equal figures give equal bytes."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Description": description, "Software": None})
    return png.getvalue()


def write_png(path: Path, figure: Figure, description: str) -> None:
    """Write a figure as PNG, whole or not at all."""
    png = rendered_png(figure, description)
    with atomic_file(path) as temporary:
        temporary.write_bytes(png)


def write_picture(folder: Path, picture: Picture) -> list[Path]:
    """Write a figure as PNG and its data as CSV, in `folder/plots`."""
    base = folder / "plots" / picture.name
    png, table = base.with_name(f"{base.name}.png"), base.with_name(f"{base.name}.csv")
    with atomic_file(png) as temporary:
        temporary.write_bytes(picture.png)
    write_table(table, picture.header, picture.rows)
    return [png, table]


def label(name: str, length: int = 24) -> str:
    """A name that fits beside an axis."""
    return shorten(one_line(name), length)


def look(place: int) -> dict[str, Any]:
    """Colour and hatch of the representation at a place; distinct for 28 of them."""
    rounds, colour = divmod(place, len(PALETTE))
    return {"color": PALETTE[colour], "hatch": HATCHES[rounds % len(HATCHES)]}


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
