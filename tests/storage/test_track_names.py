"""Files under the names that people and programs give them."""

import unicodedata
from pathlib import Path

import pytest

from kerasrep.storage.track_names import Keys, files_below

TRACKS = [
    "Bjork/Jóga.flac",
    "a/one.wav",
    "a/two.wav",
    "b/two.wav",
    "c/odd\\name.wav",
    "deep/er/Three.MP3",
    "x.wav",
]


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return Keys(TRACKS, tmp_path / "music")


@pytest.mark.parametrize(
    ("written", "track", "overlooked"),
    [
        ("a/one.wav", "a/one.wav", ""),
        ("./a/one.wav", "a/one.wav", ""),
        ("b/../a//one.wav", "a/one.wav", ""),
        ("a\\one.wav", "a/one.wav", ""),
        ("c/odd\\name.wav", "c/odd\\name.wav", ""),
        ("a/one", "a/one.wav", ""),
        ("one.wav", "a/one.wav", ""),
        ("one", "a/one.wav", ""),
        ("b/two", "b/two.wav", ""),
        (unicodedata.normalize("NFD", "Bjork/Jóga.flac"), "Bjork/Jóga.flac", ""),
        ("ROOT/music/a/one.wav", "a/one.wav", ""),
        ("~/music/x.wav", "x.wav", ""),
        ("music/x.wav", "x.wav", ""),
        ("deep/er/three.mp3", "deep/er/Three.MP3", "case"),
        ("THREE", "deep/er/Three.MP3", "case"),
        ("C:\\Users\\me\\music\\a\\one.wav", "a/one.wav", "leading folders"),
        ("/elsewhere/x.wav", "x.wav", "leading folders"),
        ("set/a/one.wav", "a/one.wav", "leading folders"),
        ("other/one.wav", None, ""),
        ("ROOT/music/other/x.wav", None, ""),
        ("/elsewhere/one.wav", None, ""),
        ("~nobody-at-all/x", None, ""),
        ("01", None, ""),
    ],
)
def test_a_name_means_one_file(keys, tmp_path, written, track, overlooked):
    row, found = keys.find(written.replace("ROOT", str(tmp_path)))
    assert (None if row is None else TRACKS[row], found) == (track, overlooked)


@pytest.mark.parametrize("written", ["two", "two.wav", "TWO.wav"])
def test_a_name_of_several_files_means_none(keys, written):
    assert keys.row(written) is None and keys.is_ambiguous(written)


def test_a_folder_in_nfd_is_found_by_a_table_in_nfc():
    keys = Keys([unicodedata.normalize("NFD", "Jóga.flac")], Path("music"))
    assert keys.row("Jóga.flac") == keys.row("jóga") == 0


def test_files_below_a_folder_leave_out_hidden_ones_and_other_endings(tmp_path):
    for name in ("b/x.WAV", "a.wav", ".a.wav", ".git/b.wav", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_below(tmp_path, {".wav"}) == ["a.wav", "b/x.WAV"]
