"""Tuning recipes: what they may say, and the one line that says what is wrong."""

import re
from pathlib import Path

import pytest
import yaml

from kerasrep.errors import RecipeError
from kerasrep.experiments.tuning.reading import Parameter, read_tuning, with_values

BASE = "name: mine\nstrategy: mss-cr\nsources: [tag, year]\ntraining: {epochs: 50}\n"
#: Four lines: what follows stands in line 5.
HEAD = (
    "recipe: base.yaml\nmax_trials: 4\nspace:\n  training.learning_rate: {min: 1e-4, max: 1e-2, log: true}\n"
)


@pytest.fixture
def tuning(write_yaml):
    """A function that writes a tuning recipe beside its base and returns its path."""
    write_yaml(BASE, "base.yaml")
    return lambda text: write_yaml(text, "search.yaml")


def fault(path, *overrides):
    with pytest.raises(RecipeError) as raised:
        read_tuning(path, overrides)
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_the_base_lies_beside_the_tuning_recipe_and_takes_its_name(tuning):
    found = read_tuning(tuning(HEAD + "epochs: 3\n"))
    assert (found.base.name, found.base.training.epochs, found.epochs) == ("search", 50, 3)
    assert (found.settings.tuner.name, found.settings.objective.name) == ("random", "validation_loss")
    assert not found.more_is_better


