"""Recorded music and tracker modules: who may stay, one copy of each, stretches of at most 150 s."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from copyright_file import Terms, forbids_change_or_commerce, parse_terms, read_copyright, terms_of
from files import write_text, written_whole
from find_music import Credits, Found, find_music
from packages import Package
from people import SHORTEST_IN_FREE_TEXT, LeaveOut, folded_name, folded_words
from same_recording import audio_hash, fingerprint, first_of_each
from sound import SAMPLE_RATE_HZ, UnreadableError, decode, write_opus
from tqdm import tqdm

LOG = logging.getLogger("collect")
STRETCH_SECONDS = 150.0
SHORTEST_SECONDS = 20.0
"""After silence at the ends is gone; modules below it are jingles."""
REAL_KILOBITS = 64


@dataclass(frozen=True)
class Piece:
    """A piece of music that may be used.

    Attributes:
        package: Name.
        source: Package with version and suite.
        file: Path of the file.
        name: Path inside the package.
        title: As known, else the file's name.
        author: Who the licence table names.
        composer: One name, folded comparison decides who is the same; empty where nobody is named.
        licence: Short name.
        stretches: Paths of the encoded stretches below the output folder.
        seconds: Length of the recording as decoded.
        sha256: Of the decoded audio.
    """

    package: str
    source: str
    file: str
    name: str
    title: str
    author: str
    composer: str
    licence: str
    stretches: tuple[str, ...] = ()
    seconds: float = 0.0
    sha256: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file that stays out, and why."""

    package: str
    name: str
    why: str


def _first_author(names: Iterable[str]) -> str:
    """The composer's label: the first name, without years and addresses."""
    for name in names:
        plain = re.sub(r"\(c\)|copyright|©|<[^>]*>|\b(19|20)\d\d\b|\bby\b", " ", name, flags=re.IGNORECASE)
        plain = re.split(r"[;,/]| and ", plain)[0]
        if folded_words(plain):
            return " ".join(plain.split())
    return ""


def judge(
    found: Found, package: Package, credits: Credits, terms: Sequence[Terms], out: LeaveOut
) -> Piece | LeftOut:
    """Whether a file may be used: names, licence, a row in credits.tsv."""
    credit = credits.of(package.name, found.name)
    paragraph = terms_of(found.name, list(terms))
    named = [*((credit.author,) if credit and credit.author else ()), *found.people]
    said = [*named, found.title, found.name, paragraph.people if paragraph and not named else ""]
    person = next((name for text in said if (name := out.found_in(text))), None)
    person = person or out.found_in(found.free_text, SHORTEST_IN_FREE_TEXT)
    licences = [text for text in (found.terms, paragraph.licence if paragraph else "") if text]
    if person:
        return LeftOut(package.name, found.name, f"names {person}, of leave_out.txt")
    if credit is None:
        return LeftOut(package.name, found.name, "no row in credits.tsv: nobody has read its licence")
    if credit.use != "yes":
        return LeftOut(package.name, found.name, credit.note)
    if any(forbids_change_or_commerce(text) for text in (*licences, credit.licence)):
        return LeftOut(package.name, found.name, "its licence forbids changes or commerce")
    composer = _first_author(credit.author.split(";") if credit.author else found.people)
    author = (
        credit.author
        or "; ".join(dict.fromkeys(found.people))
        or (paragraph.people.strip() if paragraph else "")
    )
    title = found.title or Path(found.name).stem
    return Piece(
        package.name, package.source, str(found.path), found.name, title, author, composer, credit.licence
    )


def look_through(
    package: Package, folder: Path, cache: Path, credits: Credits, out: LeaveOut
) -> tuple[list[Piece], list[LeftOut]]:
    """Finds and judges the music of one package."""
    terms = parse_terms(read_copyright(folder))
    search = find_music(folder, cache)
    judged = [judge(found, package, credits, terms, out) for found in search.found]
    pieces = [item for item in judged if isinstance(item, Piece)]
    left_out = [item for item in judged if isinstance(item, LeftOut)]
    left_out += [LeftOut(package.name, name, f"unreadable: {why}") for name, why in search.unreadable]
    return pieces, left_out


def _measures_path(piece: Piece, work: Path) -> Path:
    key = hashlib.sha256(f"{piece.source}\n{piece.name}".encode()).hexdigest()[:20]
    return work / "measured" / piece.package / f"{key}.npz"


