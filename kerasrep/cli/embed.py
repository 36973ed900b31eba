"""`kerasrep-embed`: audio files and folders become one table of vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.errors import DataError, ExportError, RecipeError, one_line
from kerasrep.runtime import console

if TYPE_CHECKING:
    from kerasrep.embedding.catalogue.job import Settings, Summary

PROG = "kerasrep-embed"
#: Reasons that are printed; the table of skipped files has all.
SHOWN_REASONS = 20


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Embed audio: one vector per file, or vectors over time. Folders are searched at any "
        "depth; files named singly are tried whatever their suffix. Files that cannot be used are listed "
        "with the reason in OUT.skipped.csv; the others are saved, and the exit code is then 1. After a kill "
        "or Ctrl-C the same command goes on.",
    )
    parser.add_argument(
        "inputs",
        metavar="AUDIO_OR_FOLDER",
        type=Path,
        nargs="*",
        help="what to embed; also patterns such as 'music/**/*.flac'",
    )
    parser.add_argument(
        "--files",
        metavar="LIST",
        action="append",
        default=[],
        help="a file with one path per line, or with NUL characters between them (find -print0), - for "
        "standard input; or a table (.csv, .tsv, .parquet) with a column 'path', relative to the table",
    )
    add_model_argument(parser)
    _add_table_arguments(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that decode, from 8 on in processes (default: one per processor, at most 32)",
    )
    parser.add_argument(
        "--decoder",
        choices=("soundfile", "tensorflow-io"),
        default="soundfile",
        help="what decodes the files (default: soundfile)",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start again, without what an interrupted call with this OUT has done",
    )
    parser.add_argument(
        "--append",
        action="store_true",
        help="keep what OUT (.parquet or .npz) has, and embed only files that are new or changed since",
    )
    command.add_ray_argument(parser)
    command.add_common_arguments(parser)
    return parser


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what shall be in the table, and where it goes."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="OUT.parquet: columns path, seconds and embedding (a list of fixed size); OUT.npz: arrays "
        "paths, seconds, embeddings [rows, dimension], columns; OUT.csv: text with one column per dimension, "
        "for small tables; with --shard-rows a new folder",
    )
    parser.add_argument(
        "--pool",
        choices=("mean-std", "mean", "none"),
        help="over the segments of a file; none: one row per segment, with its start_seconds (default: "
        "none with --hop-seconds, else mean-std)",
    )
    parser.add_argument(
        "--hop-seconds",
        type=float,
        metavar="S",
        help="from the beginning of a segment to that of the next one (default: its length, 2.5)",
    )
    parser.add_argument(
        "--sources", metavar="A,B", help="keep only the branches of these sources, such as tag,artist"
    )
    command.add_layers_argument(parser, "the model's own; all of the trunk that comes with kerasrep")
    parser.add_argument(
        "--shard-rows",
        type=int,
        default=0,
        metavar="N",
        help="write a folder of Parquet files with N rows each",
    )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--model`."""
    parser.add_argument(
        "--model",
        help="an export (exported/NAME is its newest version), a run directory, a .keras file, or "
        "starter, the trunk that comes with kerasrep; or musicnn, mfcc, hear:MODULE[:WEIGHTS], which embed "
        "whole files unless --hop-seconds or --pool is given (default: starter)",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)

    from kerasrep.data import notices
    from kerasrep.embedding.catalogue import job, writing
    from kerasrep.embedding.files import named_inputs
    from kerasrep.embedding.named import named_model

    notices.take()  # those of earlier work in this process
    settings = _settings(arguments)
    job.check_output(arguments.output, settings.shard_rows)
    if arguments.append and (settings.shard_rows or arguments.output.suffix == writing.CSV):
        raise RecipeError("--append: adds to one file, .parquet or .npz; name such an -o, or leave it out")
    inputs = named_inputs(arguments.inputs, arguments.files)
    try:
        named = named_model(arguments.model or _default_model())
    except ExportError as error:
        raise RecipeError(f"--model {error}" if arguments.model else str(error)) from error
    try:
        summary = job.embed_catalogue(
            named.path or named.name,
            inputs,
            arguments.output,
            settings,
            arguments.restart,
            PROG,
            arguments.ray,
            arguments.append,
        )
    except KeyboardInterrupt:
        print(f"{PROG}: what is done is kept; the same command goes on", file=sys.stderr, flush=True)
        raise
    for line in notices.take():
        print(f"{PROG}: note: {line}", file=sys.stderr, flush=True)
    if summary.passed_over:
        print(f"{PROG}: {summary.passed_over}", file=sys.stderr, flush=True)
    for reason in job.reasons(arguments.output, SHOWN_REASONS):
        print(f"{PROG}: skipped: {reason}", file=sys.stderr, flush=True)
    if not summary.files:
        raise DataError(f"no file could be embedded; {arguments.output} was not written")
    _summarise(summary, arguments.output, writing.skipped_path(arguments.output))
    return command.EXIT_FAILURE if summary.bad else 0


def _settings(arguments: argparse.Namespace) -> Settings:
    from kerasrep.embedding.catalogue.job import Settings

    if arguments.workers is not None and not 1 <= arguments.workers <= 64:
        raise RecipeError(f"--workers {arguments.workers}: give a number from 1 to 64")
    named = arguments.sources
    sources = None if named is None else tuple(part.strip() for part in named.split(",") if part.strip())
    return Settings(
        arguments.pool,
        arguments.hop_seconds,
        sources,
        arguments.decoder,
        arguments.workers,
        arguments.shard_rows,
        command.layers_of(arguments),
    )


def _default_model() -> str:
    from kerasrep.storage.export_directory import default_model

    model = default_model()
    console.say(f"model: {one_line(str(model))}, the trunk that comes with kerasrep")
    return str(model)


def _summarise(summary: Summary, output: Path, skipped: Path) -> None:
    files = "1 file" if summary.files == 1 else f"{summary.files} files"
    rows = "" if summary.rows == summary.files else f", {summary.rows} rows"
    kept = f" ({summary.kept} of them done before)" if summary.kept else ""
    speed = summary.audio_seconds / max(summary.elapsed_seconds, 1e-9)
    line = (
        f"{files}{kept}{rows}, {summary.audio_seconds:.1f} s of audio in {summary.elapsed_seconds:.1f} s "
        f"({speed:.0f} times real time), {summary.dimension} values each: {one_line(str(output))}"
    )
    console.result(output, line)
    if summary.bad:
        console.say(f"{summary.bad} skipped: {one_line(str(skipped))}")


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
