"""What a tuning tells: lines while it runs, table, picture and event files of the trials, the best recipe."""

from __future__ import annotations

import csv
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import get_terminal_size
from statistics import median
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

import kerasrep
from kerasrep.errors import one_line
from kerasrep.experiments.tuning.directory import TrialResult, TuningDirectory, best_of
from kerasrep.experiments.tuning.reading import Parameter, Tuning, with_values
from kerasrep.recipe import strict_yaml
from kerasrep.report.drawing import INK, PALETTE, Picture, drawing, grid, label, new_figure, write_png
from kerasrep.report.event_files import scalars_event, shown_settings, write_events
from kerasrep.report.page import render_page
from kerasrep.report.table import Table
from kerasrep.runtime.console import clock, say
from kerasrep.storage.run_directory import write_text
from kerasrep.storage.tables import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_REASON = 60
#: Last parts of keys that say nothing alone, such as that of `batches.size`.
VAGUE = ("size", "name")
SCORE = "score"
PICTURE_COLUMNS = 3
PANEL_INCHES = (3.4, 2.7)
_TRIAL, _BEST, _LOST = PALETTE[0], PALETTE[5], PALETTE[6]


def write_trials(directory: TuningDirectory, tuning: Tuning, results: Sequence[TrialResult]) -> None:
    """Write `trials.csv`: one line a trial, in the order in which they began."""
    names = list(dict.fromkeys(name for result in results for name in result.details))
    header = ["trial", "status", "score", "epochs", "seconds", *tuning.space]
    header += [f"score/{name}" for name in names] + ["reason", "run"]
    rows = [
        [
            result.trial,
            result.status,
            "" if result.score is None else result.score,
            result.epochs,
            result.seconds,
            *(_cell(result.values[key]) for key in tuning.space),
            *(result.details.get(name, "") for name in names),
            one_line(result.reason),
            directory.trial(result.trial).run.root.relative_to(directory.root),
        ]
        for result in results
    ]
    write_table(directory.table, header, rows)


def write_best(
    directory: TuningDirectory, tuning: Tuning, results: Sequence[TrialResult]
) -> TrialResult | None:
    """Write the best recipe, where any trial is done."""
    best = best_of(results, tuning.more_is_better)
    if best is None:
        return None
    recipe = with_values(tuning.base, {"name": f"{tuning.settings.name[:95]}-best", **best.values})
    counts = Counter(result.status for result in results)
    lost = "".join(f", {counts[name]} {name}" for name in ("invalid", "failed") if counts[name])
    lines = [
        f"Best of {counts['done']} trials of '{tuning.settings.name}'{lost}: trial {best.trial}.",
        "",
        f"Command:   kerasrep-train {directory.best}",
        f"Score:     {best.score:.4g} ({tuning.score_text}), after {best.epochs} epochs",
        f"Tuned:     {settings_text(best.values)}",
        f"Written:   {time.strftime('%Y-%m-%d')} by kerasrep {kerasrep.__version__}",
    ]
    if recipe.training.epochs != best.epochs:
        base = recipe.training.epochs
        lines += ["", f"The trial had {best.epochs} epochs; this recipe has the {base} of the base recipe."]
    header = "".join(f"# {one_line(line)}".rstrip() + "\n" for line in lines)
    write_text(directory.best, f"{header}\n{strict_yaml.dump(recipe.as_dict())}")
    return best


def trials_table(tuning: Tuning, results: Sequence[TrialResult]) -> str:
    """Text: the best trial first, those without a score last."""
    text = _table(tuning, results).as_text(get_terminal_size((100, 24)).columns)
    lost = [f"trial {number} {status}: {reason}" for number, status, reason in _lost(results)]
    return "\n".join([_answer(tuning, results), text, *lost])


def write_page(directory: TuningDirectory, tuning: Tuning, results: Sequence[TrialResult]) -> None:
    """Write the page: the answer, the picture as it was drawn, and the table."""
    better = "higher" if tuning.more_is_better else "lower"
    title, sentence = f"Tuning {tuning.settings.name}", f"Score by trial and by setting; {better} is better."
    png, lost = directory.picture.read_bytes(), _lost(results)
    page = render_page(
        "sections.html",
        title,
        ["Each score is of one training with one seed and has no interval: small differences are noise."],
        {"kerasrep": kerasrep.__version__, "tuner": tuning.settings.tuner.name, "score": tuning.score_text},
        _answer(tuning, results),
        [
            f"Train the best recipe: kerasrep-train {directory.best}",
            "Train the best few again with other seeds before you rely on their order: the best of many "
            "noisy scores is too good.",
            f"Look at curves and settings: tensorboard --logdir {directory.tensorboard}",
        ],
        picture=Picture("trials", title, sentence, png, None, (), ()),
        wide=True,
        sections={"Trials": [_table(tuning, results)]},
        folded={"Trials without a score": Table(["trial", "status", "reason"], lost, n_names=3)}
        if lost
        else {},
    )
    write_text(directory.page, page)


def _lost(results: Sequence[TrialResult]) -> list[tuple[str, str, str]]:
    """Trial, status and reason of those that have no score."""
    return [(result.trial, result.status, one_line(result.reason)) for result in results if result.reason]


def _table(tuning: Tuning, results: Sequence[TrialResult]) -> Table:
    """The best trial first, those without a score last."""
    names = short_names(tuple(tuning.space))
    best = best_of(results, tuning.more_is_better)
    order = sorted(
        results, key=lambda r: (r.score is None, (-1 if tuning.more_is_better else 1) * (r.score or 0.0))
    )
    rows = [
        [
            *(result.trial, "*" if result is best else ""),
            result.status if result.score is None else f"{result.score:.4f}",
            *(str(result.epochs), f"{result.seconds:.0f}"),
            *(_short(result.values[key]) for key in tuning.space),
        ]
        for result in order
    ]
    return Table(["trial", "best", "score", "epochs", "seconds", *names.values()], rows, n_names=2)


