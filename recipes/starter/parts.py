"""Three parts for development and a last look, so that no package and no composer is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

PARTS = ("A", "B", "C")
NOBODY = frozenset({"", "traditional", "various", "unknown", "anonymous"})
"""Folded names that join nothing."""


def hash_order(text: str) -> str:
    """A key that sorts names in an order that says nothing about them."""
    return hashlib.sha256(text.encode()).hexdigest()


def part_by_hash(text: str) -> str:
    """The part of something that stands alone, such as a sample of a SoundFont or a groove."""
    return PARTS[int(hash_order(text), 16) % len(PARTS)]


def joined_groups(members: Iterable[Sequence[str]]) -> dict[str, str]:
    """Names that occur together, directly or through others, make a group.

    Args:
        members: For each piece the names that must not be divided: its package, its composers.

    Returns:
        For each name, the group: the first of its names in the alphabet.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for names in members:
        for name in names:
            first, second = sorted((root(names[0]), root(name)))
            parent[second] = first
    return {name: root(name) for name in parent}


def assign_parts(hours: Mapping[str, float], fixed: Mapping[str, str]) -> dict[str, str]:
    """The part of each group.

    A group keeps the part that it was given once. The others come longest first (equals by hash), each into
    the part that has the fewest hours.

    Args:
        hours: Of each group.
        fixed: Parts given earlier (`parts.tsv`).
    """
    parts = {group: fixed[group] for group in hours if group in fixed}
    filled: dict[str, float] = defaultdict(float)
    for group, part in parts.items():
        filled[part] += hours[group]
    rest = [group for group in hours if group not in fixed]
    for group in sorted(rest, key=lambda group: (-hours[group], hash_order(group))):
        parts[group] = min(PARTS, key=lambda part: (filled[part], part))
        filled[parts[group]] += hours[group]
    return parts


def deal_groups(classes: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The part of each group of samples, so that every part has about a third of the groups of every class.

    Groups of many classes come first, equals in the order of their hashes; each goes to the part that has the
    fewest groups of its classes, then to the one with the fewest groups.

    Args:
        classes: For each group the classes that its samples are played in.
    """
    parts: dict[str, str] = {}
    dealt: Counter[tuple[str, str]] = Counter()
    for group in sorted(classes, key=lambda group: (-len(classes[group]), hash_order(group))):
        own = classes[group]
        parts[group] = part = min(
            PARTS, key=lambda part: (sum(dealt[name, part] for name in own), dealt["", part], part)
        )
        dealt.update((name, part) for name in ("", *own))
    return parts
