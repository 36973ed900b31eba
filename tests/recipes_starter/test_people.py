from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import SHORTEST_IN_FREE_TEXT, LeaveOut, folded_words, read_names

STARTER = Path(__file__).parents[2] / "recipes" / "starter"
LISTED = read_names(STARTER / "leave_out.txt")
OUT = LeaveOut(LISTED)


@pytest.mark.parametrize(
    "text",
    [
        "Olivier Berube",
        "OLIVIER BÉRUBÉ <o@example.org>",
        "music/Matthew_Pablo-Heroic.ogg",
        "Alexander Zhelanov and Stian Grenborgen",
        "Pablo, Matthew",
        "Iwan Gabovitch",
        "by qubodup",
        "Crystan",
        "C. M. Rogers",
        "usr/share/games/x/music/remaxim.ogg",
        "HG",
    ],
)
def test_listed_people_are_found_however_they_are_spelt(text):
    assert OUT.found_in(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Stephane Magnenat",
        "studio",
        "Obsidian Shell",
        "Martin Strohmeier (K-Pone)",
        "usr/share/yd2/a.ogg",
        "",
        "-",
    ],
)
def test_others_are_not(text):
    assert OUT.found_in(text) is None


def test_short_names_are_not_looked_for_in_free_text():
    assert OUT.found_in("yd stud hg", SHORTEST_IN_FREE_TEXT) is None
    assert OUT.found_in("greetings to Matthew Pablo", SHORTEST_IN_FREE_TEXT) == "Matthew Pablo"


@given(st.sampled_from(LISTED), st.text(alphabet=" .,-_/()", max_size=3), st.booleans())
def test_every_listed_name_is_found_between_punctuation_and_in_capitals(name, around, upper):
    text = f"{around}{name.upper() if upper else name}{around}"
    assert OUT.found_in(text) is not None


@given(st.text(max_size=60))
def test_folding_is_idempotent_and_any_text_can_be_searched(text):
    assert folded_words(" ".join(folded_words(text))) == folded_words(text)
    OUT.found_in(text)