def _answer(tuning: Tuning, results: Sequence[TrialResult]) -> str:
    """Which trial is the best and by how much, in a sentence."""
    best = best_of(results, tuning.more_is_better)
    scores = [result.score for result in results if result.score is not None]
    if best is None or best.score is None:
        return f"No trial has a score ({tuning.score_text})"
    said = f"Trial {best.trial} is the best of {len(scores)}"
    said += f": {settings_text(best.values)}, score {best.score:.4f}"
    if len(scores) > 1:
        said += f", where the median trial has {median(scores):.4f}"
    return f"{said} ({tuning.score_text})"


def settings_text(values: Mapping[str, Any]) -> str:
    """`learning_rate=0.0005 dropout=0.3`."""
    names = short_names(tuple(values))
    return " ".join(f"{names[key]}={_short(value)}" for key, value in values.items())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Dotted key -> its last part, where that says enough and no other key ends so."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: last if lasts.count(last) == 1 and last not in VAGUE else key
        for key, last in zip(keys, lasts, strict=True)
    }


class Lines:
    """One line a trial: its settings when it begins, its score and the time left when it ends."""

    def __init__(self, tuning: Tuning, plan: Sequence[float], before: Sequence[TrialResult]) -> None:
        """Keep what is known: the work of each trial, in any unit, and trials of an earlier session."""
        self._tuning, self._plan = tuning, plan
        self._results = list(before)
        self._open = False

    def began(self, trial: str, values: Mapping[str, Any]) -> None:
        """Print the first half of a trial's line."""
        number = len(self._results) + 1
        start = f"trial {trial} ({number} of {len(self._plan)}): {settings_text(values)} ..."
        say(start, end="")
        self._open = True

    def ended(self, result: TrialResult) -> None:
        """Print the second half."""
        if not self._open:  # it had ended before a kill
            self.began(result.trial, result.values)
        self._open = False
        self._results.append(result)
        best = best_of(self._results, self._tuning.more_is_better)
        parts = [f" {_outcome(result)}"]
        if best is not None:
            parts.append("the best" if best is result else f"best {best.score:.4f} (trial {best.trial})")
        parts += [f"{result.seconds:.0f} s", self._left()]
        say(", ".join(filter(None, parts)))

    def close(self) -> None:
        """End the line of a trial that was cut short."""
        if self._open:
            say("")
        self._open = False

    def _left(self) -> str:
        done = len(self._results)
        work = sum(
            share for share, r in zip(self._plan, self._results, strict=False) if r.status != "invalid"
        )
        left = sum(self._plan[done:])
        seconds = sum(result.seconds for result in self._results if result.status != "invalid")
        return f"about {clock(seconds / work * left)} left" if work and left else ""


def _outcome(result: TrialResult) -> str:
    if result.score is not None:
        return f"score {result.score:.4f}"
    reason = one_line(result.reason)
    return f"{result.status}: {reason if len(reason) <= LONGEST_REASON else reason[:LONGEST_REASON] + '...'}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _cell(value)


def _cell(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def write_trial(directory: TuningDirectory, tuning: Tuning, result: TrialResult) -> None:
    """Write one trial, done or not, as a session of HParams: settings, score, how it ended, losses by epoch.

    An experiment is not described: HParams would show its settings alone, and blank rows for all other runs
    below the same folder.
    """
    start = result.ended - result.seconds
    values = shown_settings(tuning.base) | {"training.epochs": result.epochs}
    values |= {key: _shown(parameter, result.values[key]) for key, parameter in tuning.space.items()}
    name = f"{tuning.base.name} {directory.root.absolute().name} trial {result.trial}"
    events = [event_pb2.Event(step=0, summary=summary_v2.hparams_pb(values, name, start))]
    events += _curves(directory.trial(result.trial).run.history)
    if result.score is not None:
        scores = {SCORE: result.score} | {f"{SCORE}/{part}": value for part, value in result.details.items()}
        events.append(scalars_event(scores, result.epochs))
    status = api_pb2.STATUS_SUCCESS if result.status == "done" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=result.ended)
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    events.append(event_pb2.Event(step=0, summary=summary_pb2.Summary(value=[value])))
    write_events(directory.tensorboard / f"trial-{result.trial}", events, result.ended)


def _shown(parameter: Parameter, value: Any) -> Any:
    """A value that HParams can show; all as text where choices are of mixed kinds, for it takes one kind."""
    kinds = {type(_plain(choice)) for choice in parameter.choice or ()}
    return str(value) if len(kinds) > 1 else _plain(value)


def _plain(value: Any) -> Any:
    """A value as it is, or lists and null as text."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _curves(history: Path) -> Iterator[Any]:
    """Losses by epoch, as the run's history has them."""
    if not history.is_file():
        return
    with history.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            prefix = "validation_loss/"
            losses = {
                f"loss/{n.removeprefix(prefix)}": float(v)
                for n, v in row.items()
                if n.startswith(prefix) and v
            }
            yield scalars_event(losses, int(float(row["epoch"])))


def draw(path: Path, tuning: Tuning, results: Sequence[TrialResult]) -> None:
    """Draw all trials as PNG, whole or not at all; their data are in the table of trials."""
    keys = list(tuning.space)
    n_rows = math.ceil((1 + len(keys)) / PICTURE_COLUMNS)
    columns = min(PICTURE_COLUMNS, 1 + len(keys))
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
