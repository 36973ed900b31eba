"""HTML that escapes by default: only what `element` made passes as it is."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence

from kerasrep.report.wording import printable

_WITHOUT_END = frozenset({"img", "meta", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Markup:
    """One element; children and attributes are escaped, unless a child is an element itself.

    Args:
        tag: Name of the element.
        *children: What it holds.
        **attributes: An underscore at the end is dropped (`class_`), others become hyphens. An empty value
            gives the bare attribute (`open`).
    """
    start = tag
    for name, value in attributes.items():
        attribute = name.rstrip("_").replace("_", "-")
        start += f' {attribute}="{html.escape(printable(value))}"' if value else f" {attribute}"
    inner = "".join(map(_escaped, children))
    return Markup(f"<{start}>" if tag in _WITHOUT_END else f"<{start}>{inner}</{tag}>")


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], n_names: int = 1, caption: str = ""
) -> Markup:
    """A table that scrolls sideways by itself where the screen is narrow.

    Args:
        header: Columns.
        rows: Cells, text or elements.
        n_names: So many columns at the left are names, the others are numbers.
        caption: What the table shows; read aloud and shown above it.
    """
    side = ["name" if column < n_names else "number" for column in range(len(header))]
    head = element(
        "tr", *(element("th", c, scope="col", class_=s) for c, s in zip(header, side, strict=True))
    )
    body = [
        element(
            "tr",
            element("th", row[0] if isinstance(row[0], Markup) else breakable(row[0]), scope="row"),
            *_cells(row[1:], side[1:]),
        )
        for row in rows
    ]
    parts = [element("caption", caption)] if caption else []
    parts += [element("thead", head), element("tbody", *body)]
    return element("div", element("table", *parts), class_="scroll", tabindex="0")


def breakable(name: str) -> Markup:
    """A name that may be broken after its punctuation."""
    parts = re.split(r"(?<=[_/:.@-])", printable(name))
    return Markup(element("wbr").join(html.escape(part) for part in parts))


def image(content: bytes, kind: str, description: str, width_pixels: int) -> Markup:
    """A picture inside the page; as an image, an SVG can neither run scripts nor load anything."""
    data = base64.b64encode(content).decode()
    return element(
        "img",
        src=f"data:image/{kind};base64,{data}",
        alt=description,
        width=str(width_pixels),
        loading="lazy",
    )


def folded(summary: str, *children: str) -> Markup:
    """A part that opens on request."""
    return element("details", element("summary", summary), *children)


def _cells(contents: Sequence[str], side: Sequence[str]) -> list[Markup]:
    return [element("td", content, class_=s) for content, s in zip(contents, side, strict=True)]


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(printable(child))
