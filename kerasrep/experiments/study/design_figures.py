"""Figures of the design: efficiency, balance, aliasing."""

from __future__ import annotations

import numpy as np

from kerasrep.experiments.study.balance import Aliasing, Balance, Efficiency
from kerasrep.experiments.study.cells import Factors
from kerasrep.report.charts import heat
from kerasrep.report.drawing import PALETTE, WIDTH_INCHES, Picture, drawing, new_figure, one_panel, picture
from kerasrep.report.wording import listing

#: A design of less efficiency cannot estimate all terms, but for rounding.
SINGULAR = 0.1


def draw_efficiency(efficiency: Efficiency, kind: str) -> Picture:
    """Random designs as a histogram, the design and the full one as lines."""
    rows = [("this design", efficiency.design), ("all possible runs", efficiency.full)]
    rows += [("random", float(value)) for value in efficiency.random]
    usable = 100 * efficiency.random[efficiency.random > SINGULAR]
    with one_panel(2.6) as (figure, axes):
        axes.hist(usable, bins=24, color="#b8c4d0", label="random designs of the same size")
        axes.axvline(100 * efficiency.design, color=PALETTE[5], linewidth=2.2, label=f"this design ({kind})")
        full = 100 * efficiency.full
        axes.axvline(full, color=PALETTE[2], linewidth=1.6, linestyle="--", label="all possible runs")
        axes.set_xlabel("D-efficiency, %")
        axes.set_ylabel("designs")
        figure.legend(loc="outside lower center", ncols=1, frameon=False)
        header = ("design", "d_efficiency")
        return picture("design-efficiency", "D-efficiency", efficiency.sentence, figure, header, rows)


def draw_balance(balance: Balance, factors: Factors) -> Picture:
    """Runs by source and strategy, and by number of sources and strategy."""
    counts = balance.by_source
    times = " to ".join(dict.fromkeys(map(str, (counts.min(), counts.max()))))
    used = [number for number in range(len(balance.by_number)) if balance.by_number[number].any()]
    mean = (np.arange(len(balance.by_number)) @ balance.by_number).sum() / balance.by_strategy.sum()
    sentence = (
        f"Of {int(balance.by_strategy.sum())} runs, every source stands {times} times with each strategy; "
        f"runs have {min(used)} to {max(used)} sources, {mean:.1f} on average."
    )
    rows = [(source, *map(int, row)) for source, row in zip(factors.sources, counts, strict=True)]
    rows += [(f"{n} sources", *map(int, balance.by_number[n])) for n in used]
    rows.append(("all", *map(int, balance.by_strategy)))
    with drawing():
        figure = new_figure(WIDTH_INCHES, 4.9)
        ratios = {"height_ratios": [len(counts), len(used)]}
        above, below = figure.subplots(2, 1, gridspec_kw=ratios)  # type: ignore[misc]
        numbers = balance.by_number[used]
        for axes, found, names in (
            (above, counts, factors.sources),
            (below, numbers, [f"{n} sources" for n in used]),
        ):
            heat(axes, found.astype(float), names, factors.strategies, found.astype(str), around_zero=False)
        above.set_xticklabels([])
        above.set_title("runs that have a source (above) and so many sources (below)", fontsize=9, loc="left")
        header = ("runs with", *factors.strategies)
        return picture("design-balance", "Balance of the design", sentence, figure, header, rows)


def draw_aliasing(aliasing: Aliasing) -> Picture:
    """Correlations of main effects; the number of sources is the sum of the presences."""
    names = aliasing.names
    largest = listing([f"{one} with {other} ({value:+.2f})" for one, other, value in aliasing.largest(3)])
    with_number = float(np.abs(aliasing.correlations[-1, :-1]).max())
    sentence = (
        f"The largest correlations between main effects are {largest}. The number of sources correlates up "
        f"to {with_number:.2f} with single presences, because it is their sum; this is why the two are "
        "analysed in two models."
    )
    values = aliasing.correlations.copy()
    np.fill_diagonal(values, np.nan)
    rows = [(name, *map(float, row)) for name, row in zip(names, aliasing.correlations, strict=True)]
    with one_panel(min(5.4, 0.36 * len(names) + 0.9)) as (figure, axes):
        heat(axes, values, names, names, limit=1.0)
        return picture(
            "design-aliasing", "Correlations between effects", sentence, figure, ("", *names), rows
        )
