import pytest
from copyright_file import forbids_change_or_commerce, parse_terms, terms_of

TEXT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2010 Somebody
License: GPL-2+

Files: data/music/*
       data/menu.ogg
Copyright: 2011 A. Composer
Comment: thanks
License: CC-BY-SA-3.0

Files: music/A?Tune.ogg
Copyright: Another
License: CC-BY-NC-3.0
 text of it

License: GPL-2+
 text
"""


@pytest.mark.parametrize(
    ("path", "licence", "person"),
    [
        ("usr/share/games/x/music/one.ogg", "CC-BY-SA-3.0", "A. Composer"),
        ("usr/share/games/x/data/menu.ogg", "CC-BY-SA-3.0", "A. Composer"),
        ("usr/share/games/x/music/A Tune.ogg", "CC-BY-NC-3.0", "Another"),
        ("usr/share/games/x/images/a.png", "GPL-2+", "Somebody"),
    ],
)
def test_the_last_paragraph_that_matches_counts(path, licence, person):
    terms = terms_of(path, parse_terms(TEXT))
    assert terms is not None
    assert terms.licence == licence
    assert person in terms.people


def test_prose_has_no_terms():
    assert parse_terms("This package was debianized by somebody.\n\nIt is GPL.\n") == []


@pytest.mark.parametrize("licence", ["CC-BY-NC-3.0", "CC BY-ND 2.0", "for non-commercial use", "NoDerivs"])
def test_what_forbids(licence):
    assert forbids_change_or_commerce(licence)


@pytest.mark.parametrize(
    "licence", ["CC-BY-SA-4.0", "GPL-2+", "Free-Art-License-1.2", "public-domain", "Candy"]
)
def test_what_does_not(licence):
    assert not forbids_change_or_commerce(licence)
