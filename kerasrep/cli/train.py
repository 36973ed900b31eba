"""`kerasrep-train RECIPE`: corpus, targets, shards, training, export."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command

if TYPE_CHECKING:
    from kerasrep.recipe import Recipe
    from kerasrep.run_directory import PreparedDirectory, RunDirectory
    from kerasrep.training.summary import Summary


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="kerasrep-train",
        description="Train the representation that a recipe describes and export it as a SavedModel.",
    )
    command.add_recipe_arguments(made)
    made.add_argument("--run-dir", metavar="DIR", type=Path, help="default: runs/NAME/TIME")
    made.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir, or with the recipe's latest"
    )
    made.add_argument(
        "--dry-run", action="store_true", help="check the recipe, print the plan, and train nothing"
    )
    command.add_common_arguments(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    arguments = parser().parse_intermixed_args(argv)
    from kerasrep.recipe_file import read_recipe

    recipe = read_recipe(arguments.recipe, arguments.overrides)
    if arguments.dry_run:
        from kerasrep.corpora.prepare import preview
        from kerasrep.training.plan import describe_plan

        found = preview(recipe)
        print(describe_plan(recipe, found.prepared, found.training_tracks))
        return 0
    _train(recipe, arguments.run_dir, arguments.resume)
    return 0


def _train(recipe: Recipe, run_dir: Path | None, resume: bool) -> None:
    run = _choose_run(recipe, run_dir, resume)
    from kerasrep.corpora.prepare import prepare

    prepared = prepare(recipe)
    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run
    from kerasrep.training.train import train

    print(f"run directory: {run.root}", flush=True)
    summary = train(recipe, prepared, run, resume)
    version = export_run(restore_run(run.root), Path(recipe.export.directory), recipe.export_name)
    print(_report(recipe, run, prepared, version, summary))


def _choose_run(recipe: Recipe, run_dir: Path | None, resume: bool) -> RunDirectory:
    from kerasrep.errors import RunError
    from kerasrep.run_directory import RunDirectory, latest_run, new_run

    if run_dir is None:
        return latest_run(Path("runs"), recipe.name) if resume else new_run(Path("runs"), recipe.name)
    run = RunDirectory(run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir}: is a file; --run-dir takes a folder")
    if resume and not run.recipe.is_file():
        raise RunError(f"{run_dir}: holds no run to resume; start one without --resume")
    if not resume and run.recipe.exists():
        raise RunError(f"{run_dir}: holds a run already; add --resume, or choose another --run-dir")
    return run


def _report(
    recipe: Recipe, run: RunDirectory, prepared: PreparedDirectory, version: Path, summary: Summary
) -> str:
    del prepared
    name = recipe.export_name
    return "\n".join(
        [
            "",
            summary.table(),
            "",
            f"run:       {run.root} (card.json, history.csv, strategy.png)",
            f"export:    {version}",
            "",
            "what next:",
            f"  tensorboard --logdir {run.tensorboard}",
            f"  kerasrep-embed --model {version} SOME_AUDIO_OR_FOLDER -o vectors.npz",
            f"  docker run -p 8501:8501 -v {version.parent.resolve()}:/models/{name} \\",
            f"    -e MODEL_NAME={name} tensorflow/serving",
        ]
    )


def entry() -> int:
    """Console script."""
    return command.run(main, "kerasrep-train")
