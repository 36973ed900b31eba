"""`kerasrep-export`: a trained run becomes the next version of a SavedModel."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.errors import RecipeError

if TYPE_CHECKING:
    from kerasrep.recipe import Recipe

PROG = "kerasrep-export"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Export the best weights of a run as a SavedModel for TF Serving, in float32. "
        "The next free version is written; it is compared with the trained model before it counts.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory, such as runs/mss/TIME")
    parser.add_argument(
        "--directory", metavar="DIR", help="where exports are kept (default: the recipe's, 'exported')"
    )
    parser.add_argument("--name", help="folder of the export in it (default: the recipe's name)")
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    run: Path = arguments.run
    if not run.is_dir():
        raise RecipeError(f"{run}: no such run directory; give the folder that kerasrep-train wrote")
    settings = {"directory": arguments.directory, "name": arguments.name}
    _check({key: value for key, value in settings.items() if value is not None})

    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run, next_steps

    trained = restore_run(run)
    recipe: Recipe = trained.recipe
    directory = Path(arguments.directory or recipe.export.directory)
    version = export_run(trained, directory, arguments.name or recipe.export_name)
    print(f"exported {version}\n\n{next_steps(version)}")
    return 0


def _check(settings: dict[str, str]) -> None:
    """Hold options to what a recipe may say of the export.

    Raises:
        RecipeError: Naming the option.
    """
    from pydantic import ValidationError

    from kerasrep.recipe import ExportSettings

    try:
        ExportSettings.model_validate(settings)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        allowed = ExportSettings.model_json_schema()["properties"][key]
        described = allowed.get("description") or allowed["anyOf"][0]["description"]
        raise RecipeError(f"--{key} '{settings[key]}': must be {described}") from None


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
