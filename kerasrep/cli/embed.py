"""`kerasrep-embed`: audio files and folders become one table of vectors."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.errors import DataError, ExportError, RecipeError, one_line

if TYPE_CHECKING:
    from kerasrep.embedding.files import BadFile, FileEmbedding

PROG = "kerasrep-embed"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Embed audio: one vector a file, the mean and standard deviation over segments of 2.5 s. "
        "Folders are searched at any depth; files named singly are tried whatever their suffix. Files that "
        "cannot be used are listed at the end; the others are saved, and the exit code is then 1.",
    )
    parser.add_argument("inputs", metavar="AUDIO_OR_FOLDER", type=Path, nargs="+", help="what to embed")
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="an export (exported/NAME is its newest version), a run directory, or a .keras file",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="OUT.npz: arrays paths, embeddings [files, dimension], columns; OUT.parquet: columns path and "
        "embedding (a list of fixed size)",
    )
    parser.add_argument(
        "--decoder",
        choices=("soundfile", "tensorflow-io"),
        default="soundfile",
        help="what decodes the files (default: soundfile)",
    )
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    _check_output(arguments.output)

    from kerasrep.embedding.embedder import Embedder
    from kerasrep.embedding.files import embed_all, find_audio
    from kerasrep.embedding.models import find_model
    from kerasrep.run_directory import atomic_file

    try:
        load_model, found = find_model(arguments.model)
    except ExportError as error:
        raise RecipeError(f"--model {error}") from error
    paths, bad = find_audio(arguments.inputs)
    with atomic_file(arguments.output) as temporary:
        embedded: list[FileEmbedding] = []
        start_seconds = time.monotonic()
        if paths:
            embedder = Embedder(load_model(found))
            start_seconds = time.monotonic()
            embedded, bad_files = embed_all(embedder, paths, arguments.decoder, PROG)
            bad += bad_files
        _report(bad)
        if not embedded:
            raise DataError(f"no file could be embedded; {arguments.output} was not written")
        _write(temporary, embedded, embedder.columns)
    _summarise(embedded, time.monotonic() - start_seconds, arguments.output)
    return command.EXIT_FAILURE if bad else 0


def _check_output(output: Path) -> None:
    """Refuse an output that could only fail after hours of work.

    Raises:
        RecipeError: Where the suffix is unknown or the path is a folder.
    """
    suffixes = (".npz", ".parquet")
    if output.suffix not in suffixes:
        raise RecipeError(f"-o {output}: unknown suffix '{output.suffix}'; use {' or '.join(suffixes)}")
    if output.is_dir():
        raise RecipeError(f"-o {output}: is a folder; give a file name")


def _write(path: Path, embedded: Sequence[FileEmbedding], columns: Sequence[str]) -> None:
    import numpy as np

    from kerasrep.embedding.output import write_embeddings

    embeddings = np.stack([result.embedding for result in embedded])
    write_embeddings(path, [result.path for result in embedded], embeddings, columns)


def _report(bad: Sequence[BadFile]) -> None:
    for item in bad:
        print(f"{PROG}: skipped: {one_line(item.reason)}", file=sys.stderr, flush=True)


def _summarise(embedded: Sequence[FileEmbedding], elapsed_seconds: float, output: Path) -> None:
    audio_seconds = sum(result.seconds for result in embedded)
    files = "1 file" if len(embedded) == 1 else f"{len(embedded)} files"
    speed = audio_seconds / max(elapsed_seconds, 1e-9)
    print(
        f"{files}, {audio_seconds:.1f} s of audio in {elapsed_seconds:.1f} s "
        f"({speed:.0f} times real time), {embedded[0].embedding.size} values each: "
        f"{one_line(str(output))}"
    )


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
