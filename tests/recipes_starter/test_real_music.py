import itertools
from pathlib import Path

import numpy as np
import pytest
from copyright_file import Terms
from files import CollectError
from find_music import Credit, Credits, Found
from hypothesis import given
from hypothesis import strategies as st
from packages import Package, read_lock, within
from people import LeaveOut
from real_music import LeftOut, Piece, judge, stretch_bounds, with_paths
from same_recording import SAME_FROM, audio_hash, best_correlation, fingerprint, first_of_each
from tables import parts_of_pieces

STARTER = Path(__file__).parents[2] / "recipes" / "starter"
PACKAGE = Package("game-data", "1.0-1", "bookworm", "0" * 64, 1, "music")
CREDITS = Credits(
    [
        Credit("game-data", "music/wind.ogg", "no", "", "GPL-2+", "no music"),
        Credit("game-data", "music/*.ogg", "yes", "A. Composer; B", "CC-BY-SA-3.0", "copyright file"),
        Credit("game-data", "tagged/*.ogg", "yes", "", "GPL-2+", "copyright file"),
    ]
)
OUT = LeaveOut(["Matthew Pablo", "HG"])


def found(name, **more):
    return Found(Path("/nowhere") / name, name, **more)


def verdict(item, terms=()):
    return judge(item, PACKAGE, CREDITS, list(terms), OUT)


def test_a_piece_takes_author_and_licence_from_its_row():
    piece = verdict(found("music/one.ogg", title="One"))
    assert isinstance(piece, Piece)
    assert (piece.title, piece.composer, piece.licence) == ("One", "A. Composer", "CC-BY-SA-3.0")


def test_tags_name_the_composer_where_the_row_does_not():
    piece = verdict(found("tagged/two.ogg", people=("(c) 2008 by Jane Doe <j@example.org>",)))
    assert isinstance(piece, Piece)
    assert piece.composer == "Jane Doe"


@pytest.mark.parametrize(
    ("item", "terms", "why"),
    [
        (found("music/wind.ogg"), (), "no music"),
        (found("other/one.ogg"), (), "no row in credits.tsv"),
        (found("music/one.ogg", people=("Pablo, Matthew",)), (), "Matthew Pablo"),
        (found("music/Matthew Pablo - One.ogg"), (), "Matthew Pablo"),
        (found("music/one.ogg", free_text="sample by matthew pablo"), (), "Matthew Pablo"),
        (found("music/one.ogg", terms="http://creativecommons.org/licenses/by-nc/3.0/"), (), "forbids"),
        (found("music/one.ogg"), (Terms(("music/*",), "x", "CC-BY-ND-3.0"),), "forbids"),
        (found("tagged/one.ogg"), (Terms(("tagged/*",), "Matthew Pablo", "GPL-2+"),), "Matthew Pablo"),
    ],
)
def test_what_stays_out_says_why(item, terms, why):
    left_out = verdict(item, terms)
    assert isinstance(left_out, LeftOut)
    assert why in left_out.why


def test_every_locked_package_of_music_has_rows_and_every_row_a_package():
    locked = {p.name for p in read_lock(STARTER / "packages.lock.tsv") if p.use == "music"}
    rows = Credits.read(STARTER / "credits.tsv")._rows
    assert {row.use for row in rows} == {"yes", "no"}
    assert {row.package for row in rows} <= locked
    assert all(row.licence for row in rows)


@given(st.floats(1, 600))
def test_stretches_cover_a_piece_and_none_is_longer_than_150_s(seconds):
    bounds = stretch_bounds(seconds)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == pytest.approx(seconds)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert all(end - start <= 150 + 1e-9 for start, end in bounds)


def test_paths_are_distinct_and_plain():
    names = [
        "a/Überlied (1).ogg",
        "b/Uberlied 1.ogg",
        "x/y.zip.members/music/0.ogg",
        "x/z.zip.members/music/0.ogg",
    ]
    pieces = [Piece("p", "s", f"/f/{n}", n, "t", "a", "c", "l", seconds=301.0) for n in names]
    paths = [path for piece in with_paths(pieces) for path in piece.stretches]
    assert len(paths) == len(set(paths)) == 12
    assert paths[0] == "audio/p/uberlied-1.1.opus"
    assert all(path.isascii() and " " not in path for path in paths)


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(0, 500))
def test_packages_are_taken_smallest_first_within_the_limit(sizes, most):
    packages = [Package(f"p{i}", "1", "s", "0", size, "music") for i, size in enumerate(sizes)]
    chosen = within(packages, most)
    assert sum(package.size_bytes for package in chosen) <= most
    if sum(sizes) <= most:
        assert len(chosen) == len(packages)


def melody(seed, seconds=40):
    draw = np.random.default_rng(seed)
    time = np.arange(48_000) / 48_000 / 4
    notes = [np.sin(2 * np.pi * draw.uniform(100, 2000) * time[:12_000]) for _ in range(seconds * 4)]
    mono = np.concatenate(notes) * 8_000
    return np.stack([mono, mono], axis=1).astype(np.int16)


def test_a_quieter_later_copy_is_the_same_recording_and_another_is_not():
    first, other = melody(1), melody(2)
    copy = (np.concatenate([np.zeros((60_000, 2)), first]) * 0.2).astype(np.int16)
    assert best_correlation(fingerprint(first), fingerprint(copy)) > SAME_FROM
    assert best_correlation(fingerprint(first), fingerprint(other)) < 0.5
    tracks = [first, other, copy, first]
    same = first_of_each([audio_hash(t) for t in tracks], [fingerprint(t) for t in tracks])
    assert [index for index, _ in same] == [0, 1, 0, 0]


def test_parts_given_once_stay_when_packages_come(tmp_path):
    (tmp_path / "parts.tsv").write_text("package\tpart\nold\tC\ngone\tA\n")
    pieces = [
        Piece("old", "s", "f", "n", "t", "a", "Ann", "l", seconds=10.0),
        Piece("another", "s", "f", "n", "t", "a", "ANN", "l", seconds=5000.0),
        Piece("third", "s", "f", "n", "t", "a", "", "l", seconds=100.0),
    ]
    parts = parts_of_pieces(pieces, tmp_path / "parts.tsv")
    assert parts["old"] == parts["another"] == ("package another", "C")
    assert parts["third"][1] == "A"


def test_a_composer_of_packages_in_two_parts_is_an_error(tmp_path):
    (tmp_path / "parts.tsv").write_text("package\tpart\nold\tC\nlater\tA\n")
    pieces = [Piece(name, "s", "f", "n", "t", "a", "Ann", "l", seconds=10.0) for name in ("old", "later")]
    with pytest.raises(CollectError, match="later is in part A"):
        parts_of_pieces(pieces, tmp_path / "parts.tsv")
