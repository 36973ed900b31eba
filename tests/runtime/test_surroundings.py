"""Commands where daemons and containers start them: closed streams, no home, odd variables."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kerasrep.cli.command import VARIABLES, check_variables
from kerasrep.errors import RecipeError

ROOT = Path(__file__).parents[2]
#: A user who is in no list of users, as in `docker run --user 12345`.
NOBODY = "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"


def script(body):
    code = textwrap.dedent(body) + "\nimport sys\nfrom kerasrep.cli import command\n"
    return [sys.executable, "-c", code + "sys.exit(command.run(main, 'kerasrep-embed', []))\n"]


def environment(without=(), **more):
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return kept | {"PYTHONPATH": str(ROOT)} | more


WRITES = """
def main(argv):
    import os, sys
    with open("out.txt", "wb") as file:
        print("a line")
        print("another", file=sys.stderr)
        os.write(1, b"native")
        os.write(2, b"native")
        file.write(b"x")
    return 0
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(tmp_path, closed):
    shell = f'exec "$@" {closed}'
    done = subprocess.run(
        ["bash", "-c", shell, "bash", *script(WRITES)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out.txt").read_bytes() == b"x"
    assert ("a line" in done.stdout) == (">&- " not in f"{closed} ".replace("2>&-", ""))


def test_what_standard_output_cannot_encode_is_escaped():
    done = subprocess.run(
        script("def main(argv):\n    print('Dvořák 東京')\n    return 0"),
        env=environment(PYTHONIOENCODING="iso-8859-1"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == rb"Dvo\u0159\xe1k \u6771\u4eac".replace(rb"\xe1", b"\xe1") + b"\n"


def test_without_a_home_one_line_says_what_to_set(tmp_path):
    body = f"""
    {NOBODY.replace(chr(10), chr(10) + "    ")}
    from kerasrep.storage.run_directory import home
    def main(argv):
        return print(home())
    """
    names = ("HOME", "KERASREP_HOME", "XDG_CACHE_HOME")
    options = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run(script(body), env=environment(names), check=False, **options)
    assert (done.returncode, done.stdout) == (2, "")
    advice = "set KERASREP_HOME to a folder that can be written"
    assert done.stderr == f"kerasrep-embed: error: ~/.cache: the home folder is not known; {advice}\n"
    named = subprocess.run(script(body), env=environment(names, KERASREP_HOME="/x"), check=False, **options)
    assert (named.returncode, named.stdout) == (0, "/x\n")


def test_without_a_home_libraries_leave_nothing_and_say_nothing(tmp_path):
    body = f"""
    {NOBODY.replace(chr(10), chr(10) + "    ")}
    def main(argv):
        import os, matplotlib.pyplot
        assert os.path.isdir(os.environ["KERAS_HOME"])  # importing Keras, which makes one, takes seconds
        return 0
    """
    done = subprocess.run(
        script(body),
        cwd=tmp_path,
        env=environment(("HOME", "MPLCONFIGDIR", "KERAS_HOME"), TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("KERASREP_MAX_SAMPLE_RATE_HZ", "1e6", "'1e6' is not a number from 1 to"),
        ("KERASREP_HOEM", "/x", "is not a variable of kerasrep; did you mean KERASREP_HOME?"),
        ("KERASREP_MAX_JSON_BYTE", "5", "did you mean KERASREP_MAX_JSON_BYTES?"),
        ("KERASREP_NOTHING_LIKE_IT", "", "is not a variable of kerasrep"),
    ],
)
def test_a_variable_with_a_typo_is_refused_before_work(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError) as raised:
        check_variables()
    assert str(raised.value).startswith(f"{name}: ") and words in str(raised.value)


def test_every_variable_that_the_package_reads_is_known():
    found = subprocess.run(
        ["grep", "-rhoE", '"KERASREP_[A-Z_]+"', str(ROOT / "kerasrep"), "--include=*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {name.strip('"') for name in found.stdout.split()}
    assert {name for name in names if not name.endswith("_")} <= VARIABLES


def _not_ignored():
    """The tests themselves may run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_closed_terminal_ends_a_command_as_sigterm_does(tmp_path):
    body = """
    def main(argv):
        import time
        from pathlib import Path
        from kerasrep.runtime.stop_requests import stop_requests
        with stop_requests() as request:
            print("ready", flush=True)
            while not request.number:
                time.sleep(0.01)
            print("this goes nowhere", flush=True)
            Path("saved").write_text(str(request.number))
        return 128 + request.number
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *script(body)],
        preexec_fn=_not_ignored,  # noqa: PLW1509
        cwd=tmp_path,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(20) in (129, -signal.SIGHUP)
    end = time.monotonic() + 10
    while not (tmp_path / "saved").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGHUP))


@pytest.mark.parametrize(("before", "code"), [("", 129), ("trap '' HUP;", 0)])
def test_sighup_unwinds_unless_it_is_ignored_as_under_nohup(tmp_path, before, code):
    body = """
    def main(argv):
        import os, signal
        from pathlib import Path
        from kerasrep.storage.atomic import atomic_file
        with atomic_file(Path("out.txt")):
            os.kill(os.getpid(), signal.SIGHUP)
        return 0
    """
    done = subprocess.run(
        ["bash", "-c", f'{before} exec "$@"', "bash", *script(body)],
        preexec_fn=_not_ignored,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr == ("kerasrep-embed: error: stopped by SIGHUP\n" if code else "")
    assert [path.name for path in tmp_path.iterdir()] == ([] if code else ["out.txt"])
