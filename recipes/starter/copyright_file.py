"""What a package's copyright file says about one file: Debian's machine-readable format."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

_FORBIDS = re.compile(r"non-?commercial|\bnc\b|no-?deriv|\bnd\b", re.IGNORECASE)


@dataclass(frozen=True)
class Terms:
    """One paragraph about files.

    Attributes:
        patterns: Files it is about, as paths in the source package.
        people: Who holds the copyright, with comments.
        licence: Short name.
    """

    patterns: tuple[str, ...]
    people: str
    licence: str


def read_copyright(unpacked: Path) -> str:
    """The text of the copyright file of an unpacked package, empty where there is none."""
    for path in sorted(unpacked.glob("usr/share/doc/*/copyright*")):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8", "replace")
    return ""


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        head = re.match(r"([A-Za-z-]+):\s*(.*)", line)
        if head:
            name = head.group(1).lower()
            fields[name] = head.group(2)
        elif name:
            fields[name] += f"\n{line.strip()}"
    return fields


def parse_terms(text: str) -> list[Terms]:
    """The paragraphs about files, in order; none where the file is free prose."""
    terms = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = _fields(paragraph)
        if "files" in fields and fields.get("license"):
            patterns = tuple(re.split(r"[\s,]+", fields["files"].strip()))
            people = f"{fields.get('copyright', '')} {fields.get('comment', '')}"
            terms.append(Terms(patterns, people, fields["license"].strip().splitlines()[0]))
    return terms


def _matches(path: str, pattern: str) -> bool:
    """Whether an installed path may be the source path that a pattern means.

    Packages install `data/music/a.ogg` as `usr/share/games/NAME/music/a.ogg`, so any tail of the one is
    compared with the pattern and with its tails of at least two parts.
    """
    parts = path.split("/")
    wanted = pattern.lstrip("./").split("/")
    tails = ["/".join(wanted[start:]) for start in range(max(1, len(wanted) - 1))]
    return any(fnmatchcase("/".join(parts[start:]), tail) for tail in tails for start in range(len(parts)))


def terms_of(path: str, terms: list[Terms]) -> Terms | None:
    """The terms of one file: the last paragraph that matches, as the format says."""
    for paragraph in reversed(terms):
        if any(_matches(path, pattern) for pattern in paragraph.patterns):
            return paragraph
    return None


def forbids_change_or_commerce(licence: str) -> bool:
    """Whether a licence's name says so.

    >>> forbids_change_or_commerce("CC-BY-NC-SA-3.0"), forbids_change_or_commerce("CC-BY-SA-4.0")
    (True, False)
    """
    return _FORBIDS.search(licence) is not None
