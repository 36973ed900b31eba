"""JAMS files beside the audio: as labels, classes and numbers over time, and what is refused."""

import json

import numpy as np
import pytest

from kerasrep.corpora.folder import open_folder
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus

TRACKS = [f"t{number}.wav" for number in range(10)]


def observation(time, duration, value):
    return {"time": time, "duration": duration, "value": value, "confidence": 1.0}


def annotations(number):
    """Two sections, two annotators of tags, a tempo, and chords as columns."""
    sections = [observation(0, 4, "verse"), observation(4.0, 2.5, "chorus")]
    tags = [[observation(0, 6.5, "loud")], [observation(0, 6.5, "loud"), observation(0, 6.5, "fast")]]
    columns = {"time": [0, 1.5], "duration": [1.5, 5], "value": ["C:maj", "G:maj"], "confidence": [1, 1]}
    return {
        "file_metadata": {"duration": 6.5},
        "annotations": [
            {"namespace": "segment_open", "data": sections},
            *({"namespace": "tag_open", "data": data} for data in tags),
            {"namespace": "tempo", "data": [observation(0, 6.5, 100 + number)]},
            {"namespace": "chord", "data": columns},
        ],
    }


@pytest.fixture
def root(tmp_path):
    for number, track in enumerate(TRACKS):
        (tmp_path / track).touch()
        if number:  # the first has none
            (tmp_path / track).with_suffix(".jams").write_text(json.dumps(annotations(number)))
    return tmp_path


def corpus_of(root, **table):
    settings = {"name": "folder", "root": str(root), "tables": {"own": {"from": "jams", **table}}}
    return open_folder(FolderCorpus.model_validate(settings))


def found_at(root, begin, end, **table):
    labels = corpus_of(root, **table).labels["own"]
    assert list(labels.track_ids) == TRACKS[1:]
    target, known = labels.stretches.targets(np.array([2]), np.array([begin]), np.array([end]))
    return labels.terms, target[0], known[0]


def test_sections_are_classes_by_their_share_of_a_crop(root):
    terms, target, known = found_at(root, 3.0, 5.0, item="segment_open", target="classes")
    assert terms == ("chorus", "verse") and known
    np.testing.assert_allclose(target, [0.5, 0.5])


def test_all_annotators_of_labels_count_and_the_first_one_of_others(root):
    terms, target, _ = found_at(root, 0.0, 2.5, item="tag_open")
    assert terms == ("fast", "loud") and target.tolist() == [1, 1]
    _, target, _ = found_at(root, 0.0, 2.5, item="tempo", target="number")
    assert target[0] == 103


def test_observations_in_columns_are_read(root):
    terms, target, _ = found_at(root, 0.5, 1.0, item="chord")
    assert dict(zip(terms, target.tolist(), strict=True)) == {"C:maj": 1.0, "G:maj": 0.0}


def test_beats_are_labels_and_those_without_a_place_in_the_bar_are_counted_as_unknown(root):
    beats = [observation(0.5, 0, 1), observation(1.0, 0, None), observation(1.5, 0, 2)]
    for path in root.glob("*.jams"):
        path.write_text(json.dumps({"annotations": [{"namespace": "beat", "data": beats}]}))
    corpus = corpus_of(root, item="beat")
    labels = corpus.labels["own"]
    assert any("of 27 rows 9 " in notice for notice in corpus.notices)
    crops = np.array([0.0, 0.9]), np.array([0.6, 1.2])
    target, known = labels.stretches.targets(np.array([0, 0]), *crops)
    assert (labels.terms, target[0].tolist(), known.tolist()) == (("1", "2"), [1, 0], [True, False])


@pytest.mark.parametrize(("source", "kind"), [("bpm", "number"), ("year", "number"), ("own", "labels")])
def test_tempi_and_years_are_numbers_by_default(root, source, kind):
    settings = {"name": "folder", "root": str(root), "tables": {source: {"from": "jams", "item": "tempo"}}}
    assert open_folder(FolderCorpus.model_validate(settings)).labels[source].stretches.kind == kind


def test_a_changed_file_changes_the_corpus(root):
    before = corpus_of(root, item="tag_open").fingerprint
    path = root / "t3.jams"
    path.write_text(path.read_text().replace("loud", "calm"))
    assert corpus_of(root, item="tag_open").fingerprint != before


@pytest.mark.parametrize(
    ("content", "table", "message"),
    [
        ("{", {"item": "tag_open"}, "t3.jams: is not valid JSON"),
        ("[]", {"item": "tag_open"}, "t3.jams: is not a JAMS file"),
        (
            json.dumps({"annotations": [{"namespace": "x", "data": [{"value": "a"}]}]}),
            {"item": "x"},
            "t3.jams: an observation of 'x' has no time and duration",
        ),
        (
            None,
            {"item": "chord", "target": "number"},
            "t1.jams: 'chord' has the value 'C:maj', which is not a number",
        ),
        (
            None,
            {"item": "beat"},
            "no .jams file has observations of 'beat', they have segment_open, tag_open, ",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line_that_names_the_file(root, content, table, message):
    if content is not None:
        (root / "t3.jams").write_text(content)
    with pytest.raises(DataError, match=message):
        corpus_of(root, **table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "own.item: is missing; name a namespace"),
        ({"item": "chord", "target": "vector"}, "own.target: 'vector' cannot be made of observations"),
        ({"item": "chord", "start": "t"}, "own.start: goes with a table, not with jams"),
    ],
)
def test_impossible_settings_are_refused(root, table, message):
    with pytest.raises(ValueError, match=message):
        corpus_of(root, **table)
