"""Tags inside audio files, of every format, and what becomes of them."""

from __future__ import annotations

from types import SimpleNamespace

import mutagen
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from mutagen.apev2 import APETextValue
from mutagen.asf import ASFDWordAttribute, ASFUnicodeAttribute
from mutagen.id3 import COMM, TALB, TBPM, TCON, TDRC, TKEY, TLAN, TPE1, TPE2, TPUB
from mutagen.mp4 import MP4FreeForm

from kerasrep.sources.readers.tags import FIELDS, read_tags

TEXT = {
    "artist": ["  Nina   SIMONE "],
    "album": ["Pastel Blues"],
    "albumartist": ["Nina Simone"],
    "genre": ["Jazz; Soul / Blues"],
    "date": ["1965-10-01"],
    "composer": ["Trad."],
    "label": ["Philips"],
    "bpm": ["128,5 BPM"],
    "language": ["eng"],
    "key": ["Bm"],
    "comment": ["Live, at home"],
}
EXPECTED = {
    "artist": ["nina simone"],
    "album": ["pastel blues"],
    "albumartist": ["nina simone"],
    "genre": ["jazz", "soul", "blues"],
    "date": ["1965"],
    "composer": ["trad."],
    "label": ["philips"],
    "bpm": ["128.5"],
    "language": ["eng"],
    "key": ["bm"],
    "comment": ["live, at home"],
}


def write(path, tags=None):
    soundfile.write(path, np.zeros((800, 2)), 8000)
    if tags:
        file = mutagen.File(path)
        if file.tags is None:
            file.add_tags()
        for key, value in tags.items():
            file.tags[key] = value
        file.save()
    return path


def of(path):
    return {name: found["x"] for name, found in read_tags([("x", path)]).values.items()}


@pytest.mark.parametrize("name", ["a.flac", "a.ogg"])
def test_vorbis_comments_are_read_and_folded(tmp_path, name):
    assert of(write(tmp_path / name, TEXT)) == EXPECTED


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.aiff"])
def test_id3_is_read_with_numbered_genres_and_several_values(tmp_path, name):
    frames = [
        TPE1(3, ["AC/DC", "Bon Scott"]),
        TALB(3, "Back in Black"),
        TPE2(3, "AC/DC"),
        TCON(3, "(17)(8)"),
        TDRC(3, "1980-07-25"),
        TPUB(3, "Atlantic"),
        TBPM(3, "0"),
        TKEY(3, "Em"),
        TLAN(3, "eng"),
        COMM(3, "eng", "", ["loud"]),
        COMM(3, "eng", "iTunNORM", [" 00000A2B 00000B3C"]),  # of a program for itself
    ]
    found = of(write(tmp_path / name, {frame.HashKey: frame for frame in frames}))
    assert found == {
        "artist": ["ac/dc", "bon scott"],
        "album": ["back in black"],
        "albumartist": ["ac/dc"],
        "genre": ["rock", "jazz"],
        "date": ["1980"],
        "label": ["atlantic"],
        "key": ["em"],
        "language": ["eng"],
        "comment": ["loud"],
    }


OTHERS = {
    "mp4": {
        "©ART": ["Nina Simone"],
        "©day": ["1965"],
        "tmpo": [128],
        "aART": ["Nina"],
        "----:com.apple.iTunes:LABEL": [MP4FreeForm(b"Philips")],
        "----:com.apple.iTunes:initialkey": [MP4FreeForm(b"Bm")],
    },
    "ape": {
        "Artist": APETextValue("Nina Simone", 0),
        "Year": APETextValue("1965", 0),
        "BPM": APETextValue("128", 0),
        "Album Artist": APETextValue("Nina", 0),
        "Label": APETextValue("Philips", 0),
        "Key": APETextValue("Bm", 0),
    },
    "wma": {
        "Author": [ASFUnicodeAttribute("Nina Simone")],
        "WM/Year": [ASFUnicodeAttribute("1965")],
        "WM/BeatsPerMinute": [ASFDWordAttribute(128)],
        "WM/AlbumArtist": [ASFUnicodeAttribute("Nina")],
        "WM/Publisher": [ASFUnicodeAttribute("Philips")],
        "WM/InitialKey": [ASFUnicodeAttribute("Bm")],
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_give_the_same_fields(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(mutagen, "File", lambda path: SimpleNamespace(tags=OTHERS[kind]))
    assert of(tmp_path) == {
        "artist": ["nina simone"],
        "date": ["1965"],
        "bpm": ["128"],
        "albumartist": ["nina"],
        "label": ["philips"],
        "key": ["bm"],
    }


def test_what_says_nothing_is_dropped_and_counted_and_bad_files_never_end_it(tmp_path):
    junk = {
        "artist": ["<Unknown>"],
        "genre": ["Other", "?", "Rock"],
        "date": ["0000"],
        "album": ["Unknown Album"],
        "bpm": ["9" * 160],
    }
    files = [("good", write(tmp_path / "a.flac", junk)), ("none", write(tmp_path / "b.flac"))]
    for name, content in (
        ("text", b"hello"),
        ("empty", b""),
        ("cut", (tmp_path / "a.flac").read_bytes()[:60]),
    ):
        path = tmp_path / f"{name}.flac"
        path.write_bytes(content)
        files.append((name, path))
    files.append(("gone", tmp_path / "gone.mp3"))
    tags = read_tags(files)
    assert tags.values == {"genre": {"good": ["rock"]}}
    assert tags.dropped == {"album": 1, "artist": 1, "bpm": 1, "date": 1, "genre": 2}
    assert tags.unreadable == ["text", "empty", "cut", "gone"] and tags.files == 6
    assert tags.describe() == (
        "tags of 6 files: genre 1 (1 different); 6 values say nothing; "
        "4 files could not be read, such as text"
    )


@given(st.dictionaries(st.sampled_from([n for names in FIELDS.values() for n in names]), st.lists(st.text())))
def test_whatever_tags_say_values_are_folded_and_stand_once(raw):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutagen, "File", lambda path: SimpleNamespace(tags=raw))
        found = of("x")
    for name, values in found.items():
        assert name in FIELDS and values == list(dict.fromkeys(values))
        assert all(v and v.isprintable() and v == " ".join(v.split()) for v in values)
