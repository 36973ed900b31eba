"""The tables of the demo tasks: what they hold, and that nothing in them was trained on."""

import csv
import json

import pytest

from kerasrep.corpora.demo import building
from kerasrep.corpora.demo.opening import demo_folder, open_demo
from kerasrep.corpora.demo.tasks import LABELS, LEAST_GROUPS, write_task_tables
from kerasrep.recipe.corpora import DemoCorpus

SETTINGS = DemoCorpus(tracks=90, track_seconds=5.0)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("KERASREP_HOME", str(tmp_path_factory.mktemp("a home  with\ttab")))
    root = write_task_tables(SETTINGS, progress=False)
    corpus = open_demo(SETTINGS, progress=False)
    manifest = json.loads((demo_folder(SETTINGS) / building.MANIFEST).read_text())
    yield root, corpus, {record["track_id"]: record for record in manifest["tracks"]}
    patch.undo()


def rows(root, name):
    with (root / "demo" / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_only_reserved_tracks_stand_in_the_tables(tables):
    root, corpus, _ = tables
    reserved = {str(track.path) for track in corpus.tracks if track.split == "evaluation"}
    assert {row["path"] for row in rows(root, "items")} == reserved
    assert {row["path"] for row in rows(root, "tempo")} == reserved
    for name in LABELS:
        found = {row["path"] for row in rows(root, name)}
        assert found and found <= reserved


def test_labels_are_those_of_the_manifest_and_every_class_fills_the_folds(tables):
    root, corpus, records = tables
    by_path = {str(track.path): records[track.track_id] for track in corpus.tracks}
    for row in rows(root, "lead"):
        assert row["label"] == by_path[row["path"]]["families"][0]
        assert row["group"] == by_path[row["path"]]["group"]
    for row in rows(root, "tempo"):
        assert float(row["label"]) == pytest.approx(by_path[row["path"]]["bpm"], rel=1e-5)
    for name in LABELS:
        groups = {}
        for row in rows(root, name):
            groups.setdefault(row["label"], set()).add(row["group"])
        assert min(len(found) for found in groups.values()) >= LEAST_GROUPS


def test_plays_are_those_of_the_simulated_listeners(tables):
    root, _, records = tables
    found = {(row["user"], row["item"]): int(row["plays"]) for row in rows(root, "plays")}
    items = {row["item"] for row in rows(root, "items")}
    expected = {(user, item): count for item in items for user, count in records[item]["plays"].items()}
    assert found == expected


def test_a_second_call_writes_nothing(tables):
    root, _, _ = tables
    before = {path: path.stat().st_mtime_ns for path in (root / "demo").iterdir()}
    assert write_task_tables(SETTINGS, progress=False) == root
    assert {path: path.stat().st_mtime_ns for path in (root / "demo").iterdir()} == before
