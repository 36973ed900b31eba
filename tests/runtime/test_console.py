import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest

from kerasrep.runtime import console
from kerasrep.runtime.console import Progress, clock, say, verbosity
from kerasrep.runtime.run_log import run_log

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Stands still until it is moved."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(console, "_BEAT_SECONDS", 1e6)
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock_of(monkeypatch):
    return Clock(monkeypatch)


def test_where_there_is_no_terminal_a_plain_line_comes_now_and_then(clock_of):
    file = io.StringIO()
    with Progress(1000, "decoding", "track", file=file) as bar:
        for second in range(200):
            clock_of.now = float(second)
            bar.update(5)
    lines = file.getvalue().splitlines()
    assert lines == [
        "decoding: 55 of 1000 tracks (6%) in 10 s",
        "decoding: 155 of 1000 tracks (16%) in 30 s, about 2 min 49 s left",
        "decoding: 455 of 1000 tracks (46%) in 1 min 30 s, about 1 min 49 s left",
        "decoding: 755 of 1000 tracks (76%) in 2 min 30 s, about 49 s left",
        "decoding: 1000 of 1000 tracks (100%) in 3 min 19 s",
    ]


def test_what_is_done_at_once_needs_no_line(clock_of):
    file = io.StringIO()
    with Progress(10, "decoding", "track", file=file) as bar:
        clock_of.now = 9.0
        bar.update(10)
    assert file.getvalue() == ""


def test_a_resumed_job_reckons_with_what_it_did_itself(clock_of):
    file = io.StringIO()
    with Progress(100, "training", "step", initial=80, file=file) as bar:
        clock_of.now = 20.0
        bar.set_postfix("tag 1.20")
        bar.update(10)
        clock_of.now = 45.0
        bar.update(5)
    assert file.getvalue().splitlines()[:2] == [
        "training: 90 of 100 steps (90%) in 20 s; tag 1.20",
        "training: 95 of 100 steps (95%) in 45 s, about 25 s left; tag 1.20",
    ]


def test_what_the_work_takes_to_begin_is_not_in_the_time_left(clock_of):
    file = io.StringIO()
    with Progress(100, "training", "step", file=file) as bar:
        for step in range(60):
            clock_of.now = 40.0 + step  # the first step compiles for 40 seconds
            bar.update()
    first, second, *_ = file.getvalue().splitlines()
    assert first == "training: 1 of 100 steps (1%) in 40 s"
    assert second == "training: 21 of 100 steps (21%) in 1 min 00 s, about 1 min 19 s left"


def test_without_a_total_the_count_alone_is_told(clock_of):
    file = io.StringIO()
    with Progress(None, None, "row", file=file) as bar:
        clock_of.now = 15.0
        bar.update(7)
    assert file.getvalue().splitlines()[0] == "7 rows in 15 s"


def test_a_terminal_has_a_bar_of_one_line():
    file = Terminal()
    with Progress(10, "decoding", "track", file=file) as bar:
        bar.update(10)
    text = file.getvalue()
    assert "decoding: 100%" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("file", [io.StringIO, Terminal])
@pytest.mark.parametrize("way", ["not shown", "quiet"])
def test_nothing_is_drawn_where_nothing_is_wanted(clock_of, file, way):
    drawn = file()
    with (
        verbosity(quiet=way == "quiet", verbose=True),
        Progress(10, "x", "track", way == "quiet", file=drawn) as bar,
    ):
        clock_of.now = 100.0
        bar.update(10)
    assert drawn.getvalue() == ""


def test_the_log_of_the_run_has_progress_whatever_is_drawn(tmp_path, clock_of):
    with run_log("embed", tmp_path / "log.jsonl"), Progress(10, "embedding", "file", shown=False) as bar:
        clock_of.now = 12.0
        bar.update(4)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {key: lines[1][key] for key in ("event", "what", "done", "total", "seconds")} == {
        "event": "progress",
        "what": "embedding",
        "done": 4,
        "total": 10,
        "seconds": 12.0,
    }


def test_a_reader_that_has_left_does_not_stop_the_work(clock_of):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with Progress(10, "x", "file", file=Closed()) as bar:
        clock_of.now = 100.0
        bar.update()


def test_quiet_keeps_results_and_ends_with_the_block(capsys, tmp_path):
    with verbosity(quiet=True, verbose=False):
        say("a note")
        console.result(tmp_path / "x\ny", "made x")
    say("another")
    assert capsys.readouterr().out == f"{tmp_path}/x\\ny\nanother\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3_900, "1 h 05 min")]
)
def test_times_are_told_in_two_units(seconds, text):
    assert clock(seconds) == text


def warn_like(package):
    code = compile("import warnings\nwarnings.warn('mind this')", f"/site-packages/{package}/x.py", "exec")
    exec(code, {"__name__": package, "__warningregistry__": {}})


@pytest.mark.parametrize(
    ("package", "verbose", "shown"),
    [("tensorflow", False, False), ("tensorflow", True, True), ("keras", False, False), ("own", False, True)],
)
def test_warnings_of_tensorflow_go_to_the_log_unless_verbose(tmp_path, capsys, package, verbose, shown):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest: print("shown", message)
        with verbosity(quiet=False, verbose=verbose), run_log("train", tmp_path / "log.jsonl"):
            warn_like(package)
    assert ("shown mind this" in capsys.readouterr().out) is shown
    if not verbose:
        events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert events == ["started", "warning", "ended"]


def test_the_logger_of_tensorflow_shows_errors_alone_and_the_log_has_the_rest(tmp_path, caplog):
    logger = logging.getLogger("tensorflow")
    with verbosity(quiet=False, verbose=False), run_log("train", tmp_path / "log.jsonl"):
        logger.warning("retracing")
        logger.error("broken")
    logger.warning("later")
    assert [record.getMessage() for record in caplog.records] == ["broken", "later"]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line.get("message") for line in lines[1:-1]] == ["retracing", "broken"]


def test_a_command_prints_nothing_of_tensorflow_unless_verbose():
    body = """
    def main(argv):
        import tensorflow as tf
        tf.get_logger().warning("from its logger")
        print((tf.constant(1) + 1).numpy())
        from tensorflow.python.util import deprecation
        return 0
    from kerasrep.cli import command
    import sys
    sys.exit(command.run(main, "kerasrep-train"))
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")} | {"PYTHONPATH": str(ROOT)}
    printed = {
        option: subprocess.run(
            [sys.executable, "-c", textwrap.dedent(body), *option],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        for option in ((), ("--verbose",))
    }
    assert (printed[()].stdout, printed[()].stderr) == ("2\n", "")
    assert printed[("--verbose",)].stdout == "2\n"
    of_logger = [line.endswith("from its logger") for line in printed[("--verbose",)].stderr.splitlines()]
    assert True in of_logger and False in of_logger  # what TensorFlow's own code says, too


def test_lines_come_while_one_piece_of_work_takes_long(monkeypatch):
    monkeypatch.setattr(console, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(console, "FIRST_LINE_SECONDS", 0.02)
    file = io.StringIO()
    with Progress(3, "embedding", "file", file=file):
        deadline = time.monotonic() + 20
        while not file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.getvalue().startswith("embedding: 0 of 3 files (0%) in ")
