"""`kerasrep-search`: tracks of a catalogue that are nearest to some audio, and those that it has twice."""

from __future__ import annotations

import argparse
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kerasrep.cli import command
from kerasrep.cli.map import add_page_arguments, check_page, roots
from kerasrep.errors import RecipeError, one_line
from kerasrep.runtime import console

if TYPE_CHECKING:
    from kerasrep.embedding.listening.tracks import Names, Tracks
    from kerasrep.embedding.search import Neighbour, Query

PROG = "kerasrep-search"
_TIME = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:\.\d+)?)")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Find the tracks of a table of embeddings that are nearest to audio files, by the cosine "
        "of vectors from which the mean of the table is taken. In a table of segments a track counts with "
        "its most similar segment, whose time is printed.",
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="what kerasrep-embed wrote: Parquet or NPZ")
    parser.add_argument(
        "queries",
        metavar="AUDIO",
        type=Path,
        nargs="*",
        help="files, in INDEX or not; or names of tracks of INDEX, without folder",
    )
    parser.add_argument("--model", help="the model that made INDEX (default: the one that INDEX names)")
    command.add_layers_argument(parser, "those of INDEX, or the model's own where it does not say")
    parser.add_argument(
        "-n", "--neighbours", type=int, default=10, metavar="N", help="how many for each query (default: 10)"
    )
    parser.add_argument(
        "--at", metavar="FROM-TO", help="only this part of the queries, such as 1:23-1:40 or 5-12.5"
    )
    parser.add_argument("--average", action="store_true", help="take all queries as one: their mean")
    parser.add_argument(
        "--any-level",
        action="store_true",
        help="search also with each query 6 and 12 dB quieter and louder, and with left and right swapped; "
        "the best match counts: finds quieter copies with an encoder to which level matters; ten times "
        "the work",
    )
    parser.add_argument(
        "--distinct",
        metavar="artist",
        help="at most one track of each artist, album, genre, year (tags in the files), folder, or group of "
        "COLUMN:TABLE.csv",
    )
    parser.add_argument(
        "--duplicates",
        action="store_true",
        help="instead of queries: print pairs of tracks of INDEX that sound like the same recording",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help="least similarity of two tracks that are each nearest to the other (default: 0.7)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument("--m3u", type=Path, metavar="OUT.m3u8", help="write the tracks found as a playlist")
    parser.add_argument(
        "--page", type=Path, metavar="OUT.html", help="write a page to listen on, with a map and players"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="INDEX_2",
        help="a second table of the same files, made with another model: the page shows its "
        "neighbours beside those of INDEX",
    )
    add_page_arguments(parser)
    command.add_common_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = build_parser().parse_intermixed_args(argv)  # options may stand before AUDIO
    _check(arguments)
    span_seconds = None if arguments.at is None else _span_seconds(arguments.at)
    folder, address = roots(arguments.audio_root)

    from kerasrep.embedding.catalogue.reading import read_embeddings
    from kerasrep.embedding.listening import output
    from kerasrep.embedding.listening.tracks import Names, Tracks

    tracks = Tracks(read_embeddings(arguments.index), folder)
    names = Names(tracks)
    if arguments.duplicates:
        return _print_duplicates(arguments, names)
    queries = _queries(arguments, tracks, arguments.queries, arguments.model, span_seconds)
    neighbours = _search(arguments, tracks, queries)
    if arguments.json:
        print(output.as_json(arguments.index, names, queries, neighbours))
    elif queries:
        print("\n".join(output.as_text(names, queries, neighbours)))
    if arguments.m3u is not None:
        found = [one.path for some in neighbours for one in some]
        _say(arguments, output.write_playlist(arguments.m3u, names, found))
    if arguments.page is not None:
        _write_page(arguments, tracks, queries, neighbours, address, command.line(PROG, argv))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.neighbours < 1:
        raise RecipeError(f"-n {arguments.neighbours}: give a whole number above 0")
    if arguments.duplicates and (arguments.queries or arguments.page):
        raise RecipeError("--duplicates: compares the tracks of INDEX; leave AUDIO and --page out")
    if arguments.threshold is not None and not (arguments.duplicates and -1 <= arguments.threshold <= 1):
        raise RecipeError(f"--threshold {arguments.threshold}: give a number from -1 to 1, with --duplicates")
    if not arguments.queries and not arguments.duplicates and arguments.page is None:
        raise RecipeError("give AUDIO, --duplicates, or --page for a page on which any track can be chosen")
    if not arguments.queries and (
        arguments.average or arguments.at or arguments.distinct or arguments.any_level
    ):
        raise RecipeError("--average, --at, --any-level and --distinct are of queries; name AUDIO files")
    if not arguments.queries and arguments.m3u is not None and not arguments.duplicates:
        raise RecipeError("--m3u: takes what queries or --duplicates find; name AUDIO files, or give it")
    if arguments.against is not None and arguments.page is None:
        raise RecipeError("--against: is shown on a page; give --page as well")
    if arguments.page is not None:
        check_page("--page", arguments.page)
    if arguments.m3u is not None and arguments.m3u.suffix.lower() not in (".m3u8", ".m3u"):
        raise RecipeError(f"--m3u {arguments.m3u}: give a file name that ends with .m3u8")


def _span_seconds(text: str) -> tuple[float, float]:
    begin, _, end = text.partition("-")
    found = [_TIME.fullmatch(one.strip()) for one in (begin, end)]
    if found[0] and found[1]:
        start, stop = (_seconds(one) for one in found if one)
        if start < stop:
            return start, stop
    raise RecipeError(f"--at {text}: give two times, the earlier one first, such as 1:23-1:40")


def _seconds(time: re.Match[str]) -> float:
    hours_or_minutes, minutes, seconds = time.groups()
    if minutes is None:
        return 60 * int(hours_or_minutes or 0) + float(seconds)
    return 3600 * int(hours_or_minutes) + 60 * int(minutes) + float(seconds)


def _queries(
    arguments: argparse.Namespace,
    tracks: Tracks,
    paths: list[Path],
    model: Path | None,
    span_seconds: tuple[float, float] | None,
) -> list[Query]:
    from kerasrep.embedding.search import averaged, open_model, query_of

    if not paths:
        return []

    open_it = functools.cache(lambda: open_model(tracks.table, model, command.layers_of(arguments)))
    if model is not None or arguments.layers is not None:
        open_it()  # it may be another one, or of other layers, than the index was made with
    queries = [query_of(tracks, path, open_it, span_seconds, arguments.any_level) for path in paths]
    return [averaged(queries)] if arguments.average and len(queries) > 1 else queries


def _search(
    arguments: argparse.Namespace, tracks: Tracks, queries: list[Query]
) -> list[tuple[Neighbour, ...]]:
    from kerasrep.embedding.listening.tracks import Names
    from kerasrep.embedding.search import search

    if not queries:
        return []
    group_of = None if arguments.distinct is None else Names(tracks).grouping(arguments.distinct)
    return search(tracks, queries, arguments.neighbours, group_of)


def _write_page(
    arguments: argparse.Namespace,
    tracks: Tracks,
    queries: list[Query],
    neighbours: list[tuple[Neighbour, ...]],
    address: str | None,
    line: list[str],
) -> None:
    from kerasrep.embedding.catalogue.reading import read_embeddings
    from kerasrep.embedding.listening.page import Answers, write_page
    from kerasrep.embedding.listening.tracks import Tracks

    names = [table.name for table in (arguments.index, arguments.against) if table is not None]
    if len(set(names)) < len(names):
        names = [str(arguments.index), str(arguments.against)]
    answers = [Answers(names[0], tracks, queries, neighbours)]
    if arguments.against is not None:
        other = Tracks(read_embeddings(arguments.against), tracks.audio_root)
        span_seconds = None if arguments.at is None else _span_seconds(arguments.at)
        paths = [path for query in queries for path in query.paths]  # names of tracks are paths by now
        try:
            asked = _queries(arguments, other, paths, None, span_seconds)
        except RecipeError as error:
            raise RecipeError(f"--against {arguments.against}: {error}") from error
        answers.append(Answers(names[1], other, asked, _search(arguments, other, asked)))
    for note in write_page(arguments.page, answers, arguments.color, address, line):
        _say(arguments, note)
    if not arguments.json:
        console.result(arguments.page, f"page: {one_line(str(arguments.page))}")


def _print_duplicates(arguments: argparse.Namespace, names: Names) -> int:
    from kerasrep.embedding.listening import output
    from kerasrep.embedding.listening.nearest import THRESHOLD, duplicates

    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    pairs = duplicates(names.tracks, threshold)
    if arguments.json:
        print(output.duplicates_as_json(arguments.index, names, pairs, threshold))
    else:
        print("\n".join(output.duplicates_as_text(names, pairs, threshold)))
    if arguments.m3u is not None:
        found = dict.fromkeys(path for pair in pairs for path in (pair.first, pair.second))
        _say(arguments, output.write_playlist(arguments.m3u, names, list(found)))
    return 0


def _say(arguments: argparse.Namespace, line: str) -> None:
    """A line for people, where standard output is not one JSON document."""
    if not arguments.json:
        console.say(line)


def entry() -> int:
    """Start from the console."""
    return command.run(main, PROG)
