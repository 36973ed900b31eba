import builtins
import os

import pytest

from kerasrep.runtime.threads import available_cores, core_count, keep_to


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process to some cores")
def test_the_cores_are_those_that_the_process_is_kept_to():
    before = available_cores()
    try:
        keep_to(before[-1:])
        assert available_cores() == before[-1:]
        assert core_count() == 1
    finally:
        keep_to(before)
    assert available_cores() == before


def test_cores_that_a_container_has_no_time_for_are_not_counted(tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    quota.write_text(
        "100000 100000\n"
    )  # microseconds of each so many: one core's, as of `docker run --cpus 1`
    opened, exists = builtins.open, os.path.exists
    here = {"/sys/fs/cgroup/cpu.max": quota}
    monkeypatch.setattr(os.path, "exists", lambda path: path in here or exists(path))
    monkeypatch.setattr(
        builtins, "open", lambda path, *rest, **more: opened(here.get(path, path), *rest, **more)
    )
    assert core_count() == 1


def test_where_the_system_cannot_tell_all_cores_are_named_and_none_is_kept_to(monkeypatch):
    for name in ("sched_getaffinity", "sched_setaffinity"):  # as on macOS
        monkeypatch.delattr(os, name, raising=False)
    assert available_cores() == list(range(os.cpu_count()))
    keep_to([0])
    assert available_cores() == list(range(os.cpu_count()))
