"""keras-tuner's oracles, which choose the trials, made to survive a kill and to repeat themselves.

As they come, they write their state in place, so that a kill may leave half a file; they keep a trial that
has ended among the running ones for a moment; a trial that was chosen but not yet noted counts for ever; and
the seed 0 means none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from kerasrep.experiments.tuning.reading import Tuning, takes_fractions
from kerasrep.experiments.tuning.settings import BayesianTuner, HyperbandTuner, Parameter
from kerasrep.storage.run_directory import write_text

OBJECTIVE = "score"
#: More than any search has: stopping after failures is the tuner's business.
NEVER = 10**9
SIGNIFICANT_DIGITS = 6


class Durable(keras_tuner.Oracle):
    """Writes whole files, and takes up what a kill has left."""

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
