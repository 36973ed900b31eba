"""Which scores the demo corpus may take: collections, their terms, their composers and dates.

The scores are those that the music21 wheel carries. music21 claims no rights in them and passes on what
each encoder stated; the notes below repeat that. Files with a reserved-rights statement (the kern chorales,
Monteverdi's fifth book from a publisher's edition) belong to no collection. Dates are approximate years of
composition for composers, of publication for tune books.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kerasrep.errors import RecipeError


@dataclass(frozen=True)
class Collection:
    """Scores that share an origin and terms.

    Attributes:
        name: As in a recipe.
        title: For people.
        patterns: Globs under music21's `corpus` folder.
        reader: `abc` takes each tune of a file, `abc-parts` joins a file's tunes as parts of one piece,
            `music21` parses MusicXML or kern.
        share: Relative number of tracks.
        artist: Composer or editor, where a piece names none.
        year: Where a piece gives none.
        region: Of origin.
        form: Kind of pieces, where a piece names none.
        styles: Further words of a library catalogue.
        licence: What the encoders and music21 say.
        notice: Shown to the user when the collection is taken; such collections are not taken by default.
    """

    name: str
    title: str
    patterns: tuple[str, ...]
    reader: str
    share: int
    artist: str
    year: int
    region: str
    form: str
    styles: tuple[str, ...]
    licence: str
    notice: str = ""


_ABC_TERMS = "Tunes out of copyright; volunteers' ABC transcriptions, published without restriction"
_MUSIC21_TERMS = "Work out of copyright; encoding passed on by music21 with the encoder's permission"
_CHAMBER = (
    *("haydn/*/*.mxl", "mozart/k1*/*.mxl", "mozart/k4*/*.mxl", "mozart/k80/*.mxl"),
    *("beethoven/*.mxl", "beethoven/*/*.mxl", "schumann_robert/opus41no1/*.mxl", "weber/*.mxl"),
)
_SONGS = (
    *("schubert/*.xml", "schumann_robert/*.mxl", "schumann_robert/*.xml", "beach/*.musicxml"),
    *("handel/*/*.mxl", "verdi/*.mxl", "liliuokalani/*.mxl", "johnson_j_r/*.mxl"),
)

COLLECTIONS = (
    Collection(
        *("oneill", "O'Neill's Music of Ireland", ("oneills1850/*.abc",), "abc", 140),
        *("Francis O'Neill", 1903, "Ireland", "air", ("traditional", "folk")),
        _ABC_TERMS,
    ),
    Collection(
        *("ryan", "Ryan's Mammoth Collection", ("ryansMammoth/*.abc",), "abc", 85),
        *("William Bradbury Ryan", 1883, "United States", "dance", ("traditional", "fiddle tunes")),
        _ABC_TERMS,
    ),
    Collection(
        *(
            "aird",
            "Aird's Selection of Scotch, English, Irish and Foreign Airs",
            ("airdsAirs/*.abc",),
            "abc",
            75,
        ),
        *("James Aird", 1790, "Scotland", "air", ("traditional", "folk")),
        _ABC_TERMS,
    ),
    Collection(
        *(
            "fife",
            "Colonial and Civil War American Fife Music",
            ("miscFolk/americanfifeopus.abc",),
            "abc",
            20,
        ),
        *("American fifers", 1820, "United States", "march", ("traditional", "military")),
        _ABC_TERMS,
    ),
    Collection(
        *("northumbrian", "Northumbrian Minstrelsy", ("miscFolk/northumbrianminstrelsyopus.abc",), "abc", 30),
        *("Bruce and Stokoe", 1882, "England", "air", ("traditional", "folk")),
        _ABC_TERMS,
    ),
    Collection(
        *("bach-chorales", "Bach, four-part chorales", ("bach/bwv*.mxl",), "music21", 120),
        *("Johann Sebastian Bach", 1727, "Germany", "chorale", ("sacred", "vocal", "baroque")),
        "Work out of copyright; encodings of Margaret Greentree and others, used by permission",
    ),
    Collection(
        *(
            "trecento",
            "Italian and French polyphony of the fourteenth century",
            ("trecento/*.xml", "trecento/*.mxl"),
            "music21",
            60,
        ),
        *("Anonymous (trecento)", 1390, "Italy", "motet", ("vocal", "medieval", "polyphony")),
        "Works out of copyright, encoded after modern editions for music21; no restriction stated",
    ),
    Collection(
        *(
            "monteverdi",
            "Monteverdi, madrigals of the third and fourth book",
            ("monteverdi/madrigal.[34].*.mxl",),
            "music21",
            32,
        ),
        *("Claudio Monteverdi", 1592, "Italy", "madrigal", ("secular", "vocal", "renaissance")),
        _MUSIC21_TERMS,
    ),
    Collection(
        *("josquin", "Josquin des Prez and his time, chansons", ("josquin/*.abc",), "abc-parts", 8),
        *("Josquin des Prez", 1500, "France", "chanson", ("secular", "vocal", "renaissance")),
        "Work out of copyright; ABC by Laura E. Conrad, GNU GPL version 2 or later",
    ),
    Collection(
        *("chamber", "Quartets and other chamber music", _CHAMBER, "music21", 30),
        *("Joseph Haydn", 1793, "Austria", "quartet", ("instrumental", "chamber", "classical")),
        _MUSIC21_TERMS,
    ),
    Collection(
        *("songs", "Songs and arias", _SONGS, "music21", 9),
        *("Franz Schubert", 1827, "Germany", "song", ("secular", "vocal", "romantic")),
        "Works out of copyright; encodings public domain, CC0, CC BY-SA, or without restriction",
    ),
    Collection(
        *("essen", "Essen Folksong Collection", ("essenFolksong/*.abc",), "abc", 150),
        *("Essen Folksong Collection", 1850, "Germany", "song", ("traditional", "folk")),
        "Non-commercial use only (music21's licence note on the Essen folksong database)",
        "essen: these songs are for non-commercial use only, and so may be what you train on them",
    ),
    Collection(
        *("palestrina", "Palestrina, masses", ("palestrina/*.krn",), "music21", 60),
        *("Giovanni Pierluigi da Palestrina", 1570, "Italy", "mass", ("sacred", "vocal", "renaissance")),
        "Copyright 2000 John Miller; rights to all derivative electronic formats reserved",
        "palestrina: copyright 2000 John Miller, rights to all derivative electronic formats reserved; "
        "see the licence named in the kern files before you pass anything on",
    ),
)

BY_NAME = {collection.name: collection for collection in COLLECTIONS}


def choose(names: Sequence[str] | None) -> tuple[Collection, ...]:
    """Collections by name, in catalogue order; `None` takes all that carry no notice.

    Raises:
        RecipeError: A name is unknown, or none is given.
    """
    if names is None:
        return tuple(collection for collection in COLLECTIONS if not collection.notice)
    if not names:
        raise RecipeError("corpus.collections is empty: name at least one, or leave the key out")
    for name in names:
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise RecipeError(
                f"corpus.collections: unknown collection '{name}'{hint} (allowed: {', '.join(BY_NAME)})"
            )
    return tuple(collection for collection in COLLECTIONS if collection.name in set(names))


@dataclass(frozen=True)
class Attribution:
    """Who wrote or collected a piece, when and where, and what kind of piece it is."""

    artist: str
    year: int
    region: str
    form: str


# Source path pattern -> artist, year, region, form; "" and 0 keep what the collection says.
_PIECES: tuple[tuple[str, str, int, str, str], ...] = (
    (r"airdsAirs/book[12]", "James Aird (volumes 1-2)", 1782, "", ""),
    (r"airdsAirs/book3", "James Aird (volume 3)", 1788, "", ""),
    (r"airdsAirs/book[45]", "James Aird (volumes 4-5)", 1796, "", ""),
    (r"airdsAirs/book6", "James Aird (volume 6)", 1801, "", ""),
    (r"bach/bwv22[5-9]|bach/bwv230", "", 1728, "", ""),
    (r"bach/bwv24[45]", "", 1726, "", ""),
    (r"bach/bwv248", "", 1734, "", ""),
    (r"bach/bwv(25[3-9]|2[6-9]\d|3\d\d|4[0-3]\d)", "", 1730, "", ""),
    (r"bach/bwv", "", 1724, "", ""),
    (r"trecento/PMFC_01", "Philippe de Vitry", 1325, "France", ""),
    (r"trecento/PMFC_04", "Francesco Landini", 1380, "", "ballata"),
    (r"trecento/PMFC_06.*(Jacopo|I senti|In Verde)", "Jacopo da Bologna", 1345, "", "madrigal"),
    (r"trecento/PMFC_06.*Giovanni", "Giovanni da Firenze", 1350, "", "madrigal"),
    (r"trecento/PMFC_06.*Piero", "Maestro Piero", 1345, "", "madrigal"),
    (r"trecento/PMFC_12.*Gherardello", "Gherardello da Firenze", 1355, "", "mass"),
    (r"trecento/PMFC_12.*Lorenzo", "Lorenzo da Firenze", 1360, "", "mass"),
    (r"trecento/PMFC_12.*Gratiosus", "Gratiosus de Padua", 1395, "", "mass"),
    (r"trecento/PMFC_12", "", 1375, "", "mass"),
    (r"trecento/PMFC_13", "", 1400, "", "mass"),
    (r"trecento/PMFC_23", "Anonymous (Apt and Ivrea)", 1370, "France", "mass"),
    (r"trecento/PMFC_24.*(Gloria|Credo)", "Johannes Ciconia", 1405, "", "mass"),
    (r"trecento/PMFC_24", "Johannes Ciconia", 1405, "", ""),
    (r"monteverdi/madrigal\.4", "", 1603, "", ""),
    (r"haydn/opus1no", "", 1760, "", ""),
    (r"mozart/k4", "Wolfgang Amadeus Mozart", 1784, "", ""),
    (r"mozart/", "Wolfgang Amadeus Mozart", 1772, "", ""),
    (r"beethoven/opus18", "Ludwig van Beethoven", 1800, "", ""),
    (r"beethoven/opus(59|74)", "Ludwig van Beethoven", 1807, "", ""),
    (r"beethoven/", "Ludwig van Beethoven", 1825, "", ""),
    (r"schumann_robert/opus41", "Robert Schumann", 1842, "Germany", ""),
    (r"schumann_robert/", "Robert Schumann", 1840, "Germany", ""),
    (r"weber/", "Carl Maria von Weber", 1811, "Germany", "concerto"),
    (r"beach/", "Amy Beach", 1914, "United States", ""),
    (r"handel/", "George Frideric Handel", 1711, "England", "aria"),
    (r"verdi/", "Giuseppe Verdi", 1851, "Italy", "aria"),
    (r"liliuokalani/", "Queen Liliuokalani", 1878, "Hawaii", ""),
    (r"johnson_j_r/", "J. Rosamond Johnson", 1900, "United States", "hymn"),
)

_COLLECTOR = re.compile(r"collected\s+by\s+\W*((?:mrs|miss|[a-z])(?:\.\s*|\s+))?([a-z']{3,})", re.IGNORECASE)


def attribute(collection: Collection, source: str, notes: str = "") -> Attribution:
    """Artist, year, region and form of a piece.

    Args:
        collection: Where it belongs.
        source: Its path under music21's corpus folder.
        notes: Header lines of an ABC tune; `collected by` there names the artist, as O'Neill's does.
    """
    found = next((row for row in _PIECES if re.match(row[0], source)), ("", "", 0, "", ""))
    artist = found[1] or collection.artist
    year = found[2] or collection.year
    if collection.name == "oneill":
        if "carolan" in notes.lower():
            artist, year = "Turlough O'Carolan", 1710
        elif match := _COLLECTOR.search(notes):
            initial = (match[1] or "").strip(" .").title()
            surname = "O'Neill" if match[2].lower() == "o'neill" else match[2].capitalize()
            artist = " ".join(word for word in (initial, surname) if word) + " (collector)"
    return Attribution(artist, year, found[3] or collection.region, found[4] or collection.form)
