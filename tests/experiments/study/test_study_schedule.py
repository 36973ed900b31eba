"""The schedule with real processes that do little: order, retries, failures, signals, the study's death."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from made_study import make_study, write_outcomes

from kerasrep.errors import RunError
from kerasrep.experiments.study import processes
from kerasrep.experiments.study.processes import (
    Ended,
    RunMaker,
    Slot,
    make_slots,
    note_failure,
    recorded_failures,
)
from kerasrep.experiments.study.recipe import WorkerSettings
from kerasrep.experiments.study.schedule import (
    LOST,
    MAX_LOSSES,
    Display,
    Progress,
    Schedule,
    Stopped,
    clock,
    seconds_left,
    summary,
)
from kerasrep.runtime.child_process import child
from kerasrep.runtime.pool.base import Answer, LocalPool, Lost

OK = "pass"
FAILS = "import sys; print('kerasrep-study: error: the disk is full', flush=True); sys.exit(1)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Runs of a study, scripts that stand for their processes attempt by attempt, and what was started."""
    _, _, runs, folder = make_study(tmp_path)
    singles = [run for run in runs if run.facts.kind == "single"][:3]
    needing = next(run for run in runs if run.facts.strategy == "mss-cr" and len(run.needs) < 8)
    scripts, started = {}, []

    @contextlib.contextmanager
    def start(run_folder, slot):
        run_folder.root.mkdir(parents=True, exist_ok=True)
        name = run_folder.root.name
        started.append(name)
        script = scripts.get(name, [OK])
        text = script[min(started.count(name), len(script)) - 1]
        with run_folder.log.open("ab") as log, child(["-c", text], stdout=log, stderr=log) as process:
            yield process

    monkeypatch.setattr(processes, "start_worker", start)
    return runs, singles, needing, folder, scripts, started


def makers(count):
    return LocalPool([RunMaker(Slot()) for _ in range(count)])


def silent(progress, text):
    """A listener that nobody listens to."""


def test_what_a_run_needs_is_done_first(planned):
    runs, _, needing, folder, _, started = planned
    parts = [run for run in runs if run.name in needing.needs]
    progress = Schedule(folder, makers(2), 0, silent).run([needing, *parts], [])
    assert started[-1] == needing.name
    assert set(started[:-1]) == set(needing.needs)
    assert set(progress.states.values()) == {"done"}


def test_a_failed_run_is_recorded_tried_again_and_stops_nothing(planned):
    _, singles, _, folder, scripts, started = planned
    scripts[singles[0].name] = [FAILS, KILLED, FAILS]
    scripts[singles[1].name] = [FAILS, OK]
    said = []
    progress = Schedule(folder, makers(1), 2, lambda _, text: said.append(text)).run(singles, [])
    assert [progress.states[run.name] for run in singles] == ["failed", "done", "done"]
    assert started.count(singles[0].name) == 3
    lines = folder.run(singles[0].name).failures.read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in lines]
    assert reasons[0] == reasons[2] == progress.reasons[singles[0].name] == "the disk is full"
    assert any("is tried again: the disk is full" in text for text in said)
    assert len(folder.run(singles[1].name).failures.read_text().splitlines()) == 1


def test_a_process_that_was_killed_says_by_which_signal(planned):
    _, singles, _, folder, scripts, _ = planned
    scripts[singles[0].name] = [KILLED]
    progress = Schedule(folder, makers(1), 0, silent).run(singles[:1], [])
    assert "was ended by SIGKILL; see" in progress.reasons[singles[0].name]


class LosingPool:
    """A cluster whose machines are lost with the first runs that they are given."""

    size = 1

    def __init__(self, losses):
        self.left, self.roots = losses, []

    def room(self):
        return 1 - len(self.roots)

    def give(self, root):
        root.mkdir(parents=True, exist_ok=True)
        self.roots.append(root)

    def results(self):
        self.left -= 1
        yield self.roots.pop(), Lost(1) if self.left >= 0 else Answer(Ended(0))

    def stop(self, grace_seconds):
        pass


def test_a_run_whose_machine_was_lost_is_made_again_without_counting_as_failed(planned):
    _, singles, _, folder, _, _ = planned
    said = []
    progress = Schedule(folder, LosingPool(MAX_LOSSES), 0, lambda _, text: said.append(text)).run(
        singles[:1], []
    )
    assert progress.states[singles[0].name] == "done" and not progress.attempts
    assert said.count(f"{singles[0].name}: lost, is made again: {LOST.reason}") == MAX_LOSSES
    assert not folder.run(singles[0].name).failures.exists()


def test_a_run_that_all_machines_are_lost_with_fails(planned):
    _, singles, _, folder, _, _ = planned
    progress = Schedule(folder, LosingPool(MAX_LOSSES + 1), 5, silent).run(singles[:1], [])
    assert progress.states[singles[0].name] == "failed"
    assert progress.reasons[singles[0].name] == LOST.reason
    assert json.loads(folder.run(singles[0].name).failures.read_text())["code"] is None


