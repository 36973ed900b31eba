"""keras-tuner's oracles, which choose the trials, and its loop over them.

Each trial is one training of our own under MirroredStrategy.
"""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from kerasrep.errors import DataError, RecipeError, RunError
from kerasrep.experiments.job import EvaluationSettings, Job
from kerasrep.experiments.tuning.directory import (
    TRIALS,
    Status,
    TrialFolder,
    TrialResult,
    TuningDirectory,
    read_result,
)
from kerasrep.experiments.tuning.reading import (
    BayesianTuner,
    Downstream,
    HyperbandTuner,
    Objective,
    Parameter,
    Tuning,
    takes_fractions,
    with_values,
)
from kerasrep.experiments.worker import work
from kerasrep.recipe.schema import Recipe, fingerprint
from kerasrep.runtime.run_log import reason_of
from kerasrep.storage.run_directory import RunDirectory, atomic_directory, read_object, write_text
from kerasrep.training.loop import Interrupted

OBJECTIVE = "score"
#: More than any search has: stopping after failures is the tuner's business.
NEVER = 10**9
SIGNIFICANT_DIGITS = 6
#: So many failures one after the other are no accident of the settings.
FAILURES_IN_A_ROW = 3
#: In a trial's folder: the traceback of its failure.
ERROR = "error.txt"
#: One a kind of task: classification, regression, recommendation.
HEADLINE_PROBES = ("linear_svm", "ridge", "wmf_features")


class Durable(keras_tuner.Oracle):
    """Writes whole files, takes up what a kill has left, and repeats itself.

    As they come, keras-tuner's oracles write their state in place, so that a kill may leave half a file; they
    keep a trial that has ended among the running ones for a moment; a trial that was chosen but not yet noted
    counts for ever; and the seed 0 means none.
    """

    trials: dict[str, Any]

    def save(self) -> None:
        """Write what is known, whole or not at all."""
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_text(path, json.dumps(trial.get_state()))

    def reload(self) -> None:
        """Read what is known; running trials will be run again, and those never begun are forgotten."""
        super().reload()
        for trial_id in [name for name in self.trials if name not in self.start_order]:
            shutil.rmtree(self._get_trial_dir(trial_id))
            del self.trials[trial_id]
        # In the order of an uninterrupted search: of a Gaussian process even the rows' order shows.
        self.trials = {name: self.trials[name] for name in self.start_order}
        running = [trial_id for trial_id in self.start_order if self.trials[trial_id].status == "RUNNING"]
        self._retry_queue = running[::-1]  # keras-tuner takes from the end
        self.end_order = [trial_id for trial_id in self.start_order if trial_id not in self._retry_queue]

    def try_again(self, trial_ids: Sequence[str]) -> None:
        """Run trials once more, before any new one and in this order."""
        for trial_id in trial_ids:
            trial = self.trials[trial_id]
            trial.status, trial.message = "RUNNING", None
            self._save_trial(trial)
        again = {*trial_ids, *self._retry_queue}
        self._retry_queue = [trial_id for trial_id in reversed(self.start_order) if trial_id in again]
        self.end_order = [trial_id for trial_id in self.end_order if trial_id not in again]
        self.save()


