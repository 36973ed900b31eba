"""Whose music stays out: names compared folded for case, accents and punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

_LONGEST_NAME_WORDS = 6
_SHORTEST_INEXACT = 10
"""Joined letters from which one letter more, less or other still counts as the same name."""

SHORTEST_IN_FREE_TEXT = 6
"""Shorter names (HG, yd, stud) are compared with names alone, not with notes inside modules."""


def folded_words(text: str) -> list[str]:
    """The words of a text without case, accents and punctuation.

    >>> folded_words("Olivier Bérubé - C.M.Rogers")
    ['olivier', 'berube', 'c', 'm', 'rogers']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.casefold())


def folded_name(text: str) -> str:
    """A name as one word, for comparison."""
    return "".join(folded_words(text))


def read_names(path: Path) -> list[str]:
    """Names of a list, one a line; `#` starts a comment line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _spellings(name: str) -> Iterator[str]:
    """A name joined, without its nickname, the nickname alone, and with the last word first."""
    nickname = re.search(r"""["'](.+?)["']""", name)
    forms = [name]
    if nickname:
        forms += [name.replace(nickname.group(0), " "), nickname.group(1)]
    for form in forms:
        words = folded_words(form)
        yield "".join(words)
        if len(words) == 2:
            yield "".join(reversed(words))


def _nearly_equal(first: str, second: str) -> bool:
    """Whether one insertion, deletion or replacement makes the two equal."""
    if abs(len(first) - len(second)) > 1:
        return False
    shorter, longer = sorted((first, second), key=len)
    start = 0
    while start < len(shorter) and shorter[start] == longer[start]:
        start += 1
    same_length = len(shorter) == len(longer)
    return shorter[start + same_length :] == longer[start + 1 :]


class LeaveOut:
    """People whose music is neither trained on nor scored.

    Args:
        names: As the list has them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._name_of = {form: name for name in names for form in _spellings(name) if len(form) > 1}
        self._long = [form for form in self._name_of if len(form) >= _SHORTEST_INEXACT]

    @classmethod
    def read(cls, path: Path) -> LeaveOut:
        """The list in a file."""
        return cls(read_names(path))

    def found_in(self, text: str, shortest_letters: int = 0) -> str | None:
        """The first name of the list that stands in a text as whole words.

        Args:
            text: Tags, credits, or a path.
            shortest_letters: Shorter names are not looked for.
        """
        words = folded_words(text)
        for start in range(len(words)):
            for end in range(start + 1, min(start + _LONGEST_NAME_WORDS, len(words)) + 1):
                name = self._listed("".join(words[start:end]), shortest_letters)
                if name is not None:
                    return name
        return None

    def _listed(self, joined: str, shortest_letters: int) -> str | None:
        if joined in self._name_of and len(joined) >= shortest_letters:
            return self._name_of[joined]
        if len(joined) >= _SHORTEST_INEXACT - 1:
            for form in self._long:
                if _nearly_equal(joined, form):
                    return self._name_of[form]
        return None
