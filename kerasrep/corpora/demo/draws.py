"""Seeded random generators and orders that are the same in every process."""

from __future__ import annotations

import hashlib

import numpy as np


def digest(*words: object) -> int:
    """A number of 128 bits that depends on the words alone (`hash` of a string changes between processes)."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def generator(*words: object) -> np.random.Generator:
    """A generator seeded by the words."""
    return np.random.default_rng(digest(*words))
