"""How numbers and names are written wherever people read them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from kerasrep.errors import one_line

#: Level of the tests.
SIGNIFICANT = 0.05

_METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "r2": "R²",
    "rmse": "RMSE",
    "ap": "AP",
    "ndcg": "NDCG",
    "first_neighbour": "first neighbour",
    "first_five": "first five",
}


def shorten(text: str, columns: int) -> str:
    """Text of at most so many columns: the middle makes way, because names differ at their ends."""
    if display_width(text) <= columns:
        return text
    begin = _fitting(text, (columns - 1) // 2)
    end = _fitting(text[::-1], columns - 1 - display_width(begin))
    return f"{begin}…{end[::-1]}"


def _fitting(text: str, columns: int) -> str:
    """The longest beginning that takes at most so many columns."""
    end, used = 0, 0
    while end < len(text) and (used := used + display_width(text[end])) <= columns:
        end += 1
    return text[:end]


def display_width(text: str) -> int:
    """Columns of a terminal; East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def metric_label(metric: str) -> str:
    """A metric as people write it."""
    return _METRICS.get(metric, one_line(metric))


def decimals_for(values: Iterable[float]) -> int:
    """Decimals that show three digits or so of the largest value: 0.712, 0.0123, 12.34, 123.4."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 10.0:
        return 2 if largest < 100.0 else 1
    if largest >= 0.1 or largest == 0.0:
        return 3
    return min(7, 2 - math.floor(math.log10(largest)))


def number(value: float, decimals: int) -> str:
    """A value with a fixed number of decimals; never `-0.000`."""
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def interval(low: float, high: float, decimals: int) -> str:
    """The ends of an interval: `[0.68, 0.74]`."""
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def p_text(p_value: float) -> str:
    """A p value as it stands in a column."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def p_starred(p_value: float) -> str:
    """A p value as it stands in a column, with a star where it is significant."""
    return p_text(p_value) + ("*" if p_value < SIGNIFICANT else " ")


def p_equation(p_value: float) -> str:
    """A p value as it stands in a sentence: `p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def listing(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def counted(count: int, noun: str) -> str:
    """`1 item`, `1,200 items`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
