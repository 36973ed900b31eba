import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.corpora.demo import abc_notation, pieces, staff_notation, words
from kerasrep.corpora.demo.score import Metre, Part, UnreadableScoreError, estimate_key

JIG = """X:7
T:Test Jig
R:jig
M:6/8
L:1/8
K:D
w:not sung
A|"D"d2f "1"afd|cde A3|d2f afd|gec d2:|
"""


def tune(text):
    return abc_notation.split_tunes(text)[0]


def test_notes_of_an_abc_tune_are_those_written():
    score, _ = abc_notation.read_tune(tune(JIG))
    (part,) = score.parts  # quoted chords and fingerings are not played
    np.testing.assert_array_equal(part.pitches[:7], [69, 74, 78, 81, 78, 74, 73])
    np.testing.assert_allclose(part.starts[:7], [0, 0.5, 1.5, 2.0, 2.5, 3.0, 3.5], atol=1e-9)
    assert len(part.pitches) == 2 * 19  # the repeat is played
    assert (score.metre, score.tonic, score.mode) == (Metre(6, 8), 2, "major")
    assert score.pickup_quarters == pytest.approx(0.5)


def test_warnings_of_the_reader_are_caught_and_counted(capfd):
    overfull = JIG.replace("d2f afd", "d2f afd ddd ddd", 1)
    _, warnings = abc_notation.read_tune(tune(overfull))
    assert warnings >= 1
    assert capfd.readouterr().out == ""


def test_output_works_again_after_it_was_caught(capfd):
    with abc_notation.counted_output() as lines:
        os.write(1, b"one\ntwo\n")
    os.write(1, b"heard\n")
    assert lines == [2]
    assert capfd.readouterr().out == "heard\n"


@pytest.mark.parametrize("text", ["X:1\nT:Empty\nK:C\n", "X:1\nT:Few\nM:4/4\nL:1/4\nK:C\nCDEF|\n"])
def test_tunes_without_enough_notes_are_refused_with_a_reason(text):
    with pytest.raises(UnreadableScoreError, match="fewer than"):
        abc_notation.read_tune(tune(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gm", (7, "minor")),
        ("D", (2, "major")),
        ("Ador", (9, "dorian")),
        ("E Minor", (4, "minor")),
        ("G mix", (7, "mixolydian")),
        ("Bb", (10, "major")),
        ("F#m", (6, "minor")),
        ("HP", (9, "mixolydian")),
        ("none", None),
    ],
)
def test_abc_keys(text, expected):
    assert abc_notation.parse_key(text) == expected


@pytest.mark.parametrize(
    ("metre", "bar", "beat"),
    [
        ((6, 8), 3, 1.5),
        ((2, 2), 4, 2),
        ((3, 4), 3, 1),
        ((9, 8), 4.5, 1.5),
        ((3, 8), 1.5, 1.5),
        ((2, 4), 2, 1),
    ],
)
def test_felt_beats(metre, bar, beat):
    assert (Metre(*metre).bar_quarters, Metre(*metre).beat_quarters) == (bar, beat)


@given(st.text(max_size=400))
def test_any_text_splits_into_tunes_that_begin_with_x(text):
    for found in abc_notation.split_tunes(text):
        assert found.text.startswith("X:")
        assert abc_notation.parse_key(found.first("K")) is None or found.first("K")


def test_sung_syllables_become_words():
    line = "Mil-  le re-  _ _ _ gretz de vous, fa- ce~a-  mour- eus- e;"
    assert words.text_of_abc_lyrics(line) == "Mille regretz de vous, face amoureuse;"
    syllables = [("Ach", "single"), ("Her-", "begin"), ("re", "end"), ("Gott,", None)]
    assert words.count_words(words.join_syllables(syllables)) == {"ach": 1, "herre": 1, "gott": 1}
    assert words.merge_parts([{"ach": 2}, {"ach": 3, "gott": 1}]) == {"ach": 3, "gott": 1}


def test_a_chorale_has_four_parts_words_and_its_key():
    score = staff_notation.read_staff_file(pieces.score_folder() / "bach" / "bwv66.6.mxl")
    assert len(score.parts) == 4
    assert (score.tonic, score.mode) == (6, "minor")  # F sharp minor, pickup of one crotchet
    assert score.pickup_quarters == 1.0
    np.testing.assert_array_equal(score.parts[0].pitches[:4], [73, 71, 69, 71])


def test_ties_become_one_note(tmp_path):
    note = "<note><pitch><step>C</step><octave>5</octave></pitch><duration>4</duration>{tie}</note>"
    bars = [note.format(tie='<tie type="start"/>'), note.format(tie='<tie type="stop"/>')]
    bars += [note.format(tie="")] * 12
    measures = "".join(f'<measure number="{place + 1}">{bar}</measure>' for place, bar in enumerate(bars))
    time = "<time><beats>4</beats><beat-type>4</beat-type></time>"
    attributes = f"<attributes><divisions>1</divisions>{time}</attributes>"
    measures = measures.replace('"1">', '"1">' + attributes, 1)
    path = tmp_path / "tied.xml"
    path.write_text(
        '<?xml version="1.0"?><score-partwise><part-list><score-part id="P1"><part-name>A</part-name>'
        f'</score-part></part-list><part id="P1">{measures}</part></score-partwise>'
    )
    (part,) = staff_notation.read_staff_file(path).parts
    assert len(part.pitches) == 13
    assert part.durations[0] == 8.0


def test_a_file_that_is_no_score_is_refused_with_a_reason(tmp_path):
    for name, content in (("a.xml", b"<x"), ("b.mxl", b"PK"), ("c.krn", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnreadableScoreError):
            staff_notation.read_staff_file(path)


@pytest.mark.parametrize("tonic", range(12))
def test_key_estimate_finds_scales(tonic):
    steps = [0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0]
    part = Part.from_rows([(float(place), 1.0, 48 + tonic + step) for place, step in enumerate(steps)])
    assert estimate_key([part]) == (tonic, "major")
