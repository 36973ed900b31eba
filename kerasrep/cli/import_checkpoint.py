"""`kerasrep-import`: weights that the paper's authors published become the next version of a SavedModel."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.cli import command
from kerasrep.errors import DataError, RecipeError
from kerasrep.runtime import console
from kerasrep.storage.regular_file import sha256_of

if TYPE_CHECKING:
    from kerasrep.model.reference_checkpoint import ReferenceCheckpoint
    from kerasrep.model.strategies import Network, Scaler

PROG = "kerasrep-import"
NO_SCALER = "none"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Export a checkpoint of the authors' PyTorch code as a SavedModel, in float32. The next "
        "free version is written. Reading what torch.save wrote needs PyTorch (pip install "
        "'kerasrep[torch]'); an NPZ of the same arrays does not.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=Path,
        help="dictionary with tasks, branch_at, n_outs and state_dict that torch.save wrote; or NPZ with "
        "tasks, branch_at and the arrays of state_dict under their names",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR/NAME",
        help="folder of the export, such as exported/mss; versions are numbered in it",
    )
    parser.add_argument(
        "--scaler",
        metavar="SCALER.npz",
        help="standardisation that the network was trained with: arrays mean and sd of 128 mel bands, in dB; "
        f"'{NO_SCALER}' where it was fed plain dB",
    )
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    output: Path = arguments.output
    _check_name(output)
    if arguments.scaler is None:
        raise RecipeError(
            "--scaler is missing: embeddings are wrong without the standardisation that the network was "
            f"trained with; give its NPZ (mean and sd of 128 mel bands), or '{NO_SCALER}' if there was none"
        )

    from kerasrep.model.reference_checkpoint import read_checkpoint, read_scaler

    scaler_path = None if arguments.scaler == NO_SCALER else Path(arguments.scaler)
    scaler: Scaler | None = read_scaler(scaler_path) if scaler_path else None
    checkpoint = read_checkpoint(arguments.checkpoint)
    network = checkpoint.build(scaler).network

    from kerasrep.serving.export import export_imported, next_steps

    imported = _origin(checkpoint, network, scaler_path)
    version = export_imported(network, imported, output.parent, output.name)
    n_parameters = sum(network.parameters().values())
    sources = ", ".join(network.sources)
    line = f"imported {version}: {network.strategy}, {n_parameters:,} parameters, sources {sources}"
    console.result(version, line)
    console.say(f"\n{next_steps(version)}")
    return 0


def _check_name(output: Path) -> None:
    """Hold the export's folder to what a recipe may say of it."""
    from pydantic import ValidationError

    from kerasrep.recipe.schema import ExportSettings

    try:
        ExportSettings.model_validate({"directory": str(output.parent), "name": output.name})
    except ValidationError:
        allowed = ExportSettings.model_json_schema()["properties"]["name"]["anyOf"][0]["description"]
        raise RecipeError(f"-o '{output}': must be a folder and a name in it, the name {allowed}") from None


def _origin(checkpoint: ReferenceCheckpoint, network: Network, scaler: Path | None) -> dict[str, Any]:
    """Where the weights came from, for the card."""
    strategy = f"{network.strategy}: branch_at {checkpoint.branch_at or 'null'}"
    return {
        "checkpoint": _identity(checkpoint.path),
        "form": checkpoint.form,
        "tasks": list(checkpoint.tasks),
        "branch_at": checkpoint.branch_at,
        "n_outs": checkpoint.n_outs,
        "scaler": _identity(scaler) if scaler else None,
        "notes": [
            f"weights of the authors' PyTorch code ({strategy}), arXiv 1802.04051",
            "segments are of 55,125 samples with a spectrogram of their own; the authors' code cuts the "
            "spectrogram of a whole recording every 216 frames and pads its end with 0 dB",
        ],
    }


def _identity(path: Path) -> dict[str, str]:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")  # names need not be UTF-8, cards must
    return {"file": name, "sha256": digest}


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
