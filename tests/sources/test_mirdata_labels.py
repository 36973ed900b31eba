"""Data sets that mirdata's loaders read, in small folders of the published layout, as sources and tasks."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from kerasrep.corpora.folder import open_folder
from kerasrep.errors import DataError, RecipeError
from kerasrep.evaluation.chosen_tasks import tasks_of_tables
from kerasrep.evaluation.registry import open_task
from kerasrep.recipe.corpora import FolderCorpus
from kerasrep.recipe.tasks import TaskList

pytest.importorskip("mirdata", reason="mirdata is not installed (extra mirdata)")

GENRES = ("blues", "hiphop", "jazz", "rock")
N_EACH = 5


def write_index(monkeypatch, folder, name, tracks):
    """Put an index where mirdata looks for the one that it downloads."""
    module = importlib.import_module(f"mirdata.datasets.{name}")
    index = module.INDEXES[module.INDEXES["default"]]
    monkeypatch.setattr(index, "indexes_dir", str(folder))
    (folder / index.filename).write_text(json.dumps({"version": "1.0", "tracks": tracks}))


@pytest.fixture
def gtzan(tmp_path, monkeypatch):
    """`gtzan_genre/genres/GENRE/GENRE.NNNNN.wav`; the last track of each genre is not there."""
    tracks = {}
    for genre in GENRES:
        for number in range(N_EACH):
            track = f"{genre}.{number:05d}"
            audio = f"gtzan_genre/genres/{genre}/{track}.wav"
            (tmp_path / audio).parent.mkdir(parents=True, exist_ok=True)
            if number < N_EACH - 1:
                (tmp_path / audio).touch()
            tracks[track] = {"audio": [audio, ""], "beats": [None, None], "tempo": [None, None]}
    write_index(monkeypatch, tmp_path, "gtzan_genre", tracks)
    return tmp_path


@pytest.fixture
def beatles(tmp_path, monkeypatch):
    """Eight songs with sections, of which the second one has other times, and no keys."""
    tracks = {}
    for number in range(8):
        files = {"audio": f"audio/{number}.wav", "sections": f"annotations/seglab/{number}.lab"}
        for path in files.values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / files["audio"]).touch()
        middle = 4 + number % 2
        lines = f"0.000\t{middle}.000\t0\tverse\n{middle}.000\t9.500\t0\trefrain\n"
        (tmp_path / files["sections"]).write_text(lines)
        none = {part: [None, None] for part in ("beat", "chords", "keys")}
        tracks[f"0{number}"] = none | {part: [path, ""] for part, path in files.items()}
    write_index(monkeypatch, tmp_path, "beatles", tracks)
    return tmp_path


def corpus_of(root, **table):
    settings = {"name": "folder", "root": str(root), "tables": {"own": {"from": "mirdata", **table}}}
    return open_folder(FolderCorpus.model_validate(settings | {"validation_fraction": 0.2}))


def test_words_of_whole_tracks_are_classes(gtzan):
    corpus = corpus_of(gtzan, dataset="gtzan_genre", item="genre", min_tracks=1)
    labels = corpus.labels["own"]
    assert labels.terms == ("blues", "hip-hop", "jazz", "rock")  # as mirdata writes them
    assert len(labels.track_ids) == len(GENRES) * (N_EACH - 1)
    assert any("4 name no track" in notice for notice in corpus.notices)


def test_words_with_intervals_are_about_parts_of_tracks(beatles):
    labels = corpus_of(beatles, dataset="beatles", item="sections", min_tracks=1).labels["own"]
    assert labels.terms == ("refrain", "verse") and len(labels.track_ids) == 8
    targets, known = labels.stretches.targets(np.array([0, 1]), np.array([3.5, 3.5]), np.array([5.5, 5.5]))
    assert known.all()
    np.testing.assert_allclose(targets, [[0.75, 0.25], [0.25, 0.75]])


def test_the_fingerprint_changes_with_the_annotations(beatles):
    settings = {"dataset": "beatles", "item": "sections", "min_tracks": 1}
    before = corpus_of(beatles, **settings).fingerprint
    assert corpus_of(beatles, **settings).fingerprint == before
    (beatles / "annotations/seglab/3.lab").write_text("0.000\t9.000\t0\tverse\n")
    assert corpus_of(beatles, **settings).fingerprint != before


def test_loggers_stay_as_they_were(tmp_path):
    program = (
        "import contextlib, logging, pathlib, sys\n"
        "from kerasrep.errors import DataError\n"
        "from kerasrep.sources.readers.mirdata_labels import annotation_files\n"
        "with contextlib.suppress(DataError):\n"
        "    annotation_files('gtzan_genre', pathlib.Path(), 'key')\n"
        "log = logging.getLogger()\n"
        "print('mirdata.download_utils' in sys.modules, log.handlers, logging.getLevelName(log.level))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "True [] WARNING\n"


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"dataset": "gtzan", "item": "genre"}, RecipeError, "mirdata knows no 'gtzan'"),
        ({"dataset": "gtzan_genre", "item": "mood"}, DataError, "have no 'mood'; they have .*genre"),
        ({"dataset": "gtzan_genre", "item": "beats"}, DataError, "no track of gtzan_genre has 'beats'"),
        ({"dataset": "beatles", "item": "key"}, DataError, "index is not there, and nothing is downloaded"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(gtzan, table, error, message):
    with pytest.raises(error, match=message) as raised:
        corpus_of(gtzan, **table)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item": "genre"}, r"own\.dataset: is missing; name it, such as gtzan_genre"),
        ({"dataset": "beatles"}, r"own\.item: is missing"),
        (
            {"dataset": "beatles", "item": "key", "start": "a"},
            r"own\.start: goes with a table, not with mirdata",
        ),
        ({"dataset": "beatles", "item": "key", "target": "vector"}, r"own\.target: 'vector' cannot be made"),
    ],
)
def test_settings_that_contradict_each_other_are_rejected(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        corpus_of(tmp_path, **table)


def task_of(root, **settings):
    values = {"name": "own", "kind": "classification", "from": "mirdata", "audio": str(root), **settings}
    return tasks_of_tables(TaskList.model_validate({"tasks": [values]}).tasks)["own"]


def test_a_task_has_an_item_a_track(gtzan):
    data = open_task(task_of(gtzan, dataset="gtzan_genre", item="genre"), gtzan)
    assert len(data.item_ids) == len(GENRES) * N_EACH
    assert sorted(set(data.labels.tolist())) == ["blues", "hip-hop", "jazz", "rock"]
    assert data.paths[0] == gtzan / "gtzan_genre/genres/blues/blues.00000.wav"
    assert any("album and artist effects" in notice for notice in data.notices)


def test_what_is_said_of_parts_of_tracks_is_no_task(beatles):
    with pytest.raises(
        DataError, match=r"'sections' says several things of it.*; correct|whole track: correct"
    ):
        open_task(task_of(beatles, dataset="beatles", item="sections"), beatles)


def test_a_task_takes_mirdata_or_a_table(tmp_path):
    with pytest.raises(ValueError, match=r"tasks\.dataset: is missing; from: mirdata needs it"):
        task_of(tmp_path, item="genre")
    with pytest.raises(ValueError, match=r"tasks\.table: is missing"):
        TaskList.model_validate({"tasks": [{"name": "own", "kind": "regression"}]})
