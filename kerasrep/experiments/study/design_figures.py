"""Figures of the design: efficiency, balance, aliasing."""

from __future__ import annotations

import numpy as np

from kerasrep.experiments.study.balance import Aliasing, Balance, Efficiency
from kerasrep.experiments.study.cells import Factors
from kerasrep.experiments.study.pictures import WIDTH_INCHES, heat, picture
from kerasrep.report.drawing import PALETTE, Picture, drawing, new_figure
from kerasrep.report.wording import listing

#: A design of less efficiency cannot estimate all terms, but for rounding.
SINGULAR = 0.1


def draw_efficiency(efficiency: Efficiency, kind: str) -> Picture:
    """Random designs as a histogram, the design and the full one as lines."""
    with drawing():
        figure = new_figure(WIDTH_INCHES, 2.6)
        axes = figure.add_subplot()
        usable = 100 * efficiency.random[efficiency.random > SINGULAR]
        axes.hist(usable, bins=24, color="#b8c4d0", label="random designs of the same size")
        axes.axvline(100 * efficiency.design, color=PALETTE[5], linewidth=2.2, label=f"this design ({kind})")
        full = 100 * efficiency.full
        axes.axvline(full, color=PALETTE[2], linewidth=1.6, linestyle="--", label="all possible runs")
        axes.set_xlabel("D-efficiency, %")
        axes.set_ylabel("designs")
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
        rows = [("this design", efficiency.design), ("all possible runs", efficiency.full)]
        rows += [("random", float(value)) for value in efficiency.random]
        return picture(
            "design-efficiency", "D-efficiency", efficiency.sentence, figure, ("design", "d_efficiency"), rows
        )


def draw_balance(balance: Balance, factors: Factors) -> Picture:
    """Runs by source and strategy, and by number of sources and strategy."""
    counts = balance.by_source
    low, high = int(counts.min()), int(counts.max())
    spread = (
        f"every source stands {low}" + ("" if low == high else f" to {high}") + " times with each strategy"
    )
    used = [number for number in range(len(balance.by_number)) if balance.by_number[number].any()]
    mean = (np.arange(len(balance.by_number)) @ balance.by_number).sum() / balance.by_strategy.sum()
    sentence = (
        f"Of {int(balance.by_strategy.sum())} runs, {spread}; runs have {min(used)} to {max(used)} sources, "
        f"{mean:.1f} on average."
    )
    with drawing():
        figure = new_figure(WIDTH_INCHES, 4.9)
        above, below = figure.subplots(2, 1, gridspec_kw={"height_ratios": [len(counts), len(used)]})
        heat(above, counts.astype(float), factors.sources, factors.strategies, 0, around_zero=False)
        numbers = balance.by_number[used].astype(float)
        heat(below, numbers, [f"{n} sources" for n in used], factors.strategies, 0, around_zero=False)
        above.set_xticklabels([])
        above.set_title("runs that have a source (above) and so many sources (below)", fontsize=9, loc="left")
        rows = [(source, *map(int, row)) for source, row in zip(factors.sources, counts, strict=True)]
        rows += [(f"{n} sources", *map(int, balance.by_number[n])) for n in used]
        rows.append(("all", *map(int, balance.by_strategy)))
        header = ("runs with", *factors.strategies)
        return picture("design-balance", "Balance of the design", sentence, figure, header, rows)


def draw_aliasing(aliasing: Aliasing) -> Picture:
    """Correlations of main effects; the number of sources is the sum of the presences."""
    largest = aliasing.largest(3)
    named = listing([f"{one} with {other} ({value:+.2f})" for one, other, value in largest])
    with_number = aliasing.correlations[-1, :-1]
    sentence = (
        f"The largest correlations between main effects are {named}; the number of sources correlates up to "
        f"{float(np.abs(with_number).max()):.2f} with single presences, as it is their sum, which is why "
        "the two "
        "are analysed in two models."
    )
    with drawing():
        size = 0.36 * len(aliasing.names) + 0.9
        figure = new_figure(WIDTH_INCHES, min(5.4, size))
        axes = figure.add_subplot()
        values = aliasing.correlations.copy()
        np.fill_diagonal(values, np.nan)
        heat(axes, values, aliasing.names, aliasing.names, 1, limit=1.0)
        rows = [
            (name, *map(float, row)) for name, row in zip(aliasing.names, aliasing.correlations, strict=True)
        ]
        header = ("", *aliasing.names)
        return picture("design-aliasing", "Correlations between effects", sentence, figure, header, rows)
