import numpy as np
from matplotlib import colormaps
from matplotlib.image import imread

from kerasrep.data.batches import SplitExamples
from kerasrep.data.schedule import Examples
from kerasrep.sources.stretches import Stretches
from kerasrep.training.projector import THUMBNAIL_PIXELS, label_columns, write_projector

ROWS = np.array([3, 5, 8])


def simplex(kind, rows, target):
    return Examples(np.array(rows), np.array(target, np.float32), kind=kind)


def of_whole_tracks(kind, size, first, values):
    stretches = Stretches(kind, size, np.array(first), np.array(values))
    return Examples(ROWS, np.zeros((0, size), np.float32), kind=kind, stretches=stretches)


def columns_of(report=None, **by_source):
    return label_columns(SplitExamples(ROWS, by_source), ROWS, report or {})


def test_topics_and_mixtures_are_named_by_their_strongest_dimension_and_tracks_without_a_label_are_unknown():
    terms = [["waltz", "slow", "viol"], ["reel", "fast"]]
    report = {
        "tag": {"topics": [{"terms": [{"term": term} for term in topic]} for topic in terms]},
        "bpm": {"components": [{"mean": 66.998}, {"mean": 120.04}]},
    }
    found = columns_of(
        report,
        self=simplex("topics", ROWS, np.zeros((3, 2))),
        tag=simplex("topics", [3, 8], [[0.9, 0.1], [0.2, 0.8]]),
        bpm=simplex("mixture", ROWS, [[0.4, 0.6], [1, 0], [0, 1]]),
    )
    assert found == {"tag": ["0: waltz, slow", "-", "1: reel, fast"], "bpm": ["120", "67", "120"]}


def test_classes_labels_and_numbers_say_what_the_table_said():
    report = {
        "mood": {"terms": ["calm", "wild"]},
        "instrument": {"terms": ["flute", "harp", "voice"]},
        "loudness": {"mean": -20.0, "deviation": 4.0},
    }
    found = columns_of(
        report,
        mood=of_whole_tracks("classes", 2, [0, 1, 2, 2], np.array([1, 0], np.int32)),
        instrument=of_whole_tracks("labels", 3, [0, 2, 3, 3], np.array([0, 2, 1], np.int32)),
        loudness=of_whole_tracks("number", 1, [0, 1, 2, 3], np.array([[0.5], [-1], [0]], np.float32)),
        teacher=of_whole_tracks("vector", 2, [0, 1, 2, 3], np.zeros((3, 2), np.float32)),
    )
    assert found == {
        "mood": ["wild", "calm", "-"],
        "instrument": ["flute, voice", "harp", "-"],
        "loudness": ["-18", "-24", "-20"],
    }


def test_without_a_report_dimensions_have_their_numbers():
    assert columns_of(tag=simplex("topics", ROWS, np.eye(3))) == {"tag": ["0", "1", "2"]}


def test_thumbnails_stand_row_by_row_in_a_square_with_high_bands_on_top(tmp_path):
    mels = np.full((5, 216, 128), -80, np.float32)
    mels[4, :, 64:] = 0  # the fifth track is loud in the upper half of its bands
    names = {"track_id": ["a\tb", *"cdef"], "tag": ["", *"1234"]}
    write_projector(tmp_path, np.ones((5, 7), np.float32), names, mels)
    assert (tmp_path / "metadata.tsv").read_text().splitlines()[:2] == ["track_id\ttag", "a b\t-"]
    assert len((tmp_path / "embeddings.tsv").read_text().splitlines()) == 5
    width, height = THUMBNAIL_PIXELS
    sheet = imread(tmp_path / "thumbnails.png")[..., :3]
    assert sheet.shape == (3 * height, 3 * width, 3)
    quiet, loud = (colormaps["magma"](end)[:3] for end in (0.0, 1.0))
    fifth = sheet[height : 2 * height, width : 2 * width]
    np.testing.assert_allclose(fifth[: height // 2 - 3].mean((0, 1)), loud, atol=0.02)
    np.testing.assert_allclose(fifth[height // 2 + 3 :].mean((0, 1)), quiet, atol=0.02)
    np.testing.assert_allclose(sheet[:height].mean((0, 1)), quiet, atol=0.02)