def test_what_needs_a_failed_run_fails_with_the_reason(planned):
    runs, _, needing, folder, scripts, started = planned
    parts = [run for run in runs if run.name in needing.needs]
    scripts[parts[0].name] = [FAILS]
    progress = Schedule(folder, makers(1), 0, silent).run([*parts, needing], [])
    assert progress.reasons[needing.name] == f"needs {parts[0].name}, which failed"
    assert needing.name not in started


def test_failures_are_remembered_until_the_run_is_done(planned):
    runs, _, needing, folder, scripts, _ = planned
    parts = [run for run in runs if run.name in needing.needs]
    scripts[parts[0].name], scripts[parts[1].name] = [KILLED, FAILS], [FAILS, OK]
    progress = Schedule(folder, makers(1), 1, silent).run([*parts, needing], [])
    done = progress.names("done")
    assert done == [part.name for part in parts[1:]]
    found = recorded_failures(folder, runs, done)
    assert found == progress.reasons | {
        run.name: f"needs {parts[0].name}, which failed" for run in runs if parts[0].name in run.needs
    }
    assert found[parts[0].name] == "the disk is full"
    assert recorded_failures(folder, runs, [*done, parts[0].name]) == {}
    with folder.run(parts[0].name).failures.open("a") as file:
        file.write('{"when": "20')  # cut off
    assert "its record cannot be read" in recorded_failures(folder, runs, done)[parts[0].name]


def test_a_report_alone_tells_what_failed_before(tmp_path, capsys):
    from kerasrep.cli.study import main

    _, _, runs, folder = make_study(tmp_path)
    write_outcomes(folder, runs[1:4])
    folder.run(runs[0].name).root.mkdir(parents=True)
    note_failure(folder.run(runs[0].name), 1, "the disk is full")
    assert main([str(tmp_path / "made.yaml"), "-o", str(folder.root), "--report-only"]) == 1
    assert f"failed:  {runs[0].name}: the disk is full" in capsys.readouterr().out
    assert "the disk is full" in folder.report.read_text()


def test_what_is_done_is_not_started_again(planned):
    _, singles, _, folder, _, started = planned
    progress = Schedule(folder, makers(1), 0, silent).run(singles, [singles[0].name])
    assert started == [run.name for run in singles[1:]]
    assert summary(progress) == "3 of 3 runs done, 0 running, 0 failed"


def test_a_signal_ends_the_processes_and_says_how_to_go_on(planned):
    _, singles, _, folder, scripts, _ = planned
    scripts |= {run.name: [SLEEPS] for run in singles}
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    started = time.monotonic()
    with pytest.raises(Stopped, match=r"stopped by SIGTERM; the same command goes on") as raised:
        Schedule(folder, makers(2), 0, silent).run(singles, [])
    assert raised.value.exit_code == 143
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_worker_ends_when_the_study_dies():
    code = (
        "import time; from kerasrep.runtime.child_process import end_with_parent; end_with_parent();"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    process.stdin.close()  # as the system does for a process that was killed
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()


def test_slots_are_gpus_in_turn_or_cores_divided(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {4, 5, 6, 7})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    slots = make_slots(WorkerSettings())
    assert [slot.cores for slot in slots] == [(4, 5), (6, 7)]
    assert [slot.cores for slot in make_slots(WorkerSettings(count=3))] == [(4,), (5,), (6,)]
    assert [slot.cores for slot in make_slots(WorkerSettings(count=5))] == [()] * 5
    assert [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["3", "5"]
    assert [slot.gpu for slot in make_slots(WorkerSettings(count=3))] == [0, 1, 0]
    with pytest.raises(RunError, match=r"workers\.gpus: GPU 2 is not visible, there are 2"):
        make_slots(WorkerSettings(gpus=(2,)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [slot.cores for slot in make_slots(WorkerSettings(cores=2))] == [(4, 5), (6, 7)]
    assert make_slots(WorkerSettings(cores=2))[0].environment()["OMP_NUM_THREADS"] == "2"
    assert make_slots(WorkerSettings(count=3, cores=2)) == [Slot(), Slot(), Slot()]


def test_the_time_left_follows_from_what_was_done():
    progress = Progress({"a": "done", "b": "running", "c": "waiting", "d": "waiting"}, 2)
    assert seconds_left(progress) is None
    progress.seconds["a"], progress.began["b"] = 100.0, time.monotonic() - 40
    assert seconds_left(progress) == pytest.approx((200 + 60) / 2, abs=1)
    assert summary(progress).endswith("1 running, 0 failed, about 2 min 10 s left")
    assert [clock(s) for s in (20, 260, 3900)] == ["20 s", "4 min 20 s", "1 h 05 min"]


def test_without_a_terminal_there_is_a_plain_line_a_change(capsys):
    progress = Progress({"a": "done", "b": "failed"}, 1, reasons={"b": "x"})
    with Display(terminal=False) as display:
        display(progress, "")
        display(progress, "b: failed: x")
    assert capsys.readouterr().out == "b: failed: x (1 of 2 runs done, 0 running, 1 failed)\n"


def test_in_a_terminal_what_happened_stays_above_the_table(capsys):
    progress = Progress(dict.fromkeys("abcdef", "waiting"), 1)
    progress.states["a"], progress.began["a"] = "running", time.monotonic()
    with Display(terminal=True) as display:
        display(progress, "[x]")
    assert "[x]" in capsys.readouterr().out
