"""The registry: what is in it, how tasks are found, opened and counted, and tables of the user's own."""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path

import miniatures
import numpy as np
import pytest

from kerasrep import constants
from kerasrep.errors import DataError, RecipeError
from kerasrep.evaluation import datasets, registry
from kerasrep.evaluation.base import METRICS, LabelledData, PlayData

MODULES = {
    path.stem: importlib.import_module(f"kerasrep.evaluation.datasets.{path.stem}")
    for path in sorted(Path(datasets.__file__).parent.glob("*.py"))
    if path.stem != "__init__"
}
HOME_OF = {task.name: module for module in MODULES.values() for task in module.TASKS}


def test_the_names_are_those_that_recipes_know():
    assert tuple(registry.TASKS) == constants.DOWNSTREAM_TASKS
    assert all(task.name == name for name, task in registry.TASKS.items())


def test_every_module_of_data_sets_is_registered():
    assert set(HOME_OF) == set(registry.TASKS)


@pytest.mark.parametrize("name", registry.TASKS)
def test_every_task_says_what_it_is(name):
    task, module = registry.TASKS[name], HOME_OF[name]
    assert task.metric == METRICS[task.kind][0]
    assert task.split and task.citation and task.licence
    sections = ("Layout:", "Split:", "Citation:", "Licence:", "Described at:")
    positions = [module.__doc__.find(f"\n\n{section} ") for section in sections]
    assert -1 not in positions and positions == sorted(positions)
    words = " ".join(module.__doc__.split())
    assert f"Described at: {task.described_at}" in words
    first_author = re.split(r"[,:]", task.citation)[0]
    assert first_author in words
    if not name.startswith("demo_"):
        assert re.fullmatch(r"https?://\S+\.\S+", task.described_at)
        assert re.search(r"\b(19|20)\d\d\b", task.citation)
        assert task.n_items


@pytest.mark.parametrize("folder", sorted({task.folder for task in registry.TASKS.values()}))
def test_every_data_set_has_a_miniature(folder):
    assert folder in miniatures.MINIATURES


def test_published_numbers_are_those_of_the_paper_and_the_data_sets():
    stated = {name: (task.n_items, task.n_classes, task.n_users) for name, task in registry.TASKS.items()}
    assert stated == {
        "fma": (25_000, 16, None),
        "gtzan": (1_000, 10, None),
        "ext_ballroom": (3_390, 13, None),
        "irmas": (6_705, 11, None),
        "emotion_arousal": (744, None, None),
        "emotion_valence": (744, None, None),
        "jam": (23_547, None, 11_787),
        "lastfm1k": (27_093, None, 985),
        **dict.fromkeys(registry.GROUPS["demo"], (None, None, None)),
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["gtzan", "fma", "gtzan"], ["fma", "gtzan"]),
        (["all"], list(constants.DOWNSTREAM_TASKS)),
        (["paper"], list(constants.DOWNSTREAM_TASKS[:8])),
        (["demo", "jam"], ["jam", *constants.DOWNSTREAM_TASKS[8:]]),
        (iter(["demo_tempo"]), ["demo_tempo"]),
    ],
)
def test_names_and_groups_are_found_once_in_the_order_of_the_registry(names, found):
    assert [task.name for task in registry.find_tasks(names)] == found


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gtzn", "did you mean 'gtzan'?"),
        ("Demo-Dance", "did you mean 'demo_dance'?"),
        ("xyz", "known; allowed:"),
    ],
)
def test_an_unknown_task_is_a_mistake_of_the_command_line(name, hint):
    with pytest.raises(RecipeError) as caught:
        registry.find_tasks(["fma", name])
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert hint in text and repr(name) in text and "\n" not in text
    assert all(allowed in text for allowed in ("demo", "paper", "all", *constants.DOWNSTREAM_TASKS))


def test_no_task_at_all_is_a_mistake():
    with pytest.raises(RecipeError, match="no task is named"):
        registry.find_tasks([])


