"""Cards and other JSON that somebody spoilt: whatever reads them gives a result or one line of ours."""

import copy
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasrep.cli.train import _is_complete
from kerasrep.errors import KerasrepError
from kerasrep.experiments.worker import _facts, _is_spoilt
from kerasrep.model.export_trunk import recipe_of_export
from kerasrep.serving.card import run_origin
from kerasrep.storage.export_directory import (
    card_path,
    default_model,
    find_version,
    read_card,
    read_card_file,
)
from kerasrep.storage.run_directory import PreparedDirectory, RunDirectory, read_object, write_json
from kerasrep.training.beginning import check_run
from kerasrep.training.card import _sessions_before

FUZZ = settings(max_examples=70, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = [
    None,
    True,
    0,
    -1,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "../../x",
    "\ud800",
    "\0",
    "x" * 300,
]
values = st.recursive(
    st.sampled_from(SCALARS) | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
changes = st.lists(st.tuples(st.integers(0, 10**6), st.none() | values), min_size=1, max_size=3)
spoilt_bytes = st.binary(max_size=60) | st.sampled_from(
    [b"[" * 99_999, b"9" * 9_999, b"\xff\xfe{\0", b"{}" * 9]
)


def places(value, path=()):
    """All paths into a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


def spoilt(value, changes):
    """The value with parts replaced, or left out where the new one is None."""
    value = copy.deepcopy(value)
    for number, new in changes:
        *path, last = [None, *(found := list(places(value)))[number % len(found)]]
        if last is None:
            value = new
            continue
        around = value
        for key in path[1:]:
            around = around[key]
        if new is None:
            del around[last]
        else:
            around[last] = new
    return value


def told(read, *arguments):
    try:
        return read(*arguments)
    except KerasrepError as error:
        assert "\n" not in str(error) and len(str(error)) < 5_000
        return None


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A version without its weights; its folder is written to."""
    version = tmp_path_factory.mktemp("export") / "x" / "1"
    shutil.copytree(find_version(default_model()), version, ignore=lambda _, names: {"variables"} & {*names})
    return version


def check_export(version):
    told(read_card, version)
    told(read_card_file, card_path(version))
    told(recipe_of_export, version)


@FUZZ
@given(changes)
def test_a_spoilt_card_of_an_export_is_read_or_told(export, changes):
    whole = json.loads((find_version(default_model()) / "assets.extra" / "card.json").read_bytes())
    card_path(export).write_text(json.dumps(spoilt(whole, changes)))
    check_export(export)


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory):
    """A run with all its JSON files; its folder is written to."""
    run = RunDirectory(tmp_path_factory.mktemp("run") / "run")
    shutil.copytree(small_run.run.root, run.root)
    write_json(run.prepared, {"root": str(run.root / "prepared"), "fingerprint": "prepared"})
    (run.root / "prepared").mkdir()
    return run


RUN_CARD = {
    "recipe": {"training": {"schedule": "joint"}, "sources": ["tag"], "batches": {"size": 8}},
    "steps": 3,
    "parameters": {"total": 5},
    "training_seconds": 1.5,
    "ended": "done",
    "sittings": [{"ended": "unfinished", "steps": 3}],
    "scores": {"sources": {"tag": {"after": 1.0}}},
}


def check_run_files(trained, run):
    told(_is_complete, trained.recipe, run)
    told(_sessions_before, run.card)
    told(_facts, run.root)
    told(_is_spoilt, run)
    told(check_run, trained.recipe, PreparedDirectory(run.root / "prepared"), run, True)
    card = told(read_object, run.card)
    told(run_origin, type(trained)(run, trained.recipe, trained.network), card, None)


@FUZZ
@given(changes, changes, changes)
def test_spoilt_files_of_a_run_are_read_or_told(small_run, run, card, began, manifest):
    prepared = PreparedDirectory(run.root / "prepared")
    about = {"root": str(prepared.root), "fingerprint": "prepared", "damaged_shards": ["a"]}
    corpus = {"name": "folder", "fingerprint": "f", "notices": []}
    for path, whole, changed in (
        (run.card, RUN_CARD, card),
        (run.prepared, about, began),
        (prepared.manifest, {"corpus": corpus, "tracks": 3, "hours": 1.0}, manifest),
    ):
        path.write_text(json.dumps(spoilt(whole, changed)))
    check_run_files(small_run, run)


@FUZZ
@given(spoilt_bytes)
def test_what_is_no_json_is_told(small_run, run, export, content):
    for path in (
        run.card,
        run.prepared,
        PreparedDirectory(run.root / "prepared").manifest,
        card_path(export),
    ):
        path.write_bytes(content)
    check_run_files(small_run, run)
    check_export(export)
