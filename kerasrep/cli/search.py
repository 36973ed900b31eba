"""`kerasrep-search`: the tracks of a catalogue that are nearest to some audio."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.errors import DataError, RecipeError, one_line
from kerasrep.runtime import console

if TYPE_CHECKING:
    from kerasrep.embedding.search import Query

PROG = "kerasrep-search"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Find the tracks of a table of embeddings that are nearest to audio files, by cosine. In "
        "a table of segments a track counts with its most similar segment, whose time is printed.",
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="what kerasrep-embed wrote: Parquet or NPZ")
    parser.add_argument("queries", metavar="AUDIO", type=Path, nargs="+", help="files, in INDEX or not")
    parser.add_argument("--model", help="the model that made INDEX (default: where INDEX says that it is)")
    command.add_layers_argument(parser, "those of INDEX, or the model's own where it does not say")
    parser.add_argument("-n", "--neighbours", type=int, default=10, metavar="N", help="tracks a query (10)")
    parser.add_argument(
        "--picture", type=Path, metavar="OUT.png", help="draw a map of INDEX with queries and neighbours"
    )
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.neighbours < 1:
        raise RecipeError(f"-n {arguments.neighbours}: give a whole number above 0")
    picture: Path | None = arguments.picture
    if picture is not None:
        _check_picture(picture)

    from kerasrep.embedding.catalogue.reading import read_embeddings
    from kerasrep.embedding.search import open_model, search

    table = read_embeddings(arguments.index)
    if picture is not None and len(table.paths) < 2:
        raise DataError(f"{arguments.index}: has one row, of which no map can be drawn; leave --picture out")
    model, layout = open_model(table, arguments.model, command.layers_of(arguments))
    queries = search(table, arguments.queries, model, layout, arguments.neighbours)
    _print(queries)
    if picture is not None:
        from kerasrep.embedding.search_picture import draw_search

        draw_search(picture, table, queries)
        console.say(f"picture: {one_line(str(picture))}")
    return 0


def _check_picture(path: Path) -> None:
    try:
        usable = path.suffix.lower() == ".png" and not path.is_dir()
    except OSError as error:
        raise RecipeError(f"--picture {path}: cannot be used ({error.strerror}); give another") from error
    if not usable:
        raise RecipeError(f"--picture {path}: give a file name that ends with .png")


def _print(queries: Sequence[Query]) -> None:
    for query in queries:
        print(f"nearest to {one_line(str(query.path))}")
        print("  rank  cosine  track")
        for rank, neighbour in enumerate(query.neighbours, 1):
            start = neighbour.start_seconds
            at = "" if start is None else f"  at {int(start // 60)}:{start % 60:04.1f}"
            print(f"  {rank:4d}  {neighbour.similarity:6.4f}  {one_line(neighbour.path)}{at}")
        if not query.neighbours:
            print("  the index has no other track")


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
