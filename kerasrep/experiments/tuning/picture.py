"""A picture of a tuning: the score of each trial, and against each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.experiments.tuning.directory import TrialResult, best_of
from kerasrep.experiments.tuning.reading import Tuning
from kerasrep.experiments.tuning.settings import Parameter
from kerasrep.report.charts import grid
from kerasrep.report.drawing import INK, PALETTE, drawing, label, new_figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL_INCHES = (3.4, 2.7)
_TRIAL, _BEST, _LOST = PALETTE[0], PALETTE[5], PALETTE[6]


def draw(path: Path, tuning: Tuning, results: Sequence[TrialResult]) -> None:
    """Draw all trials as PNG, whole or not at all; their data are in the table of trials."""
    keys = list(tuning.space)
    n_rows = math.ceil((1 + len(keys)) / COLUMNS)
    columns = min(COLUMNS, 1 + len(keys))
    best = best_of(results, tuning.more_is_better)
    with drawing():
        figure = new_figure(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * n_rows + 0.5)
        panels = figure.subplots(n_rows, columns, squeeze=False, sharey=True).flatten()
        _by_trial(panels[0], results, best, tuning.more_is_better)
        for axes, key in zip(panels[1:], keys, strict=False):
            _by_setting(axes, key, tuning.space[key], results, best)
        for axes in panels[1 + len(keys) :]:
            axes.set_axis_off()
        for place, axes in enumerate(panels[: 1 + len(keys)]):
            grid(axes, "both")
            if place % columns == 0:
                axes.set_ylabel("score")
        better = "higher" if tuning.more_is_better else "lower"
        title = f"{tuning.settings.name}: {tuning.score_text} ({better} is better)"
        figure.suptitle(title, fontsize=10, color=INK)
        write_png(path, figure, title)


def _by_trial(
    axes: Axes, results: Sequence[TrialResult], best: TrialResult | None, more_is_better: bool
) -> None:
    from matplotlib.ticker import MaxNLocator

    choose = max if more_is_better else min
    so_far: list[float] = []
    places = [int(result.trial) for result in results if result.score is not None]
    scores = [result.score for result in results if result.score is not None]
    for score in scores:
        so_far.append(choose([score, *so_far[-1:]]))
    axes.step(places, so_far, where="post", color=_BEST, linewidth=1.2, label="best so far")
    axes.plot(places, scores, "o", color=_TRIAL, label="trial")
    _mark(axes, [int(result.trial) for result in results if result is best], best)
    lost = [int(result.trial) for result in results if result.score is None]
    if lost:
        low = 0.04  # of the height: they have no score
        axes.plot(
            lost, [low] * len(lost), "x", color=_LOST, transform=axes.get_xaxis_transform(), label="no score"
        )
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7, frameon=False)


def _by_setting(
    axes: Axes, key: str, parameter: Parameter, results: Sequence[TrialResult], best: TrialResult | None
) -> None:
    done = [result for result in results if result.score is not None]
    values = [result.values[key] for result in done]
    if parameter.choice is not None:
        names = [_text(value) for value in parameter.choice]
        values = [names.index(_text(value)) for value in values]
        turned = sum(map(len, names)) > 24
        axes.set_xticks(
            range(len(names)), [label(name, 16) for name in names], rotation=30 if turned else 0, fontsize=8
        )
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif parameter.min is not None and parameter.max is not None:
        _range_axis(axes, float(parameter.min), float(parameter.max), parameter.log)
    axes.plot(values, [result.score or 0.0 for result in done], "o", color=_TRIAL)
    _mark(axes, [place for place, result in zip(values, done, strict=True) if result is best], best)
    axes.set_xlabel(key)


def _range_axis(axes: Axes, low: float, high: float, log: bool) -> None:
    """An axis as wide as the range that was searched."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not log:
        margin = 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        return
    axes.set_xscale("log")
    margin = (high / low) ** 0.05
    axes.set_xlim(low / margin, high * margin)
    few = high / low < 100  # decades alone would leave one tick or none
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if few else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _mark(axes: Axes, places: Sequence[Any], best: TrialResult | None) -> None:
    """A ring around the best trial."""
    if best is not None and best.score is not None:
        axes.plot(places, [best.score] * len(places), "o", ms=11, mfc="none", mec=_BEST, mew=1.6)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
