import os

import pytest

from kerasrep.runtime.threads import available_cores, keep_to


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system keeps no process to some cores")
def test_the_cores_are_those_that_the_process_is_kept_to():
    before = available_cores()
    try:
        keep_to(before[-1:])
        assert available_cores() == before[-1:]
    finally:
        keep_to(before)
    assert available_cores() == before


def test_where_the_system_cannot_tell_all_cores_are_named_and_none_is_kept_to(monkeypatch):
    for name in ("sched_getaffinity", "sched_setaffinity"):  # as on macOS
        monkeypatch.delattr(os, name, raising=False)
    assert available_cores() == list(range(os.cpu_count()))
    keep_to([0])
    assert available_cores() == list(range(os.cpu_count()))
