"""`kerasrep-export`: a run becomes the next version of a SavedModel; both, files for other runtimes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.cli import command
from kerasrep.constants import EXPORT_FORMATS, EXPORT_WEIGHTS, SAVED_MODEL
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.runtime import console
from kerasrep.storage.segment_vector import ALL

if TYPE_CHECKING:
    from kerasrep.recipe.schema import Recipe
    from kerasrep.storage.export_directory import ExportCard
    from kerasrep.storage.run_directory import RunDirectory

PROG = "kerasrep-export"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Export the best weights of a run as a SavedModel for TF Serving, in float32, or for "
        "other runtimes. The next free version is written; it is compared with the trained model before it "
        "counts. An export becomes files for other runtimes under the number that it has.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="run directory, such as runs/mss/TIME; or, with --format, an export (exported/NAME, its newest "
        "version, or one of them; also of kerasrep-import), or starter, the trunk that comes with kerasrep",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where exports are kept (default: the recipe's, 'exported'; of an export, where it is)",
    )
    parser.add_argument(
        "--name", help="folder of the export in it (default: the recipe's name; of an export, its folder's)"
    )
    parser.add_argument(
        "--format",
        dest="formats",
        metavar="FORMAT[,FORMAT...]",
        help=f"{', '.join(EXPORT_FORMATS)} (default: {SAVED_MODEL}); others than {SAVED_MODEL} go to "
        "DIR/NAME/runtimes/VERSION; onnx needs pip install 'kerasrep[onnx]'",
    )
    parser.add_argument(
        "--scores",
        metavar="SCORES.json",
        type=Path,
        help="what kerasrep-evaluate wrote of this run or of an export of it: its headline scores go into "
        "the card",
    )
    command.add_layers_argument(parser, "all; the embedding is always there")
    parser.add_argument(
        "--default-layers",
        metavar="last|all|conv3,conv5",
        help="what kerasrep's commands make a vector of unless --layers says otherwise (default: the "
        "recipe's, 'last')",
    )
    parser.add_argument(
        "--weights",
        choices=EXPORT_WEIGHTS,
        help="type that kernels are stored in; float16 is half as large, and becomes float32 when a server "
        "loads it (default: the recipe's, 'float32')",
    )
    parser.add_argument(
        "--licences",
        metavar="TABLE.tsv",
        type=Path,
        help="path, title, author, licence, package and source of each recording that was trained on: the "
        "card sums it up, and the table is put beside it",
    )
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    settings = {"directory": arguments.directory, "name": arguments.name}
    _check({key: value for key, value in settings.items() if value is not None})
    formats = _formats(arguments.formats)

    from kerasrep.storage.export_directory import find_version, model_path

    model = model_path(arguments.model)
    if not model.is_dir():
        raise RecipeError(
            f"{model}: no such run directory or export; give the folder that kerasrep-train or "
            "kerasrep-import wrote, or starter"
        )
    version = find_version(model)
    if version is None:
        return _export_run(arguments, formats)
    place = version if version.parent.name and ".." not in version.parts else version.resolve()
    name = arguments.name or place.parent.name
    # What is installed may not be written to.
    default = place.parent.parent if model == arguments.model else "exported"
    return _convert(arguments, version, Path(arguments.directory or default, name), formats)


def _convert(arguments: argparse.Namespace, version: Path, export: Path, formats: tuple[str, ...]) -> int:
    """Write files for other runtimes from an export."""
    if SAVED_MODEL in formats:
        others = ",".join(EXPORT_FORMATS[1:])
        raise RecipeError(f"{version}: is a SavedModel already; give --format with some of {others}")
    for option in ("scores", "layers", "default_layers", "weights", "licences"):
        if getattr(arguments, option) is not None:
            raise RecipeError(
                f"--{option.replace('_', '-')}: is of runs; files of an export are as its SavedModel is"
            )
    from kerasrep.serving.runtimes.convert import convert_export

    for path in convert_export(version, export, formats):
        console.result(path, f"exported {path}")
    return 0


def _export_run(arguments: argparse.Namespace, formats: tuple[str, ...]) -> int:
    """Write the next version of a run."""
    run: Path = arguments.model
    layers, default_layers = (command.layers_of(arguments, name) for name in ("layers", "default_layers"))
    downstream = None if arguments.scores is None else _headlines(arguments.scores)

    from kerasrep.model.restore import restore_run
    from kerasrep.serving.export import export_run, next_steps
    from kerasrep.serving.runtimes import require
    from kerasrep.storage.export_directory import ServingFolder

    require([name for name in formats if name != SAVED_MODEL])
    trained = restore_run(run)
    recipe: Recipe = trained.recipe
    directory = Path(arguments.directory or recipe.export.directory)
    name = arguments.name or recipe.export_name
    if arguments.scores is not None:
        places = {directory / name, Path(recipe.export.directory, recipe.export_name)}
        _check_scores(arguments.scores, trained.run, sorted(places))
    version = export_run(
        trained,
        directory,
        name,
        formats,
        downstream,
        layers=layers or ALL,
        weights=arguments.weights,
        default_layers=default_layers,
        licences=arguments.licences,
    )
    others = ServingFolder(directory / name).runtimes(int(version.name))
    written = sorted(path for path in others.glob("*") if path.suffix != ".json")
    if SAVED_MODEL in formats:
        written = [version, *written]
    for path in written:
        console.result(path, f"exported {path}")
    if SAVED_MODEL in formats:
        console.say(f"\n{next_steps(version)}")
    return 0


def _formats(text: str | None) -> tuple[str, ...]:
    """Formats that the command line names."""
    formats = tuple(part.strip() for part in (SAVED_MODEL if text is None else text).split(","))
    for name in formats:
        if name not in EXPORT_FORMATS:
            raise RecipeError(f"--format '{name}': is not one of {', '.join(EXPORT_FORMATS)}")
    return formats


def _headlines(path: Path) -> dict[str, Any]:
    """The headline scores of an evaluation: task -> metric, items, and a score for each representation."""
    from kerasrep.storage.run_directory import read_json

    found: dict[str, Any] = {}
    try:
        for evaluation in read_json(path)["evaluations"]:
            task = found.setdefault(
                evaluation["task"],
                {"metric": evaluation["metric"], "items": evaluation["n_items"], "scores": {}},
            )
            headline = evaluation["probes"][0]
            task["scores"][evaluation["representation"]] = {
                key: headline[key] for key in ("probe", "mean", "low", "high")
            }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: is not the scores.json of kerasrep-evaluate ({error!r})") from error
    return found


def _check_scores(path: Path, run: RunDirectory, places: list[Path]) -> None:
    """Refuse an evaluation of other models alone: weights are compared, not names.

    Args:
        path: What kerasrep-evaluate wrote.
        run: Whose scores are wanted.
        places: Folders such as `exported/NAME` where exports of the run may be.
    """
    from kerasrep.embedding.representations import model_fingerprint
    from kerasrep.storage.run_directory import read_json, read_object

    try:
        judged = set(read_json(path)["provenance"]["representations"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not the scores.json of kerasrep-evaluate ({error!r})") from error
    own = [run.root, *([run.model] if run.model.is_file() else [])]
    run_card = read_object(run.card) if run.card.is_file() else None
    if run_card is not None:
        own += [model for model, card in _exports(places) if card.run == run_card]
    fingerprints = set(map(model_fingerprint, own))
    # With that of layers behind it where they were judged.
    if not any(one.startswith(tuple(fingerprints)) for one in judged):
        raise DataError(
            f"{path}: holds no scores of {run.root} or of its exports in {', '.join(map(str, places))}; "
            f"give what kerasrep-evaluate {run.root} writes"
        )


def _exports(places: list[Path]) -> Iterator[tuple[Path, ExportCard]]:
    """Models in folders such as `exported/NAME`, with their cards, but for broken ones."""
    from kerasrep.storage.export_directory import (
        SAVED_MODEL_FILE,
        ServingFolder,
        card_path,
        read_card_file,
        version_numbers,
    )

    for place in places:
        folder = ServingFolder(place)
        versions = [place / str(number) for number in version_numbers(place)]
        files = [folder.runtimes(number) for number in version_numbers(place / "runtimes")]
        models = [(path, card_path(path)) for path in versions if (path / SAVED_MODEL_FILE).is_file()]
        models += [(path, beside / "card.json") for beside in files for path in beside.glob("*.keras")]
        for model, card in models:
            try:
                described = read_card_file(card)
            except ExportError:
                continue
            yield model, described


def _check(settings: dict[str, str]) -> None:
    """Hold options to what a recipe may say of the export."""
    from pydantic import ValidationError

    from kerasrep.recipe.schema import ExportSettings

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
