"""A tuning from its first trial, or from where it stood, to the best recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasrep.api import prepare
from kerasrep.errors import RecipeError, RunError
from kerasrep.experiments.tuning import report
from kerasrep.experiments.tuning.directory import TrialResult, TuningDirectory
from kerasrep.experiments.tuning.reading import FOR_MESSAGES, Tuning
from kerasrep.experiments.tuning.tuner import HyperbandOracle, RecipeTuner
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import read_draft
from kerasrep.recipe.schema import differences
from kerasrep.runtime.console import say
from kerasrep.runtime.run_log import event, run_log
from kerasrep.storage.folder_lock import exclusive
from kerasrep.storage.run_directory import RUNS, latest_run, new_run, write_text
from kerasrep.training.devices import choose_execution

#: What may change when a tuning goes on.
MAY_CHANGE = ("max_trials",)


@dataclass(frozen=True)
class Tuned:
    """What a tuning found.

    Attributes:
        directory: Where everything is.
        results: Of all trials, in the order in which they began.
        best: The best of them.
    """

    directory: TuningDirectory
    results: Sequence[TrialResult]
    best: TrialResult


def tune(
    tuning: Tuning, run_dir: str | Path | None = None, resume: bool = False, verbose: bool = False
) -> Tuned:
    """Run every trial that is left, and write table, picture, page, event files and the best recipe.

    Prints a line a trial and the table of all. The folder is this process's own before the corpus of the base
    recipe is made.

    Args:
        tuning: See `reading.read_tuning`.
        run_dir: Folder; by default a new `runs/NAME/TIME`, or the latest one to resume.
        resume: Go on with the tuning in `run_dir`.
        verbose: Show each training's own bar.

    Raises:
        KerasrepError: Where recipe, corpus or folder cannot be used, the tuning in the folder is another,
            trials fail in a row, or none is done.
        Interrupted: On SIGINT, SIGTERM or SIGHUP, after saving.
    """
    name = tuning.settings.name
    root = None if run_dir is None else Path(run_dir)
    if root is None and resume:
        root = latest_run(RUNS, name, "tuning.yaml", "tuning").root
    if root is not None:
        check_tuning(tuning, TuningDirectory(root), resume)
    choose_execution(tuning.base)  # before the corpus is made: devices may refuse the batch
    directory = TuningDirectory(root or new_run(RUNS, name).root)
    with exclusive(directory.root, "another process tunes there", "--run-dir"):
        check_tuning(tuning, directory, resume)
        with run_log("tune", name=name):
            _prepare_base(tuning, directory)
            write_text(directory.tuning, strict_yaml.dump(tuning.as_dict()))
            with run_log("tune", directory.log):
                results = _search(tuning, directory, verbose)
                best = report.write_best(directory, tuning, results)
                report.write_page(directory, tuning, results)
    if best is None:
        first = f"; the first: {results[0].reason}" if results else ""
        raise RunError(f"{directory.root}: none of {len(results)} trials has a score{first}")
    say(f"\n{report.trials_table(tuning, results)}\n")
    return Tuned(directory, results, best)


def _prepare_base(tuning: Tuning, directory: TuningDirectory) -> None:
    """Make shards and targets before anything is written; a folder that stays empty is not left behind."""
    try:
        prepare(tuning.base)
        say(f"tuning:  {directory.root}")
    except BaseException:
        with contextlib.suppress(OSError):  # unless there is something in it
            directory.root.rmdir()
        raise


def check_tuning(tuning: Tuning, directory: TuningDirectory, resume: bool) -> None:
    """Compare with the tuning that the directory holds; nothing is written.

    Raises:
        RecipeError: Where anything but the number of trials differs, or what is there cannot be read.
        RunError: Where there is none to resume, or one already.
    """
    if not directory.tuning.is_file():
        if resume:
            raise RunError(f"{directory.root}: holds no tuning to resume; start one without --resume")
        return
    if not resume:
        raise RunError(f"{directory.root}: holds a tuning already; add --resume, or choose another --run-dir")
    before = read_draft(directory.tuning, *FOR_MESSAGES).values
    now = strict_yaml.load(strict_yaml.dump(tuning.as_dict()))[0]
    for key, old, new in differences(before, now, [(name,) for name in MAY_CHANGE]):
        raise RecipeError(
            f"{key}: {new!r}, but the tuning in {directory.root} has {old!r}; only max_trials may change on "
            "--resume"
        )


def _search(tuning: Tuning, directory: TuningDirectory, verbose: bool) -> Sequence[TrialResult]:
    with contextlib.redirect_stdout(io.StringIO()):  # keras-tuner says that it reloads
        tuner = RecipeTuner(tuning, directory, show_progress=verbose)
    before = tuner.results()
    lines = report.Lines(tuning, _plan(tuning, tuner.oracle), before)

    def ended(result: TrialResult) -> None:
        results = tuner.results()
        report.write_trial(directory, tuning, result)
        report.write_trials(directory, tuning, results)
        report.write_best(directory, tuning, results)
        report.draw(directory.picture, tuning, results)
        lines.ended(result)
        event("trial_ended", **dataclasses.asdict(result))

    for result in before:  # a kill may have come before all of it was written
        report.write_trial(directory, tuning, result)

    def began(trial: str, values: Mapping[str, Any]) -> None:
        lines.began(trial, values)
        event("trial_began", trial=trial, values=values)

    tuner.tell(began, ended)
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_news)
    try:
        tuner.search()
    finally:
        logger.removeFilter(_is_news)
        lines.close()
    results = tuner.results()
    report.write_trials(directory, tuning, results)
    report.draw(directory.picture, tuning, results)
    planned = tuning.settings.max_trials
    if planned is not None and not isinstance(tuner.oracle, HyperbandOracle) and len(results) < planned:
        say(f"note: the space holds no more than {len(results)} settings to try")
    return results


def _is_news(record: logging.LogRecord) -> bool:
    """False for TensorFlow's advice about tracing: each trial is another network and has to be traced."""
    return "triggered tf.function retracing" not in record.getMessage()


def _plan(tuning: Tuning, oracle: Any) -> list[float]:
    """How much work each trial is."""
    if not isinstance(oracle, HyperbandOracle):
        return [1.0] * (tuning.settings.max_trials or 0)
    goes_on = tuning.base.training.decay == "constant"
    plan = [float(after - (before if goes_on else 0)) for before, after in oracle.plan()]
    return plan[: tuning.settings.max_trials]
