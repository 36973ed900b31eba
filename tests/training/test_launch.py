"""Workers as processes of this machine: what they learn together, and what happens when one dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kerasrep.recipe.file import write_recipe
from kerasrep.storage.run_directory import RunDirectory, read_arrays
from kerasrep.training import launch as module
from kerasrep.training.launch import launch

TRAIN = "import sys; from kerasrep.cli.train import entry; sys.exit(entry())"


class Ended:
    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


def scripted(*attempts):
    """A launcher whose processes have ended with these exit codes; and the command lines that it is given."""
    left, seen = list(attempts), []

    @contextlib.contextmanager
    def start(arguments, workers, run):
        seen.append(list(arguments))
        yield [Ended(code) for code in left.pop(0)]

    return start, seen


def test_a_worker_that_was_killed_is_started_again_and_resumes_where_there_is_a_run(tmp_path):
    run, said = RunDirectory(tmp_path), []
    run.recipe.write_text("name: begun")
    start, seen = scripted((module._TRY_AGAIN, -signal.SIGKILL), (0, 0))
    assert launch(["r.yaml"], run, False, 2, 3, said.append, start) == 0
    assert [line[-1] for line in seen] == [str(tmp_path), "--resume"]
    assert said == [
        "worker 1 of 2 was killed by SIGKILL; starting all again from the last checkpoint (1 of 3)"
    ]


def test_a_worker_with_an_error_of_its_own_is_quoted_and_not_started_again(tmp_path):
    start, seen = scripted((module._TRY_AGAIN, 2))
    (tmp_path / "worker-1.txt").write_text("note: ...\nkerasrep-train: error: no such key\n")
    with pytest.raises(
        module.RunError, match="worker 1 failed: kerasrep-train: error: no such key; its"
    ) as told:
        launch(["r.yaml"], RunDirectory(tmp_path), False, 2, 3, start=start)
    assert told.value.exit_code == 2 and len(seen) == 1


def test_the_chief_has_told_its_own_error(tmp_path):
    start, seen = scripted((2, module._TRY_AGAIN), (2, 1))
    for _ in range(2):
        assert launch(["r.yaml"], RunDirectory(tmp_path), False, 2, 3, start=start) == 2
    assert len(seen) == 2


def test_restarts_come_to_an_end(tmp_path):
    start, _ = scripted(*[(-signal.SIGKILL, 0)] * 2)
    with pytest.raises(module.RunError, match="worker 0 of 2 was killed by SIGKILL 2 times"):
        launch(["r.yaml"], RunDirectory(tmp_path), False, 2, 1, lambda line: None, start)


def recipe_file(tiny_recipe, folder, dropout=0.5):
    recipe = tiny_recipe(
        model={"width": 0.0625, "dropout": dropout},
        training={"epochs": 6, "checkpoint_every_epochs": 2, "tensorboard": "scalars"},
        export={"directory": str(folder / "exported")},
    )
    write_recipe(folder / "tones.yaml", recipe)
    return folder / "tones.yaml"


def start(path, run, *arguments):
    command = [sys.executable, "-c", TRAIN, path, "--run-dir", run.root, *arguments]
    return subprocess.Popen(
        [str(a) for a in command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def finish(process, seconds=400):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def vectors(run):
    return {n: a for n, a in read_arrays(run.last).items() if n not in ("meta", "sums")}


def losses(run):
    history = json.loads(str(read_arrays(run.last)["meta"]))["history"]
    return np.array([value for row in history for key, value in sorted(row.items()) if "loss/" in key])


@pytest.mark.slow
def test_two_workers_equal_two_replicas_and_a_killed_worker_changes_nothing(
    tiny_recipe, prepared_tones, tmp_path
):
    path = recipe_file(tiny_recipe, tmp_path)
    runs = {name: RunDirectory(tmp_path / name) for name in ("replicas", "workers", "killed")}
    finish(start(path, runs["replicas"], "distribution.devices=2"))
    finish(start(path, runs["workers"], "--workers", 2))
    one, other = vectors(runs["replicas"]), vectors(runs["workers"])
    for name, expected in one.items():  # bit by bit: a sum of two has one order
        np.testing.assert_array_equal(other[name], expected, err_msg=name)
    np.testing.assert_array_equal(losses(runs["workers"]), losses(runs["replicas"]))

    process = start(path, runs["killed"], "--workers", 2)
    end = time.monotonic() + 300
    while not (
        runs["killed"].last.exists() and read_arrays(runs["killed"].last)["sums"].size and epochs(runs)
    ):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    out = finish(process)
    assert "worker 1 of 2 was killed by SIGKILL; starting all again" in out
    again = vectors(runs["killed"])
    for name, expected in other.items():
        np.testing.assert_array_equal(again[name], expected, err_msg=name)
    np.testing.assert_array_equal(losses(runs["killed"]), losses(runs["workers"]))


def epochs(runs):
    return json.loads(str(read_arrays(runs["killed"].last)["meta"]))["step"]


@pytest.mark.slow
def test_two_workers_train_heads_that_have_no_statistics(tiny_recipe, prepared_tones, tmp_path):
    path = recipe_file(tiny_recipe, tmp_path)
    runs = {name: RunDirectory(tmp_path / name) for name in ("replicas", "workers")}
    finish(start(path, runs["replicas"], "strategy=ms-sr@fc", "distribution.devices=2"))
    finish(start(path, runs["workers"], "strategy=ms-sr@fc", "--workers", 2))
    assert np.abs(losses(runs["replicas"]) - losses(runs["workers"])).max() < 1e-3
    saved = vectors(runs["workers"])
    assert [name for name, vector in saved.items() if not vector.size and name != "shared.statistics"]


@pytest.mark.slow
def test_what_is_wrong_with_the_corpus_is_one_line_from_several_workers_too(tiny_recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    recipe = tiny_recipe(corpus={"root": str(tmp_path / "empty"), "tables": {}})
    write_recipe(tmp_path / "empty.yaml", recipe)
    process = start(tmp_path / "empty.yaml", RunDirectory(tmp_path / "run"), "--workers", 2)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1 and "holds no audio file" in err
