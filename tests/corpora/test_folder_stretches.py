"""Classes, labels, numbers and vectors of a folder: from tables and from tags, and what is refused."""

from __future__ import annotations

import json

import mutagen
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from kerasrep.corpora.folder import open_folder
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.schema import TargetSettings
from kerasrep.sources.targets import build_targets

TRACKS = [f"t{number}.wav" for number in range(12)]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    for name in TRACKS:
        (folder / name).touch()
    return folder


def corpus_of(root, text=None, groups=None, **table):
    if text is not None:
        (root / "table.csv").write_text(text)
        table["path"] = "table.csv"
    return open_folder(
        FolderCorpus.model_validate(
            {"name": "folder", "root": str(root), "tables": {"own": table}, "groups": groups}
        )
    )


def targets_of(corpus):
    """Targets of all labelled tracks, fitted on those in training."""
    training = [track.track_id for track in corpus.tracks if track.split == "train"]
    made = build_targets(corpus.labels, training, TargetSettings(), seed=0)
    return made.sources["own"], made.report["own"]


def rows(columns, values):
    return "\n".join([columns, *(",".join(map(str, row)) for row in values)]) + "\n"


def test_classes_of_few_tracks_are_left_out_and_counted(root):
    names = ["b"] * 5 + ["a"] * 5 + ["c"]
    corpus = corpus_of(
        root, rows("track,item", zip(TRACKS, names, strict=False)), target="classes", min_tracks=3
    )
    labels = corpus.labels["own"]
    assert labels.terms == ("a", "b") and list(labels.track_ids) == sorted(TRACKS[:10])
    assert corpus.notices[-1].endswith("table.csv: own: left out 1 classes of fewer than 3 training tracks")
    targets, report = targets_of(corpus)
    order = [TRACKS.index(track) for track in targets.track_ids]
    found, known = targets.stretches.targets(np.arange(10))
    np.testing.assert_array_equal(found[:, 0], [float(number >= 5) for number in order])
    assert known.all() and report["terms"] == ["a", "b"] and report["size"] == 2


def test_labels_are_several_and_numbers_standardised_by_the_training_tracks(root):
    text = rows("track,item", [("t0", "x"), ("t0", "y"), ("t1", "y"), *((t, "x") for t in TRACKS[2:])])
    targets, _ = targets_of(corpus_of(root, text, target="labels"))
    found, _ = targets.stretches.targets(np.array([targets.track_ids.tolist().index(t) for t in TRACKS[:3]]))
    np.testing.assert_array_equal(found, [[1, 1], [0, 1], [1, 0]])

    corpus = corpus_of(root, rows("track,mood", enumerate_tracks()), target="number", value="mood")
    targets, report = targets_of(corpus)
    training = [TRACKS.index(t.track_id) ** 2 for t in corpus.tracks if t.split == "train"]
    assert report["mean"] == pytest.approx(np.mean(training))
    assert report["deviation"] == pytest.approx(np.std(training))
    found, _ = targets.stretches.targets(np.arange(12))
    squares = np.array([TRACKS.index(track) ** 2 for track in targets.track_ids])
    np.testing.assert_allclose(found[:, 0], (squares - np.mean(training)) / np.std(training), rtol=1e-5)


def enumerate_tracks():
    return [(track, number**2) for number, track in enumerate(TRACKS)]


def test_timed_rows_are_put_in_order(root):
    times = [(3, 4, "b"), (0, 1, "a"), (1, 3, "b")]
    text = rows("track,start,end,item", [(t, *row) for row in times for t in TRACKS])
    targets, _ = targets_of(corpus_of(root, text, target="classes", start="start", end="end"))
    stretches = targets.stretches
    assert stretches.times.start[:3].tolist() == [0, 1, 3] and stretches.values[:3].tolist() == [0, 1, 1]
    found, _ = stretches.targets(np.array([5]), np.array([0.5]), np.array([3.0]))
    np.testing.assert_allclose(found, [[0.2, 0.8]])


def test_a_track_whose_labels_are_all_too_rare_has_none_of_the_others_where_gaps_are_negative(root):
    times = [(track, 0, 1, "a") for track in TRACKS[:9]] + [(TRACKS[9], 0, 1, "rare")]
    table = {"target": "labels", "start": "start", "end": "end", "min_tracks": 3}
    for gaps, known in (("negative", True), ("unknown", False)):
        corpus = corpus_of(root, rows("track,start,end,item", times), gaps=gaps, **table)
        labels = corpus.labels["own"]
        assert (TRACKS[9] in labels.track_ids) == known and labels.terms == ("a",)
        assert TRACKS[10] not in labels.track_ids  # nothing says that it was looked at
    targets, _ = targets_of(corpus_of(root, gaps="negative", path="table.csv", **table))
    place = targets.track_ids.tolist().index(TRACKS[9])
    found, known = targets.stretches.targets(np.array([place, 0]), np.zeros(2), np.ones(2))
    assert found.tolist() == [[0.0], [1.0]] and known.all()


