import argparse
import ast
import errno
import importlib
import os
import re
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kerasrep
from kerasrep.cli import command
from kerasrep.errors import DataError, RecipeError

ROOT = Path(__file__).parents[2]


def raising(error):
    def main(argv):
        raise error

    return main


def run_script(body, *arguments, **options):
    """Run `body`, which defines main(argv), as a console script would."""
    script = textwrap.dedent(body) + "\nfrom kerasrep.cli import command\nimport sys\n"
    script += "sys.exit(command.run(main, 'kerasrep-train'))\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, text=True, check=False, **options
    )


@pytest.mark.parametrize("code", [0, 1, 143])
def test_what_main_returns_is_the_exit_code(code):
    assert command.run(lambda argv: code, "kerasrep-train", []) == code


def test_main_is_given_the_arguments():
    seen = []
    command.run(lambda argv: seen.extend(argv) or 0, "kerasrep-train", ["recipe.yaml", "seed=1"])
    assert seen == ["recipe.yaml", "seed=1"]


@pytest.mark.parametrize(
    ("error", "code"), [(RecipeError("a.yaml:3: bad"), 2), (DataError("a.yaml:3: bad"), 1)]
)
def test_an_error_of_the_user_is_one_line_and_its_exit_code(capsys, error, code):
    assert command.run(raising(error), "kerasrep-train", []) == code
    assert capsys.readouterr() == ("", "kerasrep-train: error: a.yaml:3: bad\n")


@pytest.mark.parametrize(
    "message", ["two\nlines", "carriage\rreturn", "a\x1b[31mred", "bad\udcffname", "\u2028"]
)
def test_control_characters_in_a_message_cannot_break_the_line(capsys, message):
    assert command.run(raising(DataError(message)), "kerasrep-train", []) == 1
    error = capsys.readouterr().err
    assert error.endswith("\n")
    assert error[:-1].isprintable()


def test_an_interrupt_exits_with_130(capsys):
    assert command.run(raising(KeyboardInterrupt()), "kerasrep-train", []) == 130
    assert capsys.readouterr().err == "kerasrep-train: error: interrupted\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/shard"),
            "/data/shard: the disk is full",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied"),
    ],
)
def test_a_machine_that_lacks_something_is_one_line(capsys, error, words):
    assert command.run(raising(error), "kerasrep-train", []) == 1
    error_text = capsys.readouterr().err
    assert error_text.startswith(f"kerasrep-train: error: {words}")
    assert error_text.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--verbose"]])
def test_a_fault_of_the_program_shows_its_traceback_and_asks_for_a_report(capsys, arguments):
    assert command.run(raising(ZeroDivisionError("oops")), "kerasrep-train", arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert "ZeroDivisionError: oops" in lines
    assert "please report" in lines[-1]


def test_wrong_arguments_exit_with_2():
    body = """
    import argparse
    from kerasrep.cli import command
    def main(argv):
        parser = argparse.ArgumentParser("kerasrep-train")
        command.add_common_arguments(parser)
        parser.parse_args(argv)
        return 0
    """
    assert run_script(body, "--no-such-option", capture_output=True).returncode == 2
    assert run_script(body, "--help", capture_output=True).returncode == 0
    version = run_script(body, "--version", capture_output=True)
    assert (version.returncode, version.stdout) == (0, f"kerasrep {kerasrep.__version__}\n")


def test_a_reader_that_leaves_early_causes_no_noise():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run_script(
            "def main(argv):\n    print('x' * 10)\n    return 0", stdout=writer, stderr=subprocess.PIPE
        )
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 1


@pytest.mark.parametrize(("arguments", "level"), [([], "3"), (["--verbose"], "None")])
def test_tensorflow_is_quiet_unless_verbose(monkeypatch, arguments, level):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    body = """
    import os
    def main(argv):
        print(os.environ.get("TF_CPP_MIN_LOG_LEVEL"), os.environ["KERAS_BACKEND"])
        return 0
    """
    assert run_script(body, *arguments, capture_output=True).stdout == f"{level} tensorflow\n"


HEAVY = {"tensorflow", "keras", "kapre", "pydantic", "sklearn", "scipy", "numpy", "matplotlib", "music21"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["r.yaml", "a=1", "b=2", "--verbose"],
        ["r.yaml", "--verbose", "a=1", "b=2"],
        ["--verbose", "r.yaml", "a=1", "b=2"],
    ],
)
def test_options_may_stand_anywhere_among_recipe_and_overrides(arguments):
    parser = argparse.ArgumentParser()
    command.add_recipe_arguments(parser)
    command.add_common_arguments(parser)
    parsed = parser.parse_intermixed_args(arguments)
    assert (parsed.recipe, parsed.overrides, parsed.verbose) == ("r.yaml", ["a=1", "b=2"], True)


COMMANDS = sorted(
    p.stem for p in (ROOT / "kerasrep" / "cli").glob("*.py") if p.stem not in {"__init__", "command"}
)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", COMMANDS)
def test_help_answers_at_once_and_imports_nothing_heavy(name):
    code = (
        "import sys, atexit\n"
        f"heavy = {HEAVY}\n"
        "atexit.register(lambda: print('imported:', sorted(heavy & set(sys.modules))))\n"
        f"from kerasrep.cli import {name}\n"
        "sys.argv = ['kerasrep', '--help']\n"
        f"sys.exit({name}.entry())\n"
    )
    seconds = []
    for _ in range(3):  # of the processor, the quickest of three, as other tests may share it
        start = processor_seconds()
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(processor_seconds() - start)
        if seconds[-1] < 0.5:
            break
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
    assert "imported: []" in result.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "content", ["", "- a", "strategy: [", "strategy: mss-cr\nsources: [tag, year]\nseed: -1"]
)
def test_a_wrong_recipe_exits_with_2_in_one_line(tmp_path, content):
    path = tmp_path / "recipe\nwith a line break.yaml"
    path.write_text(content)
    body = """
    from kerasrep.recipe.file import read_recipe
    def main(argv):
        read_recipe(argv[0])
        return 0
    """
    result = run_script(body, str(path), capture_output=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"kerasrep-train: error: {tmp_path}/recipe\\nwith a line break.yaml:")


def test_every_command_is_a_console_script():
    declared = re.search(
        r"^COMMANDS = (\[.+?\])$", (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert sorted(ast.literal_eval(declared[1])) == COMMANDS


@pytest.mark.parametrize("name", ["train", "prepare"])
def test_commands_refuse_a_wrong_override_before_any_work(name, tmp_path):
    code = f"import sys\nfrom kerasrep.cli import {name}\nsys.exit({name}.entry())"
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "recipes" / "mss.yaml"), "--verbose", "training.epoch=2"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERASREP_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"kerasrep-{name}: error: override 'training.epoch=2': training.epoch: unknown"
    )
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_verbose_or_quiet_but_not_both(name, capsys):
    module = importlib.import_module(f"kerasrep.cli.{name}")
    with pytest.raises(SystemExit):
        module.build_parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "--verbose" in shown
    assert "--quiet" in shown
    assert command.run(module.main, "kerasrep", ["x", "--verbose", "--quiet"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_spaces_of_other_scripts_are_shown_as_they_are(capsys):
    message = "\u66f2\u3000\u540d, 12\xa0s"
    assert command.run(raising(DataError(message)), "kerasrep-train", []) == 1
    assert capsys.readouterr().err == f"kerasrep-train: error: {message}\n"
