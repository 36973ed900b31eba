"""What a tuning tells: lines while it runs, the table of trials, the best recipe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from statistics import median
from typing import Any

import kerasrep
from kerasrep.errors import one_line
from kerasrep.experiments.tuning.directory import TrialResult, TuningDirectory, best_of
from kerasrep.experiments.tuning.reading import Tuning, with_values
from kerasrep.recipe import strict_yaml
from kerasrep.report.drawing import Picture
from kerasrep.report.page import render_page
from kerasrep.report.table import Table
from kerasrep.runtime.console import clock, say
from kerasrep.storage.run_directory import write_text
from kerasrep.storage.tables import write_table

LONGEST_REASON = 60
#: Last parts of keys that say nothing alone, such as that of `batches.size`.
VAGUE = ("size", "name")


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