def write_vectors(root, vectors, tracks=TRACKS, metadata=True, **columns):
    about = {"kerasrep": json.dumps({"segment_seconds": 2.5})} if metadata else None
    kinds = [
        ("path", pa.string()),
        *((name, pa.float64()) for name in columns),
        ("embedding", pa.list_(pa.float32())),
    ]
    table = {"path": [str(root / track) for track in tracks], **columns, "embedding": vectors}
    pq.write_table(pa.table(table, pa.schema(kinds, about)), root / "v.parquet")


def test_vectors_are_read_as_kerasrep_embed_writes_them(root):
    tracks = [track for track in TRACKS for _ in range(2)]
    vectors = [[number, 1.0] for _ in TRACKS for number in (0.0, 2.0)]
    write_vectors(root, vectors, tracks, start_seconds=[0.0, 1.0] * 12)
    targets, report = targets_of(corpus_of(root, path="v.parquet", target="vector"))
    found, known = targets.stretches.targets(np.array([0, 3]), np.array([0.5, 9]), np.array([3.0, 10]))
    np.testing.assert_allclose(found, [[1, 1], [0, 0]])
    assert known.tolist() == [True, False] and report["size"] == 2

    write_vectors(root, [[0.0, 0.0], *([[1.0, 2.0]] * 11)])
    corpus = corpus_of(root, path="v.parquet", target="vector")
    assert len(corpus.labels["own"].track_ids) == 11
    assert corpus.notices[-1].endswith("of 12 rows 1 are zeros, which is unknown")


def test_vectors_of_ambiguous_names_are_counted_as_such(root):
    (root / "t0.flac").touch()
    path = root / "v.parquet"
    pq.write_table(pa.table({"path": ["t0", "t1", "x"], "embedding": [[1.0], [2.0], [3.0]]}), path)
    corpus = corpus_of(root, path="v.parquet", target="vector")
    assert list(corpus.labels["own"].track_ids) == ["t1.wav"]
    assert f"{path}: of 3 rows 1 name no track, 1 name several tracks (" in corpus.notices[-1]


def test_numbers_that_differ_by_less_than_float32_tells_are_standardised_exactly(root):
    values = 1e9 + np.arange(12) / 1000
    text = rows("track,value", zip(TRACKS, values.tolist(), strict=True))
    corpus = corpus_of(root, text, target="number")
    targets, _ = targets_of(corpus)
    found, _ = targets.stretches.targets(np.arange(12))
    of_all = np.array([values[TRACKS.index(track)] for track in targets.track_ids]) - 1e9
    training = {track.track_id for track in corpus.tracks if track.split == "train"}
    fitted = of_all[[track in training for track in targets.track_ids]]
    np.testing.assert_allclose(found[:, 0], (of_all - fitted.mean()) / fitted.std(), atol=1e-3)


def test_vectors_are_standardised_by_the_training_tracks_where_the_error_is_squared(root):
    vectors = np.random.default_rng(0).normal([3, -1, 5], [2, 0.1, 0], (12, 3)).astype(np.float32)
    write_vectors(root, vectors.tolist())
    corpus = corpus_of(root, path="v.parquet", target="vector", loss="squared")
    targets, _ = targets_of(corpus)
    training = {track.track_id for track in corpus.tracks if track.split == "train"}
    chosen = [number for number, track in enumerate(targets.track_ids) if track in training]
    of_all = vectors[[TRACKS.index(track) for track in targets.track_ids]].astype(np.float64)
    scale = of_all[chosen].std(0)
    expected = (of_all - of_all[chosen].mean(0)) / np.where(scale > 0, scale, 1)
    found, _ = targets.stretches.targets(np.arange(12))
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 2], 0, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "odd", "message"),
    [
        ("sigmoid", [0.2, 1.4], "row 12: values are no probabilities; for corpus.tables.own.loss"),
        ("divergence", [0.2, 0.2], "row 12: values are no probabilities that sum to 1"),
    ],
)
def test_vectors_that_are_no_probabilities_are_refused_where_they_have_to_be(root, loss, odd, message):
    write_vectors(root, [[0.5, 0.5]] * 11 + [odd])
    with pytest.raises(DataError, match=message):
        corpus_of(root, path="v.parquet", target="vector", loss=loss)
    write_vectors(root, [[0.5, 0.5]] * 12)
    assert corpus_of(root, path="v.parquet", target="vector", loss=loss).labels["own"].stretches.size == 2


