import pytest

from kerasrep.corpora.demo import pieces
from kerasrep.corpora.demo.catalogue import BY_NAME, COLLECTIONS, attribute, choose
from kerasrep.corpora.demo.dances import dance_type
from kerasrep.corpora.demo.staff_notation import text_of_musicxml
from kerasrep.errors import RecipeError

RESERVED = ("rights reserved", "all derivative electronic formats reserved", "orpheus", "non-commercial")


def test_unknown_collection_is_refused_in_one_line_with_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean 'oneill'") as caught:
        choose(["oneil"])
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="empty"):
        choose([])


def test_collections_with_terms_must_be_asked_for_by_name():
    assert {"essen", "palestrina"}.isdisjoint(one.name for one in choose(None))
    assert [one.name for one in choose(["palestrina", "essen"])] == ["essen", "palestrina"]
    assert all(one.notice and "\n" not in one.notice for one in choose(["palestrina", "essen"]))


def test_no_default_source_states_reserved_or_non_commercial_rights():
    folder = pieces.score_folder()
    found = pieces.find_pieces([one for one in choose(None) if one.name != "bach-chorales"], folder)
    sources = sorted({piece.source for piece in found})
    assert len(sources) > 1000
    for source in sources:
        path = folder / source
        text = pieces.read_text(path) if path.suffix == ".abc" else text_of_musicxml(path)
        assert not [phrase for phrase in RESERVED if phrase in text.lower()], source


@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda one: one.name)
def test_every_collection_has_pieces_with_unique_file_safe_ids(collection):
    found = pieces.find_pieces([collection], pieces.score_folder())
    ids = [piece.piece_id for piece in found]
    assert ids and len(set(ids)) == len(ids)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in ids)


@pytest.mark.parametrize(
    ("source", "notes", "artist", "year"),
    [
        ("oneills1850/a.abc", '"Slow" "collected by Cronin"', "Cronin (collector)", 1903),
        ("oneills1850/a.abc", "Collected by J.O'Neill", "J O'Neill (collector)", 1903),
        ("oneills1850/a.abc", "O'Carolan", "Turlough O'Carolan", 1710),
        ("airdsAirs/book6.abc", "", "James Aird (volume 6)", 1801),
    ],
)
def test_artists_and_years(source, notes, artist, year):
    name = "oneill" if source.startswith("oneill") else "aird"
    found = attribute(BY_NAME[name], source, notes)
    assert (found.artist, found.year) == (artist, year)


def test_dance_type_prefers_the_rhythm_field_then_the_printed_number_then_the_title():
    assert dance_type("double jig", "The Reel") == "jig"
    assert dance_type("", "Miss Monroe's Jig", "oneill", 1200) == "reel"
    assert dance_type("", "42d Highland Regiment -- Strathspey", "ryan", 1) == "strathspey"
    assert dance_type("slip jig", "") == "slip jig"
    assert dance_type("", "The Enchanted Valley") == ""
