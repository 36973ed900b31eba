"""File systems that run full, and the table of faults that the slow tests print at the end."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from fault_tools import Outcome

_OUTCOMES: list[Outcome] = []


@pytest.fixture(scope="session")
def kills():
    """How often each victim is killed: `KERASREP_TEST_KILLS`, or 20 times."""
    return int(os.environ.get("KERASREP_TEST_KILLS", "20"))


@pytest.fixture
def tally():
    """A function that adds a row to the table: fault, tried, survived, seconds to recover."""

    def add(fault, tried, survived, recovery_seconds=()):
        _OUTCOMES.append(Outcome(fault, tried, survived, list(recovery_seconds)))

    return add


def pytest_terminal_summary(terminalreporter):
    if _OUTCOMES:
        terminalreporter.section("faults")
        terminalreporter.write_line(
            f"{'fault':<58}{'tried':>6}{'survived':>10}{'lost':>6} {'median s':>8} {'longest':>8}"
        )
        for outcome in _OUTCOMES:
            terminalreporter.write_line(outcome.line())


class Disk:
    """A file system of a few bytes in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mount(self, n_bytes: int) -> None:
        self._call("mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(self.root))

    def resize(self, n_bytes: int) -> None:
        self._call("mount", "-o", f"remount,size={n_bytes}", str(self.root))

    def protect(self, read_only: bool = True) -> None:
        self._call("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", str(self.root))

    def unmount(self) -> None:
        self._call("umount", "-l", str(self.root))

    def used(self) -> int:
        status = os.statvfs(self.root)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    @staticmethod
    def _call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())


@pytest.fixture
def make_disk(tmp_path):
    """A function that mounts a small disk; skips where this user may not mount."""
    disks = []

    def make(n_bytes):
        disk = Disk(tmp_path / f"disk{len(disks)}")
        disk.root.mkdir()
        try:
            disk.mount(n_bytes)
        except OSError as error:
            pytest.skip(f"a small disk cannot be mounted here: {error}")
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        with contextlib.suppress(OSError):
            disk.unmount()
