import json
import random
import struct
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from archives import _PAK_ENTRY, unpack_archives
from benchmark import write_benchmark
from files import CollectError, need_modules, need_programs, read_table, write_table, written_whole
from hypothesis import given
from hypothesis import strategies as st
from real_music import Piece
from rendered import Made, note_groups, write_made_tables
from rendering import all_voices, draw_note, voice
from scores import TONICS, Groove, song_text
from soundfont import SoundFont
from synthesis import as_int16, in_a_room, play_hit


def test_nothing_half_written_stays(tmp_path):
    with pytest.raises(RuntimeError), written_whole(tmp_path / "a.opus") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_tables_read_back_one_row_a_line(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    write_table(path, ("path", "item"), [("x" + a, b) for a, b in rows])
    assert write_table(path, ("path", "item"), [("x" + a, b) for a, b in rows]) is False
    assert [row["item"] for row in read_table(path)] == [" ".join(b.split()) for _, b in rows]


def test_a_row_with_another_number_of_cells_is_named(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n3\n")
    with pytest.raises(CollectError, match="row 3"):
        read_table(tmp_path / "t.tsv")


def test_missing_programs_are_named_with_their_packages():
    with pytest.raises(CollectError, match="no-such-program"):
        need_programs("no-such-program")
    with pytest.raises(CollectError, match="pip install --no-deps no_such_module"):
        need_modules("json", "no_such_module")


def test_archives_are_unpacked_beside_themselves(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.parkobj", "w") as archive:
        archive.writestr("music/0.ogg", b"one")
        archive.writestr("../../evil.ogg", b"two")
        archive.writestr("image.png", b"no music")
    body = zlib.compress(b"OggS three")
    entry = _PAK_ENTRY.pack(b"music/A b.ogg", 10, len(body), 0)
    (tmp_path / "b.pak").write_bytes(body + entry + struct.pack("<ii", len(body), 1))
    wad = struct.pack("<4sii", b"IWAD", 1, 16) + b"MThd" + struct.pack("<ii8s", 12, 4, b"D_E1M1")
    (tmp_path / "c.wad").write_bytes(wad)
    assert unpack_archives(tmp_path) == 4
    assert (tmp_path / "a.parkobj.members/music/0.ogg").read_bytes() == b"one"
    assert (tmp_path / "a.parkobj.members/evil.ogg").is_file()
    assert (tmp_path / "b.pak.members/music/A b.ogg").read_bytes() == b"OggS three"
    assert (tmp_path / "c.wad.members/d_e1m1.mid").read_bytes() == b"MThd"


@given(st.integers(60, 190), st.integers(0, 11), st.booleans(), st.integers())
def test_songs_start_on_the_tonic_and_are_the_same_for_a_seed(tempo, tonic, minor, seed):
    groove = Groove("stdlib", "Rock1", "rock")
    lines = song_text(groove, tempo, tonic, minor, random.Random(seed)).splitlines()
    assert lines == song_text(groove, tempo, tonic, minor, random.Random(seed)).splitlines()
    assert lines[1:3] == [f"Tempo {tempo}", "Groove stdlib:Rock1"]
    assert lines[3] == f"1 {TONICS[tonic]}{'m' if minor else ''}"
    assert len(lines) == 43


def test_notes_go_through_all_programs_and_drum_keys(monkeypatch):
    monkeypatch.setattr("rendering.drum_kits", lambda font: [0])
    notes = [draw_note(number, ["a.sf2", "b.sf2"]) for number in range(188 * 4)]
    assert {program for _, program, _, _, _, drum in notes if not drum} == set(range(128))
    assert {key for _, _, key, _, _, drum in notes if drum} == set(range(35, 82))
    assert notes[:100] == [draw_note(number, ["a.sf2", "b.sf2"]) for number in range(100)]


def test_a_room_keeps_length_and_silence_is_refused():
    audio = np.random.default_rng(0).standard_normal((48_000, 2)).astype(np.float32)
    assert in_a_room(audio, random.Random(1)).shape == audio.shape
    assert np.abs(as_int16(audio, 0.5)).max() == pytest.approx(0.5 * 32_767, abs=1)
    with pytest.raises(RuntimeError, match="silent"):
        as_int16(np.zeros((10, 2), np.float32), 0.5)


def test_the_demo_bank_has_samples_for_its_notes():
    pretty_midi = pytest.importorskip("pretty_midi")
    bank = SoundFont(Path(pretty_midi.__file__).parent / "TimGM6mb.sf2")
    assert (0, 0) in bank.presets
    assert (128, 0) in bank.presets
    piano, same = bank.samples_of(0, 0, 60, 90), bank.samples_of(0, 0, 60, 90)
    assert piano
    assert piano == same != bank.samples_of(0, 56, 60, 90)
    assert bank.samples_of(5, 5, 60, 90) == []


def test_parts_share_the_voices_of_every_class_and_no_sample():
    pretty_midi = pytest.importorskip("pretty_midi")
    font = str(Path(pretty_midi.__file__).parent / "TimGM6mb.sf2")
    group_of, part_of = note_groups([font])
    groups, parts = defaultdict(set), defaultdict(set)
    for name, item, samples in all_voices(font):
        for sample in samples:
            groups[item, part_of[group_of[name]]].add(group_of[name])
            parts[sample].add(part_of[group_of[name]])
    assert all(len(own) == 1 for own in parts.values())
    for item in {item for item, _ in groups}:
        counts = [len(groups[item, part]) for part in "ABC"]
        assert max(counts) - min(counts) <= 2, item
    assert {drawn_voice(n, font) for n in range(400)} <= set(group_of)


def drawn_voice(number, font):
    _, program, key, _, _, drum = draw_note(number, [font])
    return voice(font, program, key, drum=drum)


def test_a_hit_sounds_and_leaves_nothing_for_the_next():
    pytest.importorskip("tinysoundfont")
    pretty_midi = pytest.importorskip("pretty_midi")
    font = str(Path(pretty_midi.__file__).parent / "TimGM6mb.sf2")
    alone = {key: play_hit(font, 0, key, 90, 48_000) for key in (36, 38, 42, 46, 49)}
    for key, audio in alone.items():
        assert audio.shape == (48_000, 2)
        loud = np.flatnonzero(np.abs(audio).max(axis=1) > 0.01 * np.abs(audio).max())
        assert loud[-1] - loud[0] > 0.03 * 48_000
        assert np.abs(play_hit(font, 0, key, 90, 48_000) - audio).max() < 1e-3


def made_note(number, item, group, drum, part):
    path = f"audio/notes/{number}.opus"
    return {
        "path": path,
        "item": item,
        "group": group,
        "part": part,
        "drum": drum,
        "program": None if drum else 1,
        "seconds": 2.5,
    }


def test_tables_of_the_benchmark_keep_classes_with_five_groups(tmp_path):
    pieces = [
        Piece("big", "s", "f", f"{n}", "t", "a", "Ann", "l", (f"audio/big/{n}.opus",), 60.0) for n in range(5)
    ] + [
        Piece(
            "small", "s", "f", "n", "t", "a", "", "l", ("audio/small/1.1.opus", "audio/small/1.2.opus"), 200.0
        )
    ]
    notes = Made([made_note(n, "piano", f"group {n}", False, "ABC"[n % 3]) for n in range(40)])
    spans = [["bass", 0.0, 1.5]]
    rendering = {
        "path": "audio/mma/1.opus",
        "group": "g",
        "tempo": 100.0,
        "key": "C major",
        "groove": "rock",
        "part": "A",
    }
    renderings = Made([{**rendering, "sounding": spans}])
    write_benchmark(tmp_path, pieces, {"big": ("big", "A"), "small": ("small", "A")}, renderings, notes)
    write_made_tables(tmp_path, renderings, notes)
    rows = read_table(tmp_path / "benchmark" / "soundtrack_a.tsv")
    assert {row["label"] for row in rows} == {"big"}
    assert {row["label"] for row in read_table(tmp_path / "benchmark" / "composer_a.tsv")} == {"Ann"}
    parts = [read_table(tmp_path / "benchmark" / f"note_family_{part}.tsv") for part in "abc"]
    assert sum(len(part) for part in parts) == 40
    assert read_table(tmp_path / "instrument.tsv")[0]["end_seconds"] == "1.5"
    assert (
        json.dumps(read_table(tmp_path / "key.tsv")[0]) == '{"path": "audio/mma/1.opus", "item": "C major"}'
    )