def test_a_base_is_also_found_from_the_current_folder(tuning, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = tuning(HEAD).rename(tmp_path / "elsewhere" / "search.yaml")
    monkeypatch.chdir(tmp_path)
    assert read_tuning(path).base.sources == ("tag", "year")


def test_a_base_may_stand_inside_and_its_faults_have_their_lines(tuning):
    text = "max_trials: 2\nspace: {model.dropout: {choice: [0.1, 0.2]}}\nrecipe:\n  strategy: ms-cr@2\n"
    assert read_tuning(tuning(text + "  sources: [tag, bpm]\n")).base.strategy == "ms-cr@2"
    path = tuning(text + "  sources: [tag, bmp]\n")
    assert fault(path).startswith(
        f"{path}:5: sources[1]: 'bmp' has no table in corpus.tables; did you mean 'bpm'?"
    )


def test_settings_are_laid_over_the_base_and_overrides_over_settings(tuning):
    path = tuning(HEAD + "settings:\n  training: {decay: cosine, epochs: 9}\n")
    base = read_tuning(path, ["settings.training.epochs=7"]).base
    assert (base.training.decay, base.training.epochs, base.sources) == ("cosine", 7, ("tag", "year"))
    path = tuning(HEAD + "settings:\n  model: {dropuot: 0.1}\n")
    assert fault(path) == (
        f"{path}:6: model.dropuot: unknown key; did you mean 'dropout'? "
        "allowed here: start, freeze, trunk, width, dropout, heads, loss_scaling, l2"
    )


def test_what_is_written_down_reads_back_as_the_same_search(tuning, write_yaml):
    from kerasrep.recipe import strict_yaml

    first = read_tuning(
        tuning(
            HEAD + "tuner: {name: hyperband, factor: 2}\nobjective: {name: downstream, tasks: [demo_lead]}"
        )
    )
    again = read_tuning(write_yaml(strict_yaml.dump(first.as_dict()), "again.yaml"))
    assert again.as_dict() == first.as_dict()
    assert (again.base, again.space, again.more_is_better) == (first.base, first.space, True)


SPACE = "recipe: base.yaml\nmax_trials: 2\nspace:\n  "  # what follows stands in line 4
WRONG = [
    (
        SPACE + "training.learning_rat: {min: 1e-4, max: 1e-2}",
        r":4: space\.training\.learning_rat: unknown key; .*'learning_rate'\?",
    ),
    (SPACE + "trainig.epochs: {min: 1, max: 2}", r":4: space\.trainig: unknown key; did you mean 'training'"),
    (
        SPACE + "strategy: {choice: [mss-cr, ms-cr@3]}",
        r":4: space\.strategy: 'ms-cr@3' is not allowed; .*did you mean 'ms-cr@",
    ),
    (
        SPACE + "model.dropout: {min: 0, max: 1.5}",
        r":4: space\.model\.dropout: 1\.5 is not allowed; it takes a number at .* below 1",
    ),
    (
        SPACE + "batches.size: {min: 8.5, max: 16}",
        r":4: space\.batches\.size: 8\.5 is not allowed; it takes a whole number",
    ),
    (
        SPACE + "batches.size: {min: 8, max: 16, step: 0.5}",
        r":4: space\.batches\.size: 'step' must be a whole number",
    ),
    (SPACE + "batches.size: {min: 8}", r":4: space\.batches\.size: give either 'choice', or 'min' and 'max'"),
    (SPACE + "batches.size: {choice: [8], log: true}", r":4: space\.batches\.size: give either 'choice', or"),
    (SPACE + "batches.size: {}", r":4: space\.batches\.size: give either 'choice', or"),
    (
        SPACE + "batches.size: 8",
        r":4: space\.batches\.size: 8 is not allowed; it takes keys with values \(choice, min",
    ),
    (
        SPACE + "model.l2: {min: 0, max: 1e-3, log: true}",
        r":4: space\.model\.l2: 'min' must be above 0 with 'log'",
    ),
    (SPACE + "model.l2: {min: 1e-3, max: 1e-3}", r":4: space\.model\.l2: 'min' must be below 'max'"),
    (
        SPACE + "model.l2: {min: 1e-6, max: 1e-3, step: 1, log: true}",
        r":4: space\.model\.l2: 'step' must be above 1 with log",
    ),
    (SPACE + "strategy: {min: 1, max: 2}", r":4: space\.strategy: 1 is not allowed; it takes one of"),
    (
        SPACE + "model.dropout: {minimum: 0, max: 1}",
        r":4: space\.model\.dropout\.minimum: unknown key; .*allowed here: choice, min, max",
    ),
    (SPACE + "corpus.tracks: {min: 60, max: 90}", r":4: space\.corpus\.tracks: cannot be tuned"),
    (
        SPACE + "sources: {choice: [[tag, year], [tag, bpm]]}",
        r":4: space\.sources: validation losses of different sources",
    ),
    (
        SPACE.replace("max_trials: 2", "") + "model.dropout: {choice: [0.1]}",
        r"search\.yaml: max_trials: is missing",
    ),
    (HEAD + "tuner: bayes", r":5: tuner\.name: 'bayes' is not allowed; .*did you mean 'bayesian'"),
    (HEAD + "tuner: {name: hyperband, fctor: 2}", r":5: tuner\.fctor: unknown key; did you mean 'factor'"),
    (
        HEAD + "objective: {name: downstream, tasks: [demo_led]}",
        r":5: objective\.tasks: no task is called 'demo_led'; did you mean 'demo_lead'",
    ),
    (
        HEAD + "objective: {name: downstream, tasks: [gtzan]}",
        r":5: objective\.tasks: task 'gtzan' needs objective\.data",
    ),
    (
        HEAD + "objective: {name: downstream, tasks: [demo_lead], probe: svm}",
        r":5: objective\.probe: there is no probe 'svm'; there are .*linear_svm",
    ),
    (
        HEAD + "objective:\n  name: downstream\n  tasks: [demo_lead, demo_tempo]\n  probe: linear_svm",
        r":8: objective\.probe: 'linear_svm' is not for task 'demo_tempo', a regression",
    ),
    (
        HEAD + "objective: {name: downstream, tasks: [gtzan], data: nowhere}",
        r":5: objective\.data: there is no folder nowhere",
    ),
    (
        HEAD + "objective: {name: downstream, tasks: [gtzan], data: /}",
        r":5: objective\.data: task 'gtzan' needs /gtzan, which is not a folder",
    ),
    (
        SPACE + "targets.size: {choice: [20, 50]}",
        r":4: space\.targets\.size: validation losses of different sources or targets cannot be compared",
    ),
    (HEAD + "max_trial: 3", r":5: max_trial: unknown key; did you mean 'max_trials'"),
    (HEAD + "settings: {strategy: ss-r}", r"\.yaml:[35]: sources: strategy 'ss-r' takes one source, not 2"),
    (HEAD.replace("base.yaml", "bsae.yaml"), r"bsae\.yaml: no such file; did you mean .*base\.yaml"),
    (
        SPACE + "training.epochs: {min: 1, max: 9}\nepochs: 2",
        r":4: space\.training\.epochs: 'epochs' fixes them",
    ),
    (
        SPACE + "training.epochs: {min: 1, max: 9}\ntuner: hyperband",
        r":4: space\.training\.epochs: tuner 'hyperband' chooses them",
    ),
    ("max_trials: 3", r"recipe: is missing|space: is missing"),
    ("", r"is empty; a recipe needs at least 'recipe', 'max_trials' and 'space'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_told_with_its_line_and_what_is_allowed(tuning, text, message):
    found = fault(tuning(text))
    assert re.search(message, found), found


def test_a_probe_of_the_kind_of_an_own_task_and_a_folder_that_is_there_are_accepted(tuning, tmp_path):
    (tmp_path / "sets" / "gtzan").mkdir(parents=True)
    own = "settings: {tasks: [{name: mine, kind: regression, table: t.csv}]}\n"
    objective = "objective: {name: downstream, tasks: [mine], probe: %s}\n"
    assert read_tuning(tuning(HEAD + own + objective % "ridge")).settings.objective.probe == "ridge"
    assert "'linear_svm' is not for task 'mine'" in fault(tuning(HEAD + own + objective % "linear_svm"))
    read_tuning(tuning(HEAD + f"objective: {{name: downstream, tasks: [gtzan], data: {tmp_path / 'sets'}}}"))


def test_targets_can_be_searched_by_a_downstream_score(tuning):
    found = read_tuning(
        tuning(SPACE + "targets.size: {choice: [20, 50]}\nobjective: {name: downstream, tasks: [demo_lead]}")
    )
    assert found.space["targets.size"].choice == (20, 50)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("[0, 0.1, 0.5]", (0.0, 0.1, 0.5)),
        ("[1, 2]", (1, 2)),
        ("[auto, 4]", ("auto", 4)),
        ("[auto, true, 2, 0.5]", ("auto", True, 2.0, 0.5)),
    ],
)
def test_whole_numbers_beside_fractions_become_fractions_and_nothing_else_changes(choice, expected):
    found = Parameter.model_validate({"choice": yaml.safe_load(choice)}).choice
    assert [(type(value), value) for value in found] == [(type(value), value) for value in expected]


def test_settings_impossible_only_together_are_left_to_the_trials(tuning):
    found = read_tuning(tuning(SPACE + "audio.hop_samples: {choice: [256, 4096]}\n"))
    with pytest.raises(RecipeError, match=r"^audio\.segment_seconds: a segment has 14 frames, .* needs 64"):
        with_values(found.base, {"audio.hop_samples": 4096})
    assert with_values(found.base, {"audio.hop_samples": 512}).audio.hop_samples == 512


def test_the_shipped_recipe_searches_what_it_says_in_six_trials():
    found = read_tuning(Path(__file__).parents[3] / "recipes" / "tune-demo.yaml")
    assert found.settings.max_trials == 6
    assert found.base.corpus.name == "demo"
    assert {"training.learning_rate", "model.dropout", "model.l2", "batches.size", "audio.n_mels"} < set(
        found.space
    )
    assert {"audio.hop_samples", "model.width", "strategy"} < set(found.space)
