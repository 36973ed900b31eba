"""What all commands share: arguments, quiet TensorFlow, whole streams, errors as one line with an exit code.

Nothing here imports TensorFlow or pydantic, so that `--help` answers at once. A command looks like this:

    def main(argv: list[str] | None = None) -> int: ...

    def entry() -> int:
        return command.run(main, "kerasrep-train")
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence

import kerasrep
from kerasrep.errors import KerasrepError, RecipeError, machine_message, one_line
from kerasrep.runtime import console, native_messages
from kerasrep.runtime.stop_requests import Terminated, termination_unwinds
from kerasrep.storage import limits
from kerasrep.storage.segment_vector import layers_text, parse_layers

EXIT_FAILURE = 1
#: What reads each is where its name is used; `environment.md` says what they do.
VARIABLES = frozenset({"KERASREP_HOME", "KERASREP_CHECKED_SHARDS", *(limit.variable for limit in limits.ALL)})
#: For the package's own tests.
TEST_VARIABLES = "KERASREP_TEST_"


def add_common_arguments(
    parser: argparse.ArgumentParser, verbose: str = "show TensorFlow's own messages as well"
) -> None:
    """Add `--version`, `--verbose` and `--quiet`."""
    parser.add_argument("--version", action="version", version=f"kerasrep {kerasrep.__version__}")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help=verbose)
    loudness.add_argument(
        "--quiet",
        action="store_true",
        help="no progress, notes or summaries: only errors, and the path of what was made",
    )


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `RECIPE` and `KEY=VALUE ...`; parse with `parse_intermixed_args`: options may follow RECIPE."""
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file of the experiment")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="change a setting of the recipe, such as training.epochs=2 or sources=[tag,year]",
    )


def add_ray_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--ray`."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster: HOST:PORT of its head, auto (the cluster of this machine), or local "
        "(this machine as a cluster of its own); needs the extra scale, and files that all nodes see",
    )


def add_layers_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--layers`."""
    parser.add_argument(
        "--layers",
        metavar="last|all|conv3,conv5",
        help="what a vector is made of: the embedding (last), then each convolution block's output, pooled: "
        f"mean, and maximum over time (conv1 ... conv7); all is all of them (default: {default})",
    )


def layers_of(arguments: argparse.Namespace, option: str = "layers") -> str | None:
    """What `--layers`, or another option of layers, names; `None` where it is not given.

    Raises:
        RecipeError: Where it names none that there is.
    """
    named = getattr(arguments, option)
    return None if named is None else layers_text(parse_layers(named))


def integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of an option that takes a whole number."""

    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return integer


def line(prog: str, argv: Sequence[str] | None) -> list[str]:
    """The words of a command, as pages show them for running it again."""
    return [prog, *(sys.argv[1:] if argv is None else argv)]


def prepare_environment(verbose: bool) -> None:
    """Set what TensorFlow, Keras and Matplotlib read when they are imported.

    Args:
        verbose: Let TensorFlow print what it likes to.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
    give_libraries_a_home()
    if verbose:
        native_messages.show_tensorflow()
    else:
        native_messages.hide_tensorflow()


def run(main: Callable[[list[str]], int], prog: str, argv: Sequence[str] | None = None) -> int:
    """Run a command and turn every way it can end into an exit code.

    Args:
        main: Takes the arguments, returns the exit code.
        prog: Name of the console script, printed before errors.
        argv: Arguments; by default those of the process.

    Returns:
        0: done; 1: failed; 2: wrong command line or recipe; 130: interrupted; 143 or 129: ended by
        SIGTERM or SIGHUP; or what `main` returns.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    open_closed_streams()
    prepare_environment(verbose)
    try:
        check_variables()
    except KerasrepError as error:
        complain(prog, str(error))
        return error.exit_code
    try:
        with console.verbosity("--quiet" in arguments, verbose), termination_unwinds():
            code = _run(main, prog, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has left. Python would complain when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    return code


def _run(main: Callable[[list[str]], int], prog: str, arguments: list[str]) -> int:
    try:
        return main(arguments)
    except KerasrepError as error:
        complain(prog, str(error))
        return error.exit_code
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Terminated) else signal.SIGINT
        complain(
            prog, f"stopped by {signal.Signals(number).name}" if number != signal.SIGINT else "interrupted"
        )
        return 128 + number  # as shells do
    except SystemExit as error:  # argparse ends so: 0 after --help, 2 after a usage error
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        complain(prog, str(error.code))
        return EXIT_FAILURE
    except BrokenPipeError:
        raise
    except Exception as error:
        message = machine_message(error)
        if message is None:
            traceback.print_exc()
            message = (
                f"this is a fault in kerasrep {kerasrep.__version__}: please report it with the lines above"
            )
        complain(prog, message)
        return EXIT_FAILURE


def complain(prog: str, message: str) -> None:
    """Print `message` on standard error as exactly one line."""
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        print(f"{prog}: error: {one_line(message)}", file=sys.stderr, flush=True)


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
