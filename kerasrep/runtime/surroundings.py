"""What daemons, containers and terminals of all kinds leave a process with: streams, a home, variables."""

from __future__ import annotations

import atexit
import difflib
import os
import shutil
import sys
import tempfile

from kerasrep.errors import RecipeError
from kerasrep.storage import limits

#: What reads each is where its name is used; `environment.md` says what they do.
VARIABLES = frozenset({"KERASREP_HOME", "KERASREP_CHECKED_SHARDS", *(limit.variable for limit in limits.ALL)})
#: For the package's own tests.
TEST_VARIABLES = "KERASREP_TEST_"


def open_closed_streams() -> None:
    """Give standard streams that were closed to the null device, so that no other file gets their numbers.

    What standard output cannot encode is escaped instead of failing.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(null, number)
    if null > 2:
        os.close(null)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # a test's may be of another kind
        sys.stdout.reconfigure(errors="backslashreplace")


def give_libraries_a_home() -> None:
    """Where the user has no home folder, let Keras and Matplotlib keep their settings in a temporary one."""
    home = os.path.expanduser("~")  # noqa: PTH111 (as they ask)
    if os.access(home, os.W_OK) and os.path.isabs(home):  # noqa: PTH117
        return
    missing = [name for name in ("KERAS_HOME", "MPLCONFIGDIR") if name not in os.environ]
    if missing:
        folder = tempfile.mkdtemp(prefix="kerasrep-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.update(dict.fromkeys(missing, folder))


def check_variables() -> None:
    """Refuse environment variables that would do nothing, or would fail in the midst of the work.

    Raises:
        RecipeError: Where one begins with `KERASREP_` and is none, or is a limit without a number.
    """
    for name in sorted(os.environ):
        if not name.startswith("KERASREP_") or name.startswith(TEST_VARIABLES) or name in VARIABLES:
            continue
        close = difflib.get_close_matches(name, sorted(VARIABLES), 1)
        advice = f"; did you mean {close[0]}?" if close else "; correct or unset it"
        raise RecipeError(f"{name}: is not a variable of kerasrep{advice}")
    for limit in limits.ALL:
        _ = limit.value
