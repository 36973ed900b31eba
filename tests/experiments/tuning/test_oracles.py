"""keras-tuner's oracles: values stay in the space, and a kill at any moment changes nothing."""

import math

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.experiments.tuning import tuner as oracles
from kerasrep.experiments.tuning.directory import TrialFolder
from kerasrep.experiments.tuning.reading import Parameter, Tuning, TuningRecipe, ValidationLoss
from kerasrep.experiments.tuning.tuner import hyperparameters, make_oracle, scores_of, values_of
from kerasrep.storage.run_directory import write_json

SPACE = {
    "training.learning_rate": {"min": 1e-4, "max": 1e-2, "log": True},
    "model.dropout": {"min": 0.0, "max": 0.6, "step": 0.1},
    "batches.size": {"min": 8, "max": 64, "step": 8},
    "audio.n_mels": {"choice": [64, 96, 128]},
    "strategy": {"choice": ["mss-cr", "ms-cr@2"]},
    "training.xla": {"choice": ["auto", True, False]},
    "sources": {"choice": [["tag", "year"], ["tag", "bpm"]]},
    "model.l2": {"choice": [0, 1e-6, 1e-4]},
    "training.steps_per_call": {"choice": ["auto", 4]},
}


@pytest.fixture
def make_tuning(make_recipe):
    def make(**settings):
        values = {"name": "test", "recipe": "unused.yaml", "max_trials": 7, "space": SPACE, "seed": 5}
        return Tuning(TuningRecipe.model_validate(values | settings), make_recipe(training={"epochs": 4}))

    return make


@given(seed=st.integers(0, 10**9))
def test_every_value_lies_in_the_space_and_has_the_kind_that_the_recipe_takes(seed):
    space = {key: Parameter.model_validate(value) for key, value in SPACE.items()}
    found = hyperparameters(space)
    chosen = {parameter.name: parameter.random_sample(seed) for parameter in found.space}
    values = values_of(space, chosen)
    assert 1e-4 <= values["training.learning_rate"] <= 1e-2
    assert values["model.dropout"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # not 0.30000000000000004
    assert values["batches.size"] in range(8, 65, 8)
    assert type(values["batches.size"]) is int
    assert values["model.l2"] in (0.0, 1e-6, 1e-4)
    assert type(values["model.l2"]) is float
    for key in ("audio.n_mels", "strategy", "training.xla", "sources", "training.steps_per_call"):
        assert any(
            values[key] == choice and type(values[key]) is type(choice) for choice in SPACE[key]["choice"]
        )


def score(values):
    """A bowl whose lowest point lies inside the space."""
    return (math.log10(values["training.learning_rate"]) + 3) ** 2 + (values["model.dropout"] - 0.3) ** 2


class Killed(BaseException):
    """What a kill is to the process."""


def search(tuning, folder):
    """Drive an oracle as the tuner does; returns id, values and score of each trial."""
    oracle = make_oracle(tuning)
    oracle.verbose = 0
    oracle._set_project_dir(folder, "trials")
    if (folder / "trials" / "oracle.json").exists():
        oracle.reload()
    else:
        oracle.save()
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = values_of(tuning.space, trial.hyperparameters.values)
        if trial.trial_id.endswith("2"):
            trial.status, trial.message = "FAILED", "as an example"
        else:
            oracle.update_trial(trial.trial_id, {oracles.OBJECTIVE: score(values)})
            trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return [
        (
            name,
            oracle.trials[name].hyperparameters.values,
            oracle.trials[name].status,
            oracle.trials[name].score,
        )
        for name in oracle.start_order
    ]


@pytest.mark.parametrize(
    ("tuner", "kills"),
    [
        ("random", range(1, 30, 4)),
        ({"name": "hyperband", "factor": 2}, range(2, 30, 4)),
        ({"name": "bayesian", "initial_points": 5}, [27]),
        pytest.param({"name": "bayesian", "initial_points": 3}, range(1, 30), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_search_killed_at_any_write_goes_on_as_if_nothing_had_happened(
    make_tuning, tuner, kills, tmp_path, monkeypatch
):
    few = {"training.learning_rate": SPACE["training.learning_rate"], "model.dropout": SPACE["model.dropout"]}
    tuning = make_tuning(tuner=tuner, space=few)
    expected = search(tuning, tmp_path / "whole")
    assert len(expected) == 7
    write = oracles.write_text
    for kill_at in kills:
        left = kill_at

        def write_until_killed(path, text):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            write(path, text)

        folder = tmp_path / f"killed-{kill_at}"
        monkeypatch.setattr(oracles, "write_text", write_until_killed)
        with pytest.raises(Killed):
            search(tuning, folder)
        monkeypatch.setattr(oracles, "write_text", write)
        assert search(tuning, folder) == expected, kill_at


def test_the_bayesian_search_tries_nothing_twice_even_where_little_is_left(make_tuning, tmp_path):
    space = {
        "training.learning_rate": {"choice": [1e-4, 1e-3, 1e-2]},
        "model.dropout": {"choice": [0.1, 0.3]},
    }
    tuning = make_tuning(tuner={"name": "bayesian", "initial_points": 5}, max_trials=20, space=space)
    tried = [str(values) for _, values, _, _ in search(tuning, tmp_path)]
    assert len(tried) == len(set(tried)) == 6


@pytest.mark.slow
def test_the_bayesian_search_comes_nearer_to_the_lowest_point_than_chance(make_tuning, tmp_path):
    few = {
        "training.learning_rate": SPACE["training.learning_rate"],
        "model.dropout": {"min": 0.0, "max": 0.9},
    }
    best = {}
    for name in ("random", "bayesian"):
        found = []
        for seed in range(3):
            tuning = make_tuning(tuner=name, space=few, seed=seed, max_trials=14)
            results = search(tuning, tmp_path / f"{name}{seed}")
            found.append(min(value for *_, value in results if value is not None))
        best[name] = sum(found) / len(found)
    assert best["bayesian"] < best["random"]


def test_the_seed_zero_is_a_seed(make_tuning, tmp_path):
    first, again = (search(make_tuning(seed=0), tmp_path / name) for name in "ab")
    assert first == again
    assert first != search(make_tuning(seed=1), tmp_path / "c")


def test_the_plan_of_hyperband_is_what_it_does(make_tuning, tmp_path):
    tuning = make_tuning(tuner={"name": "hyperband", "factor": 3}, epochs=9, max_trials=None)
    oracle = make_oracle(tuning)
    oracle.verbose = 0
    oracle._set_project_dir(tmp_path, "trials")
    done = []
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = trial.hyperparameters.values
        done.append((values["tuner/initial_epoch"], values["tuner/epochs"]))
        oracle.update_trial(trial.trial_id, {oracles.OBJECTIVE: score(values)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert sorted(done) == sorted(oracle.plan())
    assert keras_tuner.oracles.HyperbandOracle in type(oracle).__mro__


def test_sources_whose_baseline_has_no_loss_do_not_count(tmp_path):
    folder = TrialFolder(tmp_path)

    def write(**shares):
        sources = {name: {"per_cent": share} for name, share in shares.items()}
        write_json(folder.run.card, {"scores": {"sources": sources}})

    write(tag=80.0, tempo=None)
    assert scores_of(folder, ValidationLoss()) == {"tag": 0.8}
    write(tempo=None)
    with pytest.raises(DataError, match="a loss of 0"):
        scores_of(folder, ValidationLoss())