class RandomOracle(Durable, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class BayesianOracle(Durable, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation that goes on after a kill as it would have without, and tries nothing twice."""

    def populate_space(self, trial_id: str) -> Any:
        """Choose the values of a trial."""
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        chosen = super().populate_space(trial_id)
        if chosen["values"] is not None and self._duplicate(chosen["values"]):
            return self._random_populate_space()
        return chosen


class HyperbandOracle(Durable, keras_tuner.oracles.HyperbandOracle):
    """Hyperband."""

    def plan(self) -> list[tuple[int, int]]:
        """Epochs before and after, of every trial of all brackets that no failure shortens."""
        return [
            (self._get_epochs(bracket, number - 1) if number else 0, self._get_epochs(bracket, number))
            for _ in range(self.hyperband_iterations)
            for bracket in reversed(range(self._get_num_brackets()))
            for number in range(self._get_num_rounds(bracket))
            for _ in range(self._get_size(bracket, number))
        ]


def make_oracle(tuning: Tuning) -> Durable:
    """The oracle that a tuning recipe asks for."""
    settings = tuning.settings
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max" if tuning.more_is_better else "min"),
        "hyperparameters": hyperparameters(tuning.space),
        "tune_new_entries": False,
        "seed": settings.seed + 1,
        "max_consecutive_failed_trials": NEVER,
    }
    tuner = settings.tuner
    if isinstance(tuner, HyperbandTuner):
        oracle = HyperbandOracle(
            max_epochs=tuning.epochs, factor=tuner.factor, hyperband_iterations=tuner.iterations, **common
        )
        oracle.max_trials = settings.max_trials
        return oracle
    common["max_trials"] = settings.max_trials
    if isinstance(tuner, BayesianTuner):
        initial = tuner.initial_points or max(3, (settings.max_trials or 0) // 3)
        return BayesianOracle(num_initial_points=initial, beta=tuner.beta, **common)
    return RandomOracle(**common)


def hyperparameters(space: Mapping[str, Parameter]) -> Any:
    """The space as keras-tuner has it; names are dotted keys."""
    found = keras_tuner.HyperParameters()
    for key, parameter in space.items():
        if parameter.choice is not None:
            values = list(parameter.choice)
            found.Choice(key, [json.dumps(value) for value in values] if _as_text(parameter) else values)
            continue
        make = found.Float if takes_fractions(key) else found.Int
        make(
            key,
            parameter.min,
            parameter.max,
            step=parameter.step,
            sampling="log" if parameter.log else "linear",
        )
    return found


def values_of(space: Mapping[str, Parameter], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What keras-tuner chose, as values of a recipe; fractions are rounded to six digits.

    Args:
        space: Dotted key -> the values that it may take.
        chosen: Dotted key -> value, in keras-tuner's form.
    """
    return {key: _value(key, parameter, chosen[key]) for key, parameter in space.items()}


def _value(key: str, parameter: Parameter, chosen: Any) -> Any:
    if parameter.choice is not None:
        return json.loads(chosen) if _as_text(parameter) else chosen
    if not takes_fractions(key):
        return int(chosen)
    low, high = float(parameter.min or 0), float(parameter.max or 0)
    return min(max(float(f"{chosen:.{SIGNIFICANT_DIGITS}g}"), low), high)


def _as_text(parameter: Parameter) -> bool:
    """Whether choices are passed as JSON: keras-tuner takes one kind of value, and booleans as 0 and 1."""
    kinds = {type(value) for value in parameter.choice or ()}
    return kinds not in ({int}, {float}, {str})


class RecipeTuner(keras_tuner.engine.base_tuner.BaseTuner):
    """Trains one recipe a trial; a trial that a kill or a failure has cut short goes on where it stood."""

    def __init__(self, tuning: Tuning, directory: TuningDirectory, show_progress: bool = False) -> None:
        """Take up the search in the directory, where there is one."""
        self._tuning, self._where = tuning, directory
        self._show, self._failures = show_progress, 0
        super().__init__(make_oracle(tuning), directory=str(directory.root), project_name=TRIALS)
        self.oracle.verbose = 0
        self._got_past = self._try_failures_again()

    def tell(
        self, began: Callable[[str, Mapping[str, Any]], None], ended: Callable[[TrialResult], None]
    ) -> None:
        """Say who is told of trials.

        Args:
            began: Called with the id and the values of a trial.
            ended: Called when a trial is over and all is saved.
        """
        self._began, self._ended = began, ended

    def results(self) -> list[TrialResult]:
        """How the trials ended that are over, in the order in which they began."""
        found = (read_result(self._where.trial(name).result) for name in self.oracle.start_order)
        return [result for result in found if result is not None]

    def save(self) -> None:
        """Write the state, whole or not at all."""
        self.oracle.save()
        write_text(Path(self._get_tuner_fname()), "{}")

    def search(self) -> None:
        """Run every trial that is left.

        keras-tuner's own loop would print the traceback of each trial that fails, and take the user's
        stopping for a failure.

        Raises:
            RunError: After failures in a row.
            Interrupted: On SIGINT, SIGTERM or SIGHUP.
        """
        self.save()  # a kill in the first trial must lose nothing
        while (trial := self.oracle.create_trial(self.tuner_id)).status == "RUNNING":
            result = self.run_trial(trial)
            if result.score is None:
                trial.status, trial.message = "FAILED", f"{result.status}: {result.reason}"
            else:
                self.oracle.update_trial(trial.trial_id, {OBJECTIVE: result.score}, step=result.epochs)
                trial.status = "COMPLETED"
            self.on_trial_end(trial)
            self._ended(result)
            if result.status != "failed":
                self._failures = 0
            elif result.trial not in self._got_past:
                self._failures += 1
            if self._failures == FAILURES_IN_A_ROW:
                raise RunError(
                    f"{FAILURES_IN_A_ROW} trials failed one after the other, the last one: {result.reason}; "
                    "find the cause, then go on with --resume"
                )

    def _try_failures_again(self) -> frozenset[str]:
        """Let trials run again that failed in an earlier session: their cause may be gone.

        Returns:
            Those after which another trial was done: failing again, they say nothing about the machine.
        """
        results = self.results()
        failed = [result.trial for result in results if result.status == "failed"]
        if not failed:
            return frozenset()
        self.oracle.try_again(failed)
        for name in failed:  # only now: a kill before this lets them run again in the next session
            (self._where.trial(name).root / ERROR).unlink(missing_ok=True)
            self._where.trial(name).result.unlink()
        done = [place for place, result in enumerate(results) if result.status == "done"]
        return frozenset(failed) & {result.trial for result in results[: max(done, default=0)]}

    def run_trial(self, trial: Any) -> TrialResult:
        """Train and score, unless a kill came after that and before it was noted.

        Raises:
            Interrupted: On SIGINT, SIGTERM or SIGHUP.
        """
        where = self._where.trial(trial.trial_id)
        result = read_result(where.result)
        if result is None:
            result = self._tried(trial, where)
            result.write(where.result)
        return result

    def _tried(self, trial: Any, where: TrialFolder) -> TrialResult:
        started, chosen = time.monotonic(), trial.hyperparameters.values
        values = values_of(self._tuning.space, chosen)
        self._began(trial.trial_id, values)
        epochs = chosen.get("tuner/epochs", values.get("training.epochs", self._tuning.epochs))
        details: Mapping[str, float] = {}
        status: Status = "done"
        reason = ""
        try:
            # HParams has a row of the trial from `report`, and needs none of its run.
            fixed = {"training.epochs": epochs, "training.tensorboard": "scalars"}
            recipe = with_values(self._tuning.base, {**values, **fixed})
            self._go_on_from(chosen.get("tuner/trial_id"), recipe, where)
            details = self._work(recipe, where)
        except Interrupted:
            raise
        except RecipeError as error:
            status, reason = "invalid", str(error)
        except Exception as error:
            status, reason = "failed", reason_of(error)
            write_text(where.root / ERROR, traceback.format_exc())
        finally:
            keras.backend.clear_session()
            gc.collect()
        score = mean(details) if status == "done" else None
        return TrialResult(
            trial=trial.trial_id,
            status=status,
            values=values,
            epochs=epochs,
            score=score,
            details=details,
            reason=reason,
            seconds=round(time.monotonic() - started, 1),
            ended=round(time.time(), 1),
        )

    def _work(self, recipe: Recipe, where: TrialFolder) -> Mapping[str, float]:
        """Make the trial's run; what it prints goes to its log, but for bars that somebody wants to see."""
        objective = self._tuning.settings.objective
        where.give(job_of(where.root.name, recipe, objective), recipe)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(where.log.open("a", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(log))
            if not self._show:
                stack.enter_context(contextlib.redirect_stderr(log))
            work(where, show_progress=self._show, report=True)
        return scores_of(where, objective)

    def _go_on_from(self, earlier: str | None, recipe: Recipe, where: TrialFolder) -> None:
        """Copy the state of the trial that Hyperband goes on with.

        A falling learning rate has come to its end there: such a trial starts anew, so that all of one round
        are trained alike.
        """
        if not earlier or recipe.training.decay != "constant" or where.run.recipe.exists():
            return
        before = self._where.trial(earlier).run
        shutil.rmtree(where.run.root, ignore_errors=True)
        with atomic_directory(where.run.root) as temporary:
            copy = RunDirectory(temporary)
            copy.last.parent.mkdir()
            for name in ("recipe", "prepared", "scaler", "last", "best", "history"):
                shutil.copyfile(getattr(before, name), getattr(copy, name))


def job_of(trial: str, recipe: Recipe, objective: Objective) -> Job:
    """What is to be done in a trial."""
    if not isinstance(objective, Downstream):
        return Job(name=trial, kind="validate")
    probes = HEADLINE_PROBES if objective.probe is None else (objective.probe,)
    evaluation = EvaluationSettings(
        tasks=objective.tasks, data=objective.data, probes=probes, folds=objective.folds
    )
    key = fingerprint([recipe.fingerprint(), evaluation.model_dump(mode="json")])
    return Job(name=trial, kind="train", evaluation=evaluation, own_tasks=recipe.tasks, key=key)


def scores_of(folder: TrialFolder, objective: Objective) -> Mapping[str, float]:
    """Task -> mean score of its probe; or source -> validation loss over the mean-prediction baseline's.

    Raises:
        DataError: Where the trial's files cannot be read, or no baseline has a loss above 0.
    """
    if isinstance(objective, Downstream):
        tasks = read_object(folder.scores, tasks=dict)["tasks"]
        return {name: float(found["score"]) for name, found in tasks.items()}
    sources = read_object(folder.run.card, scores=dict)["scores"]["sources"]
    shares = {name: found["per_cent"] for name, found in sources.items()}
    if all(share is None for share in shares.values()):
        raise DataError(
            f"{folder.run.card}: the baseline of each source has a loss of 0; validate more tracks"
        )
    return {name: share / 100 for name, share in shares.items() if share is not None}


def mean(scores: Mapping[str, float]) -> float:
    """One number of all sources or tasks."""
    return float(np.mean(list(scores.values())))
