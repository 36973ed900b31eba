import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.embedding.catalogue.layout import MAX_HOP_SECONDS, MIN_HOP_SECONDS, make_layout
from kerasrep.embedding.catalogue.writing import path_text
from kerasrep.errors import RecipeError

BRANCHES = ("year", "tag")


def layout(rate_hz=22_050, **settings):
    return make_layout(BRANCHES, rate_hz, 55_125, **settings)


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 11_025, 22_050, 44_100])
@pytest.mark.parametrize("hop_seconds", [MIN_HOP_SECONDS, MAX_HOP_SECONDS])
def test_a_hop_at_a_bound_is_what_a_table_names_it_and_back(rate_hz, hop_seconds):
    made = layout(rate_hz, hop_seconds=hop_seconds)
    assert layout(rate_hz, hop_seconds=made.hop_seconds) == made
    assert made.hop_seconds == pytest.approx(hop_seconds, abs=0.500001 / rate_hz)


@given(st.integers(1_000, 768_000), st.floats(MIN_HOP_SECONDS, MAX_HOP_SECONDS))
def test_any_hop_is_what_a_table_names_it_and_back(rate_hz, hop_seconds):
    made = layout(rate_hz, hop_seconds=hop_seconds)
    assert layout(rate_hz, hop_seconds=made.hop_seconds) == made


@pytest.mark.parametrize(
    "hop_seconds", [0, -0.5, 0.0099, MAX_HOP_SECONDS + 0.001, np.nan, np.inf, -np.inf, 1e308]
)
def test_a_hop_beyond_a_bound_is_refused(hop_seconds):
    with pytest.raises(RecipeError, match=r"give seconds from 0\.01 to 3600"):
        layout(hop_seconds=hop_seconds)


@given(st.lists(st.sampled_from([b"\\", b"x", b"ff", b"\xff", b"f", b"a", b"/", "é".encode()]), max_size=7))
def test_no_two_names_have_the_same_text(parts):
    r"""Undone by hand: an odd run of backslashes before xff is a byte, an even one is text."""
    name = b"".join(parts)
    text = path_text(Path(os.fsdecode(b"/" + name)))

    def undo(found):
        slashes = len(found[1])
        return slashes // 2 * b"\\" + (bytes([int(found[2], 16)]) if slashes % 2 else b"x" + found[2])

    back = re.sub(rb"(\\+)x([89a-f][0-9a-f])", undo, text.encode())
    assert back == os.fsencode(Path(os.fsdecode(b"/" + name)))


def test_ordinary_names_stay_as_they_are():
    assert path_text(Path("a\\b/C:\\x.wav")) == "a\\b/C:\\x.wav"
    assert path_text(Path(os.fsdecode(b"\xff.wav"))) == r"\xff.wav" != path_text(Path(r"\xff.wav"))
