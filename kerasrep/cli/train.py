"""`kerasrep-train RECIPE`: corpus, targets, shards, training, export."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.cli import command
from kerasrep.errors import RecipeError
from kerasrep.runtime import console
from kerasrep.storage.run_directory import RUNS

if TYPE_CHECKING:
    from kerasrep.recipe.schema import Recipe
    from kerasrep.storage.run_directory import RunDirectory


PROG = "kerasrep-train"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Train the representation that a recipe describes and export it as a SavedModel.",
    )
    command.add_recipe_arguments(parser)
    parser.add_argument("--run-dir", metavar="DIR", type=Path, help="default: runs/NAME/TIME")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir, or with the recipe's latest"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the recipe, print the plan, and train nothing"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=command.integer(1, 1024),
        help="train with N processes (multi_worker), on this machine or with --ray on those of a cluster",
    )
    parser.add_argument(
        "--restarts",
        metavar="N",
        type=command.integer(0, 1_000_000),
        default=3,
        help="how often the processes of --workers start again after one has died (default: 3)",
    )
    command.add_ray_argument(parser)
    command.add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)
    from kerasrep.corpora.found_sources import with_found_sources
    from kerasrep.recipe.file import read_recipe

    recipe = with_found_sources(read_recipe(arguments.recipe, arguments.overrides), console.say)
    if arguments.ray is not None and not arguments.workers:
        raise RecipeError("--ray: add --workers N, how many processes of the cluster train together")
    if arguments.dry_run:
        from kerasrep.corpora.preview import preview
        from kerasrep.training.plan import describe_plan

        found = preview(recipe)
        for notice in found.notices:
            print(f"note: {notice}")
        print(describe_plan(recipe, found))
        return 0
    run = _given_run(recipe, arguments.run_dir, arguments.resume)
    if run is not None and _is_complete(recipe, run):
        console.say(f"{run.root}: is complete; raise training.epochs to train longer, or use kerasrep-export")
        return 0
    for folder in (RUNS if run is None else run.root, Path(recipe.export.directory)):
        _check_writable(folder)
    if arguments.workers:
        return _launch(arguments, recipe, run)
    _train(recipe, run, arguments.resume)
    return 0


def _launch(arguments: argparse.Namespace, recipe: Recipe, run: RunDirectory | None) -> int:
    from kerasrep.recipe.corpora import corpus_folders
    from kerasrep.runtime.pool.cluster import connect
    from kerasrep.storage.run_directory import new_run
    from kerasrep.training.launch import Start, launch, processes_here
    from kerasrep.training.on_ray import OnRay

    try:
        recipe.check_replicas(arguments.workers)
    except ValueError as error:
        raise RecipeError(f"recipe '{recipe.name}': {error}") from error
    words = [arguments.recipe, *arguments.overrides]
    if recipe.distribution.name != "multi_worker":
        words.append("distribution.name=multi_worker")
    words += [option for option in ("--verbose", "--quiet") if getattr(arguments, option[2:])]
    run = run or new_run(RUNS, recipe.name)
    with contextlib.ExitStack() as stack:
        start: Start = processes_here
        if arguments.ray is not None:
            inputs = [Path(arguments.recipe), *corpus_folders(recipe.corpus)]
            start = OnRay(stack.enter_context(connect(arguments.ray)), inputs)
        return launch(words, run, arguments.resume, arguments.workers, arguments.restarts, console.say, start)


def _train(recipe: Recipe, run: RunDirectory | None, resume: bool) -> None:
    from kerasrep import api
    from kerasrep.serving.export import next_steps

    done = api.train(recipe, None if run is None else run.root, resume, progress=not console.is_quiet())
    if done.worker:
        console.say(f"worker {done.worker}: done; the chief has written {done.run.root}")
        return
    console.say(
        f"\n{done.summary.table()}\n\n"
        f"run:          {done.run.root} (card.json, log.jsonl, history.csv, strategy.png)"
    )
    console.result(done.export, f"export:       {done.export}")
    # Names of runs begin below the folder: recipe and time.
    logdir = RUNS if RUNS in done.run.root.parents else done.run.root
    console.say(f"TensorBoard:  tensorboard --logdir {logdir}\n{next_steps(done.export)}")


def _given_run(recipe: Recipe, run_dir: Path | None, resume: bool) -> RunDirectory | None:
    """The run directory that the command line names; `None` for a new one."""
    from kerasrep.errors import RunError
    from kerasrep.storage.run_directory import RunDirectory, latest_run

    if run_dir is None:
        return latest_run(RUNS, recipe.name) if resume else None
    run = RunDirectory(run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir}: is a file; --run-dir takes a folder")
    if resume and not run.recipe.is_file():
        raise RunError(f"{run_dir}: holds no run to resume; start one without --resume")
    if not resume and run.recipe.exists():
        raise RunError(f"{run_dir}: holds a run already; add --resume, or choose another --run-dir")
    return run


def _is_complete(recipe: Recipe, run: RunDirectory) -> bool:
    """Whether the run has ended well with as many epochs as the recipe has, and was exported."""
    from kerasrep.storage.run_directory import read_object

    if not run.card.is_file():
        return False
    card = read_object(run.card)
    done = card.get("ended") == "done" and card.get("recipe") == recipe.as_dict()
    return done and _is_exported(recipe, card)


def _is_exported(recipe: Recipe, run_card: dict[str, Any]) -> bool:
    """Whether a version comes from the run; a kill may have fallen between its end and the export's."""
    from kerasrep.errors import ExportError
    from kerasrep.storage.export_directory import read_card, version_numbers

    export = Path(recipe.export.directory) / recipe.export_name
    for number in version_numbers(export):
        with contextlib.suppress(ExportError):
            if read_card(export / str(number)).run == run_card:
                return True
    return False


def _check_writable(folder: Path) -> None:
    """Refuse a folder that could not be made, before minutes of work."""
    from kerasrep.errors import RunError

    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(
            f"{folder}: cannot write there; start elsewhere, or set --run-dir and export.directory"
        )


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
