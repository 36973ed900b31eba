"""Kill -9 of one of two workers of a training, and a stop of both: the end is that of an unbroken run."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from fault_tools import start

from kerasrep.recipe.file import write_recipe
from kerasrep.storage.run_directory import RunDirectory, read_arrays, read_json

pytestmark = pytest.mark.slow

#: Kills a launch survives, and one more try.
KILLS_A_RUN = 5


class Training:
    """Runs of `kerasrep-train --workers 2` on one recipe."""

    def __init__(self, recipe, folder, monkeypatch):
        monkeypatch.setenv("KERASREP_HOME", str(folder / "home"))
        write_recipe(folder / "recipe.yaml", recipe)
        self._folder, self._log = folder, folder / "log"

    def run(self, name):
        return RunDirectory(self._folder / name)

    def start(self, name, *more):
        arguments = [self._folder / "recipe.yaml", "--workers", 2, "--restarts", KILLS_A_RUN]
        arguments += ["--run-dir", self.run(name).root, f"export.directory={self._folder}/exported"]
        return start("train", [*arguments, *more], self._log)

    def end(self, process, code=0):
        assert process.wait(timeout=900) == code, self.said
        return self.said

    @property
    def said(self):
        return self._log.read_text()


@pytest.fixture
def training(tiny_recipe, prepared_tones, tmp_path, monkeypatch):
    settings = {"epochs": 10, "checkpoint_every_epochs": 2, "tensorboard": "scalars"}
    return Training(tiny_recipe(training=settings), tmp_path, monkeypatch)


def state(run):
    arrays = read_arrays(run.last) | {f"best/{name}": array for name, array in read_arrays(run.best).items()}
    return {name: array for name, array in arrays.items() if not name.endswith("meta")}


def assert_same_state(run, expected):
    found = state(run)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert read_json(run.card)["ended"] == "done"


def workers_of(process):
    """Process ids of the workers, in order, once both are there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        found = [int(word) for word in children.read_text().split()]
        if len(found) == 2:
            return found
        time.sleep(0.05)
    return []


def wait_for_a_checkpoint(training, name, process):
    last = training.run(name).last
    while not (last.exists() and json.loads(str(read_arrays(last)["meta"]))["step"] > 0):
        assert process.poll() is None, training.said
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_worker_that_is_asked_to_stop_stops_all_and_says_by_which_signal(training, number):
    process = training.start("asked")
    wait_for_a_checkpoint(training, "asked", process)
    os.kill(workers_of(process)[1], number)
    said = training.end(process, 128 + number)
    assert f"error: stopped by {number.name} after step " in said


def test_two_workers_stopped_and_resumed_equal_an_unbroken_run(training):
    training.end(training.start("whole"))
    process = training.start("stopped")
    wait_for_a_checkpoint(training, "stopped", process)
    process.send_signal(signal.SIGTERM)
    said = training.end(process, 128 + signal.SIGTERM)
    step = int(re.search(r"stopped by SIGTERM after step (\d+) of 40, state saved", said)[1])
    assert 8 <= step < 40
    training.end(training.start("stopped", "--resume"))
    assert_same_state(training.run("stopped"), state(training.run("whole")))


def test_workers_killed_at_random_moments_end_with_the_same_weights(training, kills, tally):
    began = time.perf_counter()
    training.end(training.start("whole"))
    span_seconds, expected = time.perf_counter() - began, state(training.run("whole"))
    rng, done, number, seconds = random.Random(6), 0, 0, []
    while done < kills:
        name, killed, killed_seconds = f"killed{number}", 0, None
        number += 1
        process = training.start(name)
        while process.poll() is None and done + killed < kills and killed < KILLS_A_RUN:
            workers = workers_of(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, span_seconds))
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(rng.choice(workers), signal.SIGKILL)
            killed_seconds = time.perf_counter()
            while process.poll() is None and restarts(training) == killed:
                time.sleep(0.02)
            killed = restarts(training)
        training.end(process)
        if killed:
            seconds.append(time.perf_counter() - killed_seconds)
        done += killed
        assert_same_state(training.run(name), expected)
    tally("kill -9 of a worker of kerasrep-train --workers 2", done, done, seconds)


def restarts(training):
    """How often a worker was killed so far, as the launcher saw it."""
    return training.said.count("was killed by SIGKILL; starting all again")
