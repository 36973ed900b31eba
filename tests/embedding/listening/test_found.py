import base64
import io
import re

import numpy as np
import pytest
import soundfile
from catalogues import RATE_HZ, write_catalogue, write_tone

import kerasrep
from kerasrep.errors import RecipeError


@pytest.fixture
def index(tmp_path):
    path = write_catalogue(tmp_path, 12, 3)
    for number in range(11):
        write_tone(tmp_path / f"group{number % 3}/{number:02d} é.wav", 300 + 50 * number, 8)
    return path


def test_a_notebook_gets_a_player_from_the_typical_segment_on(index, tmp_path):
    found = kerasrep.neighbours(index, tmp_path / "group2/08 é.wav", n=11)
    shown = found._repr_html_()
    players = re.findall(r'<audio controls preload="none" src="data:audio/ogg;base64,([^"]+)"', shown)
    assert len(players) == 10 and shown.count("no audio") == 1  # 11 has none
    first = next(one for one in found.neighbours[0] if "11" not in one.path)
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(players[0])))
    assert len(samples) / rate_hz == pytest.approx(3, abs=0.1)  # from 5 s to the end at 8 s
    spectrum = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    hz = np.argmax(spectrum) * rate_hz / len(samples)
    assert hz == pytest.approx(300 + 50 * int(first.path[7:9]), abs=2) and hz < RATE_HZ / 2
    assert first.path in shown and "of pairs" in shown


def test_text_is_that_of_the_command(index, tmp_path):
    found = kerasrep.neighbours(index, [tmp_path / "group2/08 é.wav"], n=2, distinct="folder")
    lines = str(found).splitlines()
    assert repr(found) == str(found)
    assert lines[0].startswith("nearest to ") and len(lines) == 4
    assert {one.path.split("/")[0] for one in found.neighbours[0]} <= {"group0", "group1", "group2"}


def test_names_in_a_notebook_are_escaped(tmp_path):
    paths = np.array([f"<b>{number}</b>.wav" for number in range(12)])
    index = write_catalogue(tmp_path, 12, 3, paths=paths)
    shown = kerasrep.neighbours(index, tmp_path / "<b>3</b>.wav", n=2)._repr_html_()
    assert "<b>" not in shown and "&lt;b&gt;" in shown


def test_a_file_outside_a_table_whose_model_is_gone_is_an_error(index, tmp_path):
    write_tone(tmp_path / "other.wav", 440, 1)
    with pytest.raises(RecipeError, match="a model that is gone"):
        kerasrep.neighbours(index, tmp_path / "other.wav")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 0}, "n=0: give a whole number above 0"),
        ({"n": 2.5}, "n=2.5: give a whole number above 0"),
        ({"span_seconds": (5, 3)}, "give two times in seconds, the earlier one first"),
        ({"model": "nosuch"}, "nosuch"),
        ({"audio": []}, "audio: is empty; name a file"),
    ],
)
def test_what_cannot_be_asked_is_refused_for_files_of_the_table_too(index, tmp_path, asked, said):
    with pytest.raises(RecipeError, match=said):
        kerasrep.neighbours(index, **{"audio": tmp_path / "group2/08 é.wav"} | asked)
