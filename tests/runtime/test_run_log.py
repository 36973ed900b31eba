import errno
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from kerasrep.errors import DataError, RunError
from kerasrep.runtime import run_log
from kerasrep.runtime.run_log import event, how_it_ended, peak_memory_mib
from kerasrep.runtime.stop_requests import Terminated
from kerasrep.training.loop import Interrupted

ROOT = Path(__file__).parents[2]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_job_tells_its_beginning_its_events_and_its_end(tmp_path):
    with run_log.run_log("train", tmp_path / "log.jsonl", recipe="mss"):
        event("epoch", epoch=1, loss=0.5)
    first, middle, last = lines_of(tmp_path / "log.jsonl")
    assert (first["event"], first["job"], first["recipe"]) == ("started", "train", "mss")
    assert {"time", "level", "event", "pid", "epoch", "loss"} == set(middle)
    assert (middle["level"], middle["epoch"], middle["loss"], middle["pid"]) == ("info", 1, 0.5, os.getpid())
    assert (last["event"], last["ended"]) == ("ended", "done")
    assert last["seconds"] >= 0
    assert last["peak_memory_mib"] > 10
    assert [line["time"] for line in (first, middle, last)] == sorted(
        line["time"] for line in (first, middle, last)
    )


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (DataError("a.csv, line 3: no number"), "failed: a.csv, line 3: no number"),
        (Interrupted("stopped after step 3", 15), "stopped by SIGTERM"),
        (KeyboardInterrupt(), "stopped by SIGINT"),
        (Terminated(), "stopped by SIGTERM"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "failed: /x: the disk is full"),
        (ZeroDivisionError("two\nlines"), "failed: ZeroDivisionError: two\\nlines"),
    ],
)
def test_how_a_job_ended_is_one_line_and_the_error_goes_on(tmp_path, error, ended):
    with pytest.raises(type(error)), run_log.run_log("embed", tmp_path / "log.jsonl"):
        raise error
    assert lines_of(tmp_path / "log.jsonl")[-1]["ended"] == ended == how_it_ended(error)


def test_a_later_sitting_is_appended(tmp_path):
    for _ in range(2):
        with run_log.run_log("train", tmp_path / "log.jsonl"):
            pass
    assert [line["event"] for line in lines_of(tmp_path / "log.jsonl")] == ["started", "ended"] * 2


def test_a_line_that_a_power_cut_tore_spoils_no_other(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "started"}\n{"event": "epo')
    with run_log.run_log("train", path):
        pass
    lines = path.read_text().splitlines()
    assert lines[1] == '{"event": "epo'
    assert json.loads(lines[2])["event"] == "started"


def test_a_log_without_a_folder_keeps_its_lines_until_it_has_one(tmp_path):
    with run_log.run_log("train"):
        event("prepared")
        with run_log.run_log("train", tmp_path / "log.jsonl"):
            event("epoch")
        event("exported")
    names = [line["event"] for line in lines_of(tmp_path / "log.jsonl")]
    assert names == ["started", "prepared", "folder", "epoch", "exported", "ended"]


def test_a_job_inside_another_is_told_in_both_logs(tmp_path):
    with run_log.run_log("tune", tmp_path / "outer"), run_log.run_log("train", tmp_path / "inner"):
        event("epoch")
    inner = [(line["event"], line.get("job")) for line in lines_of(tmp_path / "inner")]
    outer = [(line["event"], line.get("job")) for line in lines_of(tmp_path / "outer")]
    assert inner == [("started", "train"), ("epoch", None), ("ended", "train")]
    assert outer == [("started", "tune"), *inner, ("ended", "tune")]


def test_what_json_cannot_say_becomes_text_and_what_is_endless_is_cut(tmp_path):
    class Unspeakable:
        def __str__(self):
            raise RuntimeError("no")

    text = "x" * 10**6

    with run_log.run_log("train", tmp_path / "log.jsonl"):
        event("a", loss=float("nan"), array=np.float32(1.5), path=Path("x"), name="\udcff\n", long=text)
        event("b", bad=Unspeakable())
    _, line, last = lines_of(tmp_path / "log.jsonl")
    assert (line["loss"], line["array"], line["path"]) == ("nan", 1.5, "x")
    assert len(line["long"]) < 5_000
    assert last["event"] == "ended"


@pytest.mark.parametrize("place", ["missing/log.jsonl", "folder"])
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with run_log.run_log("train", tmp_path / place):
        event("epoch")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_nothing():
    with run_log.run_log("train", Path("/dev/full")):
        event("epoch")


def test_a_log_that_loses_its_end_to_a_full_disk_goes_on_with_a_line_of_its_own(tmp_path, monkeypatch):
    path, write = tmp_path / "log.jsonl", os.write
    with run_log.run_log("train", path):
        monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:5]))
        event("cut")
        monkeypatch.setattr(os, "write", write)
        event("whole")
    lines = path.read_text().splitlines()
    assert lines[1] == '{"tim'
    assert json.loads(lines[2])["event"] == "whole"


def test_programs_find_the_events_under_logging_as_loud_as_they_set_it(caplog):
    event("epoch", epoch=1)
    assert not caplog.records
    with caplog.at_level(logging.INFO, "kerasrep"):
        event("epoch", epoch=2)
    assert [record.getMessage() for record in caplog.records] == ["epoch epoch=2"]


def test_peak_memory_is_that_of_the_process():
    code = "from kerasrep.runtime.run_log import peak_memory_mib\nblock = bytearray(300 << 20)\n"
    code += "print(peak_memory_mib())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert 300 < float(printed.stdout) < 500
    assert peak_memory_mib() > 0


def test_a_command_that_is_terminated_tells_so_and_tidies_up(tmp_path):
    body = """
    import os, signal, sys, time
    from pathlib import Path
    from kerasrep.cli import command
    from kerasrep.storage.run_directory import atomic_file
    from kerasrep.runtime.run_log import run_log
    def main(argv):
        with run_log("embed", Path("log.jsonl")), atomic_file(Path("out.txt")):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return 0
    sys.exit(command.run(main, "kerasrep-embed", []))
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (143, "kerasrep-embed: error: stopped by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert lines_of(tmp_path / "log.jsonl")[-1]["ended"] == "stopped by SIGTERM"


def test_a_refused_run_writes_nothing_into_the_log_of_the_one_that_holds_the_folder(tmp_path):
    from kerasrep.storage.folder_lock import exclusive

    with exclusive(tmp_path, "is busy", "--run-dir"), run_log.run_log("study", tmp_path / "log.jsonl"):
        before = lines_of(tmp_path / "log.jsonl")
        log = run_log.run_log("study", tmp_path / "log.jsonl")
        with pytest.raises(RunError), exclusive(tmp_path, "is busy", "--run-dir"), log:
            pass
        assert lines_of(tmp_path / "log.jsonl") == before


def test_macos_counts_memory_in_bytes(monkeypatch):
    usage = type("Usage", (), {"ru_maxrss": 512 << 20})
    monkeypatch.setattr(run_log.Path, "read_text", lambda *_, **__: "")  # it has no /proc
    monkeypatch.setattr(run_log.resource, "getrusage", lambda _: usage)
    monkeypatch.setattr(run_log.sys, "platform", "darwin")
    assert peak_memory_mib() == 512