def _measure(task: tuple[Piece, Path]) -> str:
    """Decodes one piece; keeps hash, length and fingerprint, or the error."""
    piece, work = task
    path = _measures_path(piece, work)
    if not path.is_file():
        values: dict[str, object] = {
            "error": "",
            "seconds": 0.0,
            "sha256": "",
            "fingerprint": np.zeros((0, 0)),
        }
        try:
            samples = decode(Path(piece.file))
        except UnreadableError as error:
            values["error"] = str(error)
        else:
            values["seconds"] = len(samples) / SAMPLE_RATE_HZ
            values |= {"sha256": audio_hash(samples), "fingerprint": fingerprint(samples)}
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **values)  # type: ignore[arg-type]
    return str(path)


def measure_all(pieces: Sequence[Piece], work: Path, jobs: int) -> tuple[list[Piece], list[LeftOut]]:
    """Measures every piece and keeps the first of those that are the same recording."""
    tasks = [(piece, work) for piece in pieces]
    with ProcessPoolExecutor(jobs) as pool:
        paths = list(tqdm(pool.map(_measure, tasks), desc="decode", total=len(tasks), unit="piece"))
    kept, left_out, prints = [], [], []
    for piece, path in zip(pieces, paths, strict=True):
        with np.load(path) as values:
            error, seconds = str(values["error"]), float(values["seconds"])
            if error or seconds < SHORTEST_SECONDS:
                why = (
                    f"unreadable: {error}"
                    if error
                    else f"shorter than {SHORTEST_SECONDS:g} s without its silence"
                )
                left_out.append(LeftOut(piece.package, piece.name, why))
                continue
            kept.append(replace(piece, seconds=round(seconds, 3), sha256=str(values["sha256"])))
            prints.append(values["fingerprint"])
    first = first_of_each([piece.sha256 for piece in kept], prints)
    unique = []
    for index, (piece, (other, correlation)) in enumerate(zip(kept, first, strict=True)):
        if other == index:
            unique.append(piece)
        else:
            why = f"the same recording as {kept[other].package}: {kept[other].name} ({correlation:.2f})"
            left_out.append(LeftOut(piece.package, piece.name, why))
    return unique, left_out


def stretch_bounds(seconds: float) -> list[tuple[float, float]]:
    """Divides a length into equal stretches of at most 150 s.

    >>> stretch_bounds(400.0)[0]
    (0.0, 133.33333333333334)
    """
    count = max(1, math.ceil(seconds / STRETCH_SECONDS))
    return [(seconds * index / count, seconds * (index + 1) / count) for index in range(count)]


def with_paths(pieces: Sequence[Piece]) -> list[Piece]:
    """Gives each piece the paths of its stretches: `audio/PACKAGE/NAME.opus`, names as in the package."""
    taken: set[str] = set()
    named = []
    for piece in pieces:
        words = folded_words(Path(piece.name).stem)[:8]
        if ".members" in piece.name or len("".join(words)) < 3:
            box = Path(piece.name).parts[-3 if "/music/" in piece.name else -2].replace(".members", "")
            words = folded_words(re.sub(r"\.parkobj|\.zip|\.pak|openrct2\.(music|audio)\.", "", box)) + words
        base = name = f"audio/{piece.package}/{'-'.join(words) or 'piece'}"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        bounds = stretch_bounds(piece.seconds)
        ends = [""] if len(bounds) == 1 else [f".{index}" for index in range(1, len(bounds) + 1)]
        named.append(replace(piece, stretches=tuple(f"{name}{end}.opus" for end in ends)))
    return named


def _encode(task: tuple[Piece, Path]) -> str:
    piece, out = task
    missing = [path for path in piece.stretches if not (out / path).is_file()]
    if missing:
        try:
            samples = decode(Path(piece.file))
            for path, (start, end) in zip(piece.stretches, stretch_bounds(piece.seconds), strict=True):
                if path in missing:
                    cut = samples[round(start * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]
                    write_opus(out / path, cut, REAL_KILOBITS)
        except UnreadableError as error:
            return str(error)
    return ""


def encode_all(pieces: Sequence[Piece], out: Path, jobs: int) -> tuple[list[Piece], list[LeftOut]]:
    """Writes the stretches of every piece as Opus."""
    with ProcessPoolExecutor(jobs) as pool:
        tasks = [(piece, out) for piece in pieces]
        errors = list(tqdm(pool.map(_encode, tasks), desc="encode", total=len(tasks), unit="piece"))
    good = [piece for piece, error in zip(pieces, errors, strict=True) if not error]
    bad = [
        LeftOut(piece.package, piece.name, error)
        for piece, error in zip(pieces, errors, strict=True)
        if error
    ]
    return good, bad


def same_person(name: str) -> str:
    """The key by which two spellings are one composer."""
    return folded_name(name)


def keep_list(path: Path, pieces: Sequence[Piece], left_out: Sequence[LeftOut]) -> None:
    """Keeps what came of the real music for later steps."""
    content = {"pieces": [asdict(piece) for piece in pieces], "left_out": [asdict(item) for item in left_out]}
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