@pytest.mark.parametrize("name", registry.TASKS)
def test_a_missing_folder_is_said_with_where_to_read_about_it(tmp_path, name):
    task = registry.TASKS[name]
    with pytest.raises(DataError) as caught:
        registry.open_task(task, tmp_path / "nowhere")
    text = str(caught.value)
    assert str(tmp_path / "nowhere" / task.folder) in text and task.described_at in text
    assert text.startswith(f"{name}: ") and "\n" not in text


def test_a_file_in_place_of_a_folder_is_missing(tmp_path):
    (tmp_path / "fma").touch()
    with pytest.raises(DataError, match="looked for the folder"):
        registry.open_task(registry.TASKS["fma"], tmp_path)


def test_errors_of_the_file_system_are_one_line(tmp_path):
    """A name that is too long fails for everybody, even for root."""
    folder = tmp_path / "ext_ballroom"
    (folder / "Tango").mkdir(parents=True)
    (folder / "extendedballroom_v1.1.xml").write_text(f'<a><Tango><song id="{"1" * 300}"/></Tango></a>')
    with pytest.raises(DataError) as caught:
        registry.open_task(registry.TASKS["ext_ballroom"], tmp_path)
    text = str(caught.value)
    assert text.startswith(f"ext_ballroom: {folder}") and "cannot be read (File name too long)" in text


def test_audio_of_an_impossible_name_is_missing(tmp_path):
    (tmp_path / "list.tsv").write_text(f"path\tlabel\n{'a' * 300}\tx\nb\ty\n")
    task = registry.table_task("mine", "classification", tmp_path / "list.tsv", tmp_path)
    assert len(registry.missing_audio(registry.open_task(task, tmp_path))) == 2


def labelled(n_items, n_classes, kind="classification"):
    labels = np.arange(n_items) % n_classes
    return LabelledData(
        tuple(map(str, range(n_items))),
        tuple(Path(str(item)) for item in range(n_items)),
        labels.astype(str) if kind == "classification" else labels.astype(float),
    )


@pytest.mark.parametrize(
    ("name", "n_items", "n_classes", "published", "verified"),
    [
        ("fma", 25_000, 16, 25_000, True),
        ("fma", 24_999, 16, 25_000, False),
        ("fma", 25_000, 15, 25_000, False),
        ("gtzan", 1_000, 10, 1_000, True),
        ("gtzan", 930, 10, 930, True),
        ("gtzan", 931, 10, 1_000, False),
        ("ext_ballroom", 3_390, 13, 3_390, True),
        ("ext_ballroom", 4_180, 13, 4_180, True),
        ("demo_dance", 12, 3, None, None),
    ],
)
def test_counts_are_checked_against_published_ones(name, n_items, n_classes, published, verified):
    found = registry.counts(registry.TASKS[name], labelled(n_items, n_classes))
    n_classes_published = registry.TASKS[name].n_classes
    assert json.loads(json.dumps(found)) == {
        "items": {"found": n_items, "published": published},
        "classes": {"found": n_classes, "published": n_classes_published},
        "verified": verified,
    }


def test_counts_of_values_have_no_classes():
    found = registry.counts(registry.TASKS["emotion_valence"], labelled(744, 9, "regression"))
    assert found == {"items": {"found": 744, "published": 744}, "verified": True}


def test_counts_of_plays_have_users(tmp_path):
    miniatures.write_demo(tmp_path / "demo")
    data = registry.open_task(registry.TASKS["demo_recommendation"], tmp_path)
    assert isinstance(data, PlayData)
    found = registry.counts(registry.TASKS["lastfm1k"], data)
    assert found["users"] == {"found": 20, "published": 985} and found["verified"] is False


def test_missing_audio_is_listed_in_order(tmp_path):
    paths = tuple(tmp_path / name for name in ("c.wav", "a.wav", "b.wav", "d.wav"))
    paths[1].touch()
    paths[3].mkdir()
    data = LabelledData(("c", "a", "b", "d"), paths, np.array(["x", "y", "x", "y"]))
    assert registry.missing_audio(data) == [("c", paths[0]), ("b", paths[2]), ("d", paths[3])]


