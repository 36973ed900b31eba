"""One process holds a folder, another is told so, and a dead one holds nothing."""

import contextlib
import subprocess
import sys

import pytest

from kerasrep.errors import RunError
from kerasrep.storage.folder_lock import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from kerasrep.storage.folder_lock import exclusive
with exclusive(Path(sys.argv[1]), "held", "--x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_held_by_another_process_is_refused_until_that_is_killed(tmp_path):
    folder = tmp_path / "made" / "here"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunError, match=r"here: is in use; wait for it or stop it"),
            exclusive(folder, "is in use", "--x"),
        ):
            pytest.fail("held twice")
    finally:
        holder.kill()
        holder.communicate()
    with exclusive(folder, "is in use", "--x"):
        assert folder.is_dir()


def test_a_folder_that_was_made_and_stays_empty_goes_again_and_no_other(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "empty", "full"):
        with contextlib.suppress(ZeroDivisionError), exclusive(tmp_path / name, "is in use", "--x"):
            if name == "full":
                (tmp_path / name / "file").touch()
            raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "there"]


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="choose another --output"),
        exclusive(tmp_path / "file" / "x", "", "--output"),
    ):
        pytest.fail("made below a file")
