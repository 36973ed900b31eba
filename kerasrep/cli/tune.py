"""`kerasrep-tune RECIPE`: search for good settings of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.runtime import console

if TYPE_CHECKING:
    from kerasrep.experiments.tuning.tune import Tuned

PROG = "kerasrep-tune"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Search for good settings of a recipe: train many trials, each with other settings, and "
        "write the best recipe. Trials that are impossible or fail are recorded and do not stop the search.",
    )
    command.add_recipe_arguments(parser)
    parser.add_argument("--run-dir", metavar="DIR", type=Path, help="default: runs/NAME/TIME")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the tuning in --run-dir, or with the latest of that name; failed trials run again, "
        "and max_trials may be raised",
    )
    command.add_common_arguments(parser, "show each training's progress, and TensorFlow's own messages")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    from kerasrep.experiments.tuning.reading import read_tuning

    tuning = read_tuning(arguments.recipe, arguments.overrides)

    from kerasrep.experiments.tuning.tune import tune

    _say(tune(tuning, arguments.run_dir, arguments.resume, arguments.verbose))
    return 0


def _say(tuned: Tuned) -> None:
    directory = tuned.directory
    best = f"best recipe:  {directory.best} (trial {tuned.best.trial}, score {tuned.best.score:.4f})"
    console.result(directory.best, best)
    console.say(
        f"report:       {directory.page}\n"
        f"trials:       {directory.table}, {directory.picture}\n"
        f"TensorBoard:  tensorboard --logdir {directory.tensorboard}   (tab HParams)\n"
        f"next:         kerasrep-train {directory.best}"
    )


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