def test_a_table_of_the_users_own_is_a_task(tmp_path):
    table = tmp_path / "moods.csv"
    table.write_text("path,label,group\na.wav,calm,A\nb.wav,wild,B\nc.wav,calm,C\nd.wav,wild,D\n")
    task = registry.table_task("moods", "classification", table, tmp_path / "audio")
    data = registry.open_task(task, tmp_path / "there is no such root")
    assert data.paths[0] == tmp_path / "audio/a.wav" and data.groups.tolist() == ["A", "B", "C", "D"]
    assert data.notices == ()
    assert registry.counts(task, data)["verified"] is None
    assert task.metric == "accuracy" and str(table) in task.described_at


def test_a_table_without_groups_warns_of_albums_and_artists_once(tmp_path):
    table = tmp_path / "moods.csv"
    table.write_text("path,label\na.wav,calm\nb.wav,wild\nc.wav,calm\nd.wav,wild\n")
    (notice,) = registry.open_task(
        registry.table_task("moods", "classification", table, tmp_path), tmp_path
    ).notices
    assert notice.startswith(f"{table}: names no groups") and "album and artist effects" in notice


def test_a_table_of_plays_of_the_users_own_is_a_task(tmp_path):
    (tmp_path / "items.tsv").write_text("item\tpath\na\ta.wav\nb\tb.wav\n")
    (tmp_path / "plays.tsv").write_text("user\titem\nu\ta\nv\tb\n")
    tables = tmp_path / "plays.tsv", tmp_path / "audio", tmp_path / "items.tsv"
    data = registry.open_task(registry.table_task("radio", "recommendation", *tables), tmp_path)
    assert data.paths == (tmp_path / "audio/a.wav", tmp_path / "audio/b.wav")


@pytest.mark.parametrize(
    ("name", "kind", "items", "message"),
    [
        ("fma", "classification", None, "task 'fma' is there already"),
        ("demo", "classification", None, "task 'demo' is there already"),
        ("My task", "classification", None, "a name has lower-case letters"),
        ("../x", "classification", None, "a name has lower-case letters"),
        ("x" * 65, "classification", None, "a name has lower-case letters"),
        ("radio", "recommendation", None, "needs a table of items"),
        ("radio", "regression", Path("items.tsv"), "takes no table of items"),
    ],
)
def test_a_table_task_that_cannot_be_is_refused(name, kind, items, message):
    with pytest.raises(RecipeError, match=message):
        registry.table_task(name, kind, Path("t.tsv"), Path("audio"), items)


def test_a_split_list_replaces_the_items_and_nothing_else(tmp_path):
    (tmp_path / "irmas").mkdir()
    table = tmp_path / "own.tsv"
    table.write_text("path\tlabel\ncel/[cel][cla]0001__1.wav\tcel\nvio/[vio][cla]0002__1.wav\tvio\n")
    task = registry.with_split_list(registry.TASKS["irmas"], table)
    with pytest.raises(DataError, match="says the same as 'label'"):
        registry.open_task(task, tmp_path)  # one song a class
    table.write_text(table.read_text() + "cel/[cel][cla]0003__1.wav\tcel\nvio/[vio][cla]0004__1.wav\tvio\n")
    data = registry.open_task(task, tmp_path)
    assert data.groups.tolist() == ["song 0001", "song 0002", "song 0003", "song 0004"]
    assert data.paths[0] == tmp_path / "irmas/IRMAS-TrainingData/cel/[cel][cla]0001__1.wav"
    assert task.n_items == 6_705


@pytest.mark.parametrize("name", ["jam", "lastfm1k", "demo_recommendation"])
def test_plays_take_no_split_list(name):
    with pytest.raises(RecipeError, match="takes plays, not a split list"):
        registry.with_split_list(registry.TASKS[name], Path("list.tsv"))


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.tsv")
    task = registry.table_task("mine", "classification", tmp_path / "list.tsv", tmp_path)
    with pytest.raises(DataError, match="is not a regular file"):
        registry.open_task(task, tmp_path)
