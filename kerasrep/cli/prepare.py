"""`kerasrep-prepare RECIPE`: read labels, decode audio, and make targets, as training reads them."""

from __future__ import annotations

import argparse

from kerasrep.cli import command
from kerasrep.runtime import console

PROG = "kerasrep-prepare"


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Read the labels of a recipe's corpus, decode its audio into shards, make the soft "
        "targets of all its sources, and report tracks, overlaps and topics. Does nothing where that "
        "is done; continues where it was interrupted, and makes again what is missing or damaged.",
    )
    command.add_recipe_arguments(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare every shard and large file with its checksum, and make damaged ones again",
    )
    command.add_ray_argument(parser)
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command: print a summary, or with `--quiet` the prepared folder alone."""
    arguments = build_parser().parse_intermixed_args(argv)

    from kerasrep.api import prepare
    from kerasrep.corpora.found_sources import with_found_sources
    from kerasrep.recipe.file import read_recipe

    recipe = with_found_sources(read_recipe(arguments.recipe, arguments.overrides), console.say)
    prepared = prepare(recipe, not arguments.quiet, arguments.check, arguments.ray)
    if arguments.quiet:
        print(prepared.root)
    return 0


def entry() -> int:
    """What the console script calls."""
    return command.run(main, PROG)