TIMED = {"start": "start", "end": "end"}
REFUSED = [
    (
        rows("track,item,start,end", [("t0", "a", 2, 1)]),
        {"target": "classes", **TIMED},
        "table.csv, line 2: ends at 1 s and starts at 2 s; correct the columns 'start' and 'end'",
    ),
    (
        rows("track,item,start,end", [("t0", "a", -2, 1)]),
        {"target": "labels", **TIMED},
        "line 2: column 'start' has '-2', a number of at least 0 was expected",
    ),
    (
        rows("track,item,start,end", [("t0", "a", 3, 5), ("t1", "b", 0, 9), ("t0", "b", 1, 4)]),
        {"target": "classes", **TIMED},
        "line 2: 't0.wav' from 3 to 5 s overlaps line 4, from 1 to 4 s; a moment has one: for several, use",
    ),
    (
        rows("track,value", [("t0", "happy")]),
        {"target": "number"},
        "line 2: column 'value' has 'happy', a number was expected; where it holds words, set "
        "corpus.tables.own.target to classes or labels",
    ),
    (
        rows("track,value", [("t0", "1e300")]),
        {"target": "number"},
        "line 2: column 'value' has '1e300', beyond +-1e+150; rescale it",
    ),
    (
        rows("track,value", [(track, 5) for track in TRACKS]),
        {"target": "number"},
        "all training tracks have the same number, 5; there is nothing to learn: remove corpus.tables.own",
    ),
    (
        rows("track,item", [("t0", "a"), ("t1", "a"), ("t0", "b")]),
        {"target": "classes"},
        "line 4: 't0.wav' is 'b', and 'a' in line 2; a track has one class: for several, use target: labels",
    ),
    (
        rows("track,item", [(track, "a") for track in TRACKS]),
        {"target": "classes"},
        "1 of 1 classes have 4 training tracks or more, 2 are needed; lower corpus.tables.own.min_tracks",
    ),
    (rows("track,item", [("x", "a")]), {"target": "labels"}, "no row names a track of the folder"),
    (rows("track,item", [("t0", "")]), {"target": "labels"}, "all values are unknown"),
    (rows("track,item", [("t0", "a")]), {"target": "vector"}, "vectors are read from Parquet or NPZ"),
]


@pytest.mark.parametrize(("text", "table", "message"), REFUSED)
def test_what_cannot_be_learnt_is_refused_in_one_line_with_file_and_row(root, text, table, message):
    with pytest.raises(DataError) as caught:
        corpus_of(root, text, **table)
    assert str(caught.value).startswith(str(root / "table.csv")) and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("vectors", "changes", "message"),
    [
        ([[1.0, 2.0], [1.0]], {}, "row 2: column 'embedding' has 1 values, the first row 2"),
        ([[1.0, 2.0], [1.0, float("nan")]], {}, "row 2: column 'embedding' is not finite"),
        ([[0.0], [0.0]], {}, "no row says anything of a track: all values are unknown"),
        ([[], []], {}, "column 'embedding' has no values in its vectors"),
        ([[1.0], [2.0]], {"tracks": ["other/t0.wav", "other/t1.wav"]}, "no row names a track of the folder"),
        (
            [[1.0], [2.0]],
            {"start_seconds": [0.0, 1.0], "metadata": False},
            "name the column as corpus.tables.own.end",
        ),
        ([[1.0], [2.0]], {"tracks": ["t0.wav"] * 2, "start_seconds": [1.0, 1.0]}, "is not after row 1"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(root, vectors, changes, message):
    write_vectors(root, vectors, **{"tracks": TRACKS[:2], **changes})
    with pytest.raises(DataError) as caught:
        corpus_of(root, path="v.parquet", target="vector")
    assert str(caught.value).startswith(str(root / "v.parquet")) and message in str(caught.value)


def tag(root, **values):
    for number, name in enumerate(TRACKS):
        path = (root / name).with_suffix(".flac")
        (root / name).unlink()
        soundfile.write(path, np.full(800, 0.01 * number), 8000)
        file = mutagen.File(path)
        for field, value in values.items():
            file[field] = value(number)
        file.save()


def test_tags_of_the_files_are_labels_and_groups(root):
    tag(root, artist=lambda n: f"Band {n // 4}", genre=lambda n: ["Rock", "Pop"] if n % 2 else "rock")
    corpus = corpus_of(root, item="artist", min_tracks=2, **{"from": "tags"})
    labels = corpus.labels["own"]
    assert labels.stretches.kind == "classes" and set(labels.terms) <= {"band 0", "band 1", "band 2"}
    assert "artist 12 (3 different), genre 12 (2 different)" in corpus.notices[0]
    several = corpus_of(root, item="genre", **{"from": "tags"}).labels["own"]
    assert several.stretches.kind == "labels" and several.terms == ("pop", "rock")
    grouped = corpus_of(
        root, item="genre", groups={"from": "tags", "by": ["albumartist", "artist"]}, **{"from": "tags"}
    )
    by_group = {}
    for track in grouped.tracks:
        by_group.setdefault(track.label, set()).add(track.split)
    assert set(by_group) == {f"artist band {n}" for n in range(3)}
    assert all(len(splits) == 1 for splits in by_group.values())


def test_tags_that_no_file_has_are_refused_before_anything_is_decoded(root):
    with pytest.raises(
        DataError, match=r"no file has the tag 'artist'; use.*\(tags of 12 files: none; 12 files could"
    ):
        corpus_of(root, item="artist", **{"from": "tags"})
    with pytest.raises(DataError, match=r"no file has the tag 'album'.*or remove corpus\.groups"):
        corpus_of(
            root, rows("track,item", [("t0", "a")]), groups={"from": "tags", "by": "album"}, target="labels"
        )
