"""A table as data: pages and terminals show the same one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kerasrep.errors import one_line
from kerasrep.report.wording import display_width, interval, number, shorten

MISSING = "-"
GAP = "  "
WIDEST_NAME = 24


@dataclass(frozen=True)
class Estimate:
    """A cell with a value and its interval.

    Attributes:
        value: The value.
        low: Lower end of the interval.
        high: Upper end.
        decimals: How many are shown.
        best: Whether it is the best of its row.
    """

    value: float
    low: float
    high: float
    decimals: int
    best: bool = False

    @property
    def text(self) -> str:
        """The value alone: `0.712`."""
        return number(self.value, self.decimals)

    @property
    def interval(self) -> str:
        """The ends of its interval: `[0.681, 0.743]`."""
        return interval(self.low, self.high, self.decimals)

    def __str__(self) -> str:
        """`0.712 [.68, .74]`: so short that three of them fit beside names into 100 columns."""
        ends = interval(self.low, self.high, max(0, self.decimals - 1))
        return f"{self.text} {re.sub(r'(?<![0-9])0[.]', '.', ends)}"


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Names of the columns.
        rows: Cells, as many as columns.
        n_names: The first columns hold names, the others numbers, which stand at the right.
        caption: What the table shows, where no sentence beside it says so.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    n_names: int = 1
    caption: str = ""

    def as_text(self, width: int, widest_name: int = WIDEST_NAME) -> str:
        """Aligned columns for a terminal.

        Args:
            width: Columns of the terminal. A wider table is cut into blocks of whole columns, each with the
                names.
            widest_name: Columns that a longer name of a row or of a column of numbers is shortened to.
        """
        lines = [[one_line(str(cell)) for cell in row] for row in (self.header, *self.rows)]
        lines[0] = [shorten(c, widest_name) if i >= self.n_names else c for i, c in enumerate(lines[0])]
        lines[1:] = [[shorten(row[0], widest_name), *row[1:]] for row in lines[1:]]
        widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
        blocks = [
            "\n".join(self._line(line, [*range(self.n_names), *columns], widths) for line in lines)
            for columns in self._blocks(widths, width)
        ]
        return "\n\n".join(blocks)

    def _blocks(self, widths: Sequence[int], width: int) -> list[list[int]]:
        """Columns of numbers that fit beside the names, block by block."""
        names = sum(widths[: self.n_names]) + len(GAP) * self.n_names
        blocks: list[list[int]] = [[]]
        used = names
        for column in range(self.n_names, len(widths)):
            if blocks[-1] and used + widths[column] > width:
                blocks.append([])
                used = names
            blocks[-1].append(column)
            used += widths[column] + len(GAP)
        return blocks

    def _line(self, cells: Sequence[str], columns: Sequence[int], widths: Sequence[int]) -> str:
        """Names at the left of their columns, numbers at the right."""
        parts = []
        for column in columns:
            blanks = " " * (widths[column] - display_width(cells[column]))
            is_name = column < self.n_names
            parts.append(cells[column] + blanks if is_name else blanks + cells[column])
        return GAP.join(parts).rstrip()
