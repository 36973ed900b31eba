"""`kerasrep-map`: a table of embeddings as a map to listen to."""

from __future__ import annotations

import argparse
from pathlib import Path

from kerasrep.cli import command
from kerasrep.errors import RecipeError, one_line
from kerasrep.runtime import console

PROG = "kerasrep-map"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Write one HTML file with a map of all tracks of a table of embeddings: similar tracks "
        "are near each other, a click plays one and shows its neighbours, tracks are coloured by labels, "
        "searched, and saved as a playlist. It loads nothing but the audio, from where it lies.",
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="what kerasrep-embed wrote: Parquet or NPZ")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.html", help="the page")
    add_page_arguments(parser)
    command.add_common_arguments(parser)
    return parser


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--color` and `--audio-root`."""
    parser.add_argument(
        "--color",
        action="append",
        default=[],
        metavar="COLUMN:TABLE.csv",
        help="colour by a column of a table that names tracks in a column 'track' or 'path'; or by artist, "
        "album, genre, year (tags in the files) or folder; give several to switch between them (default: "
        "the tags that the files have)",
    )
    parser.add_argument(
        "--audio-root",
        metavar="FOLDER_OR_URL",
        help="where relative paths of INDEX begin (default: the folder in which INDEX was made); a URL for a "
        "page that is opened elsewhere",
    )


def roots(audio_root: str | None) -> tuple[Path | None, str | None]:
    """`--audio-root` as a folder, or as the address of a server."""
    if audio_root is None:
        return None, None
    if audio_root.startswith(("http://", "https://")):
        return None, audio_root
    folder = Path(audio_root).absolute()
    if not folder.is_dir():
        raise RecipeError(f"--audio-root {audio_root}: is not a folder; give the one that holds the audio")
    return folder, None


def check_page(option: str, path: Path) -> None:
    """Refuse a page that could only fail after the work.

    Raises:
        RecipeError: Where its name cannot be one.
    """
    try:
        usable = path.suffix.lower() in (".html", ".htm") and not path.is_dir()
    except OSError as error:
        raise RecipeError(f"{option} {path}: cannot be used ({error.strerror}); give another") from error
    if not usable:
        raise RecipeError(f"{option} {path}: give a file name that ends with .html")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    output: Path = arguments.output
    check_page("-o", output)
    folder, address = roots(arguments.audio_root)

    from kerasrep.embedding.catalogue.reading import read_embeddings
    from kerasrep.embedding.listening.page import Answers, write_page
    from kerasrep.embedding.listening.tracks import Tracks

    tracks = Tracks(read_embeddings(arguments.index), folder)
    notes = write_page(
        output, [Answers(arguments.index.name, tracks)], arguments.color, address, command.line(PROG, argv)
    )
    for note in notes:
        console.say(note)
    console.result(output, f"page: {one_line(str(output))}")
    return 0


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
