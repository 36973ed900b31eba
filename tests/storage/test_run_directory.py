import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from kerasrep.errors import DataError, RunError
from kerasrep.storage import run_directory
from kerasrep.storage.run_directory import (
    Inside,
    PreparedDirectory,
    RunDirectory,
    atomic_directory,
    atomic_file,
    latest_run,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)


def test_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    assert run_directory.home() == tmp_path
    monkeypatch.delenv("KERASREP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run_directory.home() == tmp_path / "kerasrep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_directory.home() == tmp_path / ".cache" / "kerasrep"


def test_a_file_appears_whole_with_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "file.txt"
    umask = os.umask(0o027)
    try:
        with atomic_file(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".txt"
            temporary.write_text("whole")
            assert not path.exists()
    finally:
        os.umask(umask)
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_directory(tmp_path / "folder") as temporary:
        (temporary / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_is_never_overwritten(tmp_path):
    path = tmp_path / "folder"
    with atomic_directory(path) as temporary:
        (temporary / "file").write_text("first")
        assert not path.exists()
    with pytest.raises(RunError, match="exists already"), atomic_directory(path) as temporary:
        (temporary / "file").write_text("second")
    assert (path / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_directory])
def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path, atomic):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write there") as raised, atomic(tmp_path / "file" / "x"):
        pytest.fail("the block must not run")
    assert str(tmp_path / "file") in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def _write_for_ever(path: Path) -> None:
    number = 0
    while True:
        write_json(path, [number] * 10_000)
        number += 1


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file.json"
    process = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(path,))
    process.start()
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    values = read_json(path)
    assert len(values) == 10_000
    assert len(set(values)) == 1


def test_json_round_trips_and_refuses_nan(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": {"c": "Dvořák"}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", [float("nan")])
    assert not (tmp_path / "nan.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_told_in_one_line(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(DataError, match="not valid JSON") as raised:
        read_json(tmp_path / "file.json")
    assert len(str(raised.value).splitlines()) == 1


def test_a_missing_json_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "none.json")


def test_arrays_round_trip_and_give_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.array(["x", "yy"])}
    write_arrays(tmp_path / "one.npz", arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_arrays(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = read_arrays(tmp_path / "one.npz")
    assert list(loaded) == ["a", "b.c"]
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize("cut", [0, 1, 50, 200, -1])
def test_a_truncated_npz_is_told_in_one_line(tmp_path, cut):
    path = tmp_path / "file.npz"
    write_arrays(path, {"a": np.arange(100)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError) as raised:
        read_arrays(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert len(str(raised.value).splitlines()) == 1


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def test_nothing_in_an_npz_is_executed(tmp_path):
    np.savez(tmp_path / "file.npz", a=np.array([Malicious(tmp_path / "executed")], dtype=object))
    with pytest.raises(DataError, match="NPZ"):
        read_arrays(tmp_path / "file.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("layout", [PreparedDirectory, RunDirectory])
def test_file_names_differ_and_lie_inside(tmp_path, layout):
    directory = layout(tmp_path)
    names = [name for name, value in vars(layout).items() if isinstance(value, Inside)]
    paths = [getattr(directory, name) for name in names]
    assert len(set(paths)) == len(paths) > 0
    assert all(tmp_path in path.parents for path in paths)


def test_shard_names_sort_in_order(tmp_path):
    names = [PreparedDirectory(tmp_path).shard(n, 100).name for n in range(100)]
    assert names[7] == "shard-00007-of-00100.tfrecord"
    assert names == sorted(names)


def test_written_json_is_for_people(tmp_path):
    write_json(tmp_path / "file.json", {"title": "Für Elise"})
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == json.dumps(
        {"title": "Für Elise"}, indent=2, ensure_ascii=False
    ) + "\n"


def test_the_latest_run_is_the_last_folder_that_holds_the_file(tmp_path):
    for folder, file in (("1", "recipe.yaml"), ("2", "recipe.yaml"), ("3", "tuning.yaml"), ("4", "other")):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        (tmp_path / "mine" / folder / file).touch()
    assert latest_run(tmp_path, "mine").root == tmp_path / "mine" / "2"
    assert latest_run(tmp_path, "mine", "tuning.yaml", "tuning").root == tmp_path / "mine" / "3"
    with pytest.raises(RunError, match=r"other: holds no tuning to resume; start one without --resume"):
        latest_run(tmp_path, "other", "tuning.yaml", "tuning")
