import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_evaluations import make_evaluation

from kerasrep.errors import DataError, RunError
from kerasrep.evaluation.base import Evaluation, FoldScore, ProbeResult
from kerasrep.evaluation.results import (
    evaluation_path,
    find_evaluation,
    safe_name,
    save_evaluation,
    to_json,
)

ARRAYS = {f.name for f in dataclasses.fields(ProbeResult)} & {
    "unit_ids",
    "unit_folds",
    "unit_scores",
    "unit_groups",
    "truths",
    "predictions",
    "confusion",
}

# Any text at all: surrogates stand for bytes of file names that are not UTF-8.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def probes(draw) -> ProbeResult:
    n_units, n_classes = draw(st.integers(0, 4)), draw(st.integers(0, 3))

    def array(dtype, elements=None):
        return draw(hnp.arrays(dtype, n_units, elements=elements))

    # NumPy drops NUL characters at the end of a text, so they are gone before anything is stored.
    names = st.text(st.characters(min_codepoint=1, exclude_categories=()), min_size=1, max_size=5)
    labels = array("U5", names) if draw(st.booleans()) else array(np.float64, finite)
    return ProbeResult(
        probe=draw(texts),
        metric=draw(texts),
        mean=draw(finite),
        low=draw(finite),
        high=draw(finite),
        scores=tuple(draw(st.lists(st.builds(FoldScore, st.integers(0, 9), texts, finite), max_size=3))),
        unit_ids=array("U5", names),
        unit_folds=array(np.int64),
        unit_scores=array(np.float64, finite),
        unit_groups=draw(st.sampled_from([None, array("U5", names)])),
        truths=draw(st.sampled_from([None, labels])),
        predictions=labels,
        classes=tuple(draw(st.lists(texts, max_size=n_classes))),
        confusion=draw(hnp.arrays(np.int64, (n_classes, n_classes))),
        per_class=draw(st.dictionaries(texts, st.dictionaries(texts, finite, max_size=2), max_size=2)),
        details=draw(st.dictionaries(texts, json_values, max_size=2)),
    )


evaluations = st.builds(
    Evaluation,
    representation=texts,
    dimension=st.integers(0, 10**6),
    task=texts,
    kind=st.sampled_from(["classification", "regression", "recommendation"]),
    metric=texts,
    n_items=st.integers(0, 10**6),
    left_out=st.dictionaries(texts, texts, max_size=2),
    probes=st.lists(probes(), min_size=1, max_size=2).map(tuple),
    counts=st.dictionaries(texts, json_values, max_size=2),
)


def assert_equal(one: Evaluation, other: Evaluation) -> None:
    """Equal to the bit, types of arrays included."""
    for name in (f.name for f in dataclasses.fields(Evaluation) if f.name != "probes"):
        assert getattr(one, name) == getattr(other, name), name
    assert len(one.probes) == len(other.probes)
    for a, b in zip(one.probes, other.probes, strict=True):
        for name in (f.name for f in dataclasses.fields(ProbeResult)):
            x, y = getattr(a, name), getattr(b, name)
            if name in ARRAYS and x is not None:
                assert x.dtype == y.dtype
                assert x.tolist() == y.tolist()
            else:
                assert x == y, name


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("task", ["demo_dance", "demo_tempo", "demo_recommendation"])
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, task):
    evaluation = make_evaluation("mss/1", task)
    path = save_evaluation(tmp_path, evaluation, "key")
    assert path == evaluation_path(tmp_path, "mss/1", task)
    assert_equal(find_evaluation(tmp_path, "mss/1", task, "key", pytest.fail), evaluation)


@given(evaluation=evaluations, key=texts)
def test_any_evaluation_survives_the_disk(tmp_path_factory, evaluation, key):
    folder = tmp_path_factory.mktemp("results")
    path = save_evaluation(folder, evaluation, key)
    path.read_text(encoding="utf-8")
    found = find_evaluation(folder, evaluation.representation, evaluation.task, key, pytest.fail)
    assert_equal(found, evaluation)


def test_saving_again_gives_the_same_bytes_and_leaves_nothing_behind(tmp_path):
    save_evaluation(tmp_path, make_evaluation(seed=1), "old")
    save_evaluation(tmp_path, make_evaluation(seed=2), "new")
    once = contents(tmp_path)
    assert len(once) == 2
    save_evaluation(tmp_path, make_evaluation(seed=2), "new")
    assert contents(tmp_path) == once


def test_replacing_one_task_leaves_tasks_with_similar_names_alone(tmp_path):
    names = ("a", "a.b", "a.0123456789ab", "a.0123456789ab.npz")
    made = {name: dataclasses.replace(make_evaluation(), task=name) for name in names}
    for evaluation in made.values():
        save_evaluation(tmp_path, evaluation, "key")
    save_evaluation(tmp_path, dataclasses.replace(make_evaluation(seed=5), task="a"), "key")
    for name in names[1:]:
        assert_equal(find_evaluation(tmp_path, "mss/1", name, "key", pytest.fail), made[name])


def test_another_key_is_another_result(tmp_path):
    save_evaluation(tmp_path, make_evaluation(), "key")
    notices: list[str] = []
    assert find_evaluation(tmp_path, "mss/1", "demo_dance", "kez", notices.append) is None
    assert find_evaluation(tmp_path, "mss/2", "demo_dance", "key", notices.append) is None
    assert notices == []


@pytest.mark.parametrize("moment", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_keeps_the_earlier_result(tmp_path, monkeypatch, moment, error):
    old, new = make_evaluation(seed=1), make_evaluation(seed=2)
    save_evaluation(tmp_path, old, "old")
    renames = []
    replace = Path.replace

    def interrupted(self, target):
        renames.append(target)
        if len(renames) > moment:
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(error):
        save_evaluation(tmp_path, new, "new")
    monkeypatch.undo()
    notices: list[str] = []
    assert find_evaluation(tmp_path, "mss/1", "demo_dance", "new", notices.append) is None
    assert_equal(find_evaluation(tmp_path, "mss/1", "demo_dance", "old", notices.append), old)
    assert notices == []
    assert not [name for name in contents(tmp_path) if "/." in name]
    save_evaluation(tmp_path, new, "new")
    assert_equal(find_evaluation(tmp_path, "mss/1", "demo_dance", "new", pytest.fail), new)
    assert len(contents(tmp_path)) == 2


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, bytes]:
    """The array file of a small stored evaluation, and what is in it."""
    evaluation = make_evaluation(task="demo_recommendation")
    evaluation = dataclasses.replace(evaluation, probes=evaluation.probes[:1])
    path = save_evaluation(tmp_path_factory.mktemp("results"), evaluation, "key")
    npz = next(path.parent.glob("*.npz"))
    return npz, npz.read_bytes()


@given(data=st.data())
def test_any_change_of_a_byte_of_the_arrays_is_noticed(stored, data):
    npz, content = stored
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    npz.write_bytes(changed)
    notices: list[str] = []
    folder = npz.parents[1]
    assert find_evaluation(folder, "mss/1", "demo_recommendation", "key", notices.append) is None
    assert len(notices) == 1
    assert "checksum" in notices[0]
    assert "\n" not in notices[0]
    assert "mss/1 on demo_recommendation is evaluated again" in notices[0]


BREAKS = {
    "no JSON": lambda record: "{",
    "a list": lambda record: [record],
    "no probes": lambda record: record | {"probes": []},
    "probes that are numbers": lambda record: record | {"probes": [1]},
    "a probe more": lambda record: record | {"probes": record["probes"] * 2},
    "unknown kind": lambda record: record | {"kind": "clustering"},
    "no metric": lambda record: {k: v for k, v in record.items() if k != "metric"},
    "a name that is a number": lambda record: record | {"task": 5},
    "infinite count": lambda record: record | {"n_items": float("inf")},
    "NaN score": lambda record: record | {"probes": [record["probes"][0] | {"mean": float("nan")}]},
    "huge integer": lambda record: to_json(record | {"n_items": 7}).replace(
        '"n_items": 7', f'"n_items": {"7" * 5000}'
    ),
    "checksum that leads elsewhere": lambda record: record | {"npz_sha256": "../../" + "a" * 58},
    "left out as a list": lambda record: record | {"left_out": ["a"]},
    "other format": lambda record: record | {"format": 2},
    "result of something else": lambda record: record | {"representation": "mfcc"},
}


@pytest.mark.parametrize("damage", BREAKS)
def test_a_damaged_description_is_one_line_or_absent(tmp_path, damage):
    path = save_evaluation(tmp_path, make_evaluation(), "key")
    broken = BREAKS[damage](json.loads(path.read_text()))
    path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
    notices: list[str] = []
    assert find_evaluation(tmp_path, "mss/1", "demo_dance", "key", notices.append) is None
    assert len(notices) == (0 if damage == "other format" else 1)
    assert all(path.name in line and "\n" not in line for line in notices)


def test_a_missing_array_file_is_named(tmp_path):
    path = save_evaluation(tmp_path, make_evaluation(), "key")
    next(path.parent.glob("*.npz")).unlink()
    notices: list[str] = []
    assert find_evaluation(tmp_path, "mss/1", "demo_dance", "key", notices.append) is None
    assert "npz" in notices[0]


def test_pickled_arrays_are_never_loaded(tmp_path):
    path = save_evaluation(tmp_path, make_evaluation(), "key")
    packed = io.BytesIO()
    np.savez(packed, **{"0.unit_ids": np.array([{}], dtype=object)})
    checksum = hashlib.sha256(packed.getvalue()).hexdigest()
    path.with_name(f"{path.stem}.{checksum[:12]}.npz").write_bytes(packed.getvalue())
    record = json.loads(path.read_text()) | {"npz_sha256": checksum}
    path.write_text(json.dumps(record))
    notices: list[str] = []
    assert find_evaluation(tmp_path, "mss/1", "demo_dance", "key", notices.append) is None
    assert "pickle" in notices[0]


def test_numbers_that_are_not_finite_are_refused_by_name_and_nothing_is_written(tmp_path):
    good = make_evaluation()
    probe = good.probes[0]
    wrong = [
        dataclasses.replace(probe, mean=float("nan")),
        dataclasses.replace(probe, scores=(FoldScore(0, "accuracy", float("inf")),)),
        dataclasses.replace(probe, unit_scores=np.full_like(probe.unit_scores, np.nan)),
        dataclasses.replace(probe, details={"loss": float("nan")}),
    ]
    for bad in wrong:
        with pytest.raises(DataError, match=r"mss/1 on demo_dance.*finite"):
            save_evaluation(tmp_path, dataclasses.replace(good, probes=(bad,)), "key")
    assert contents(tmp_path) == {}


def test_arrays_of_python_objects_are_a_fault_of_the_program(tmp_path):
    probe = dataclasses.replace(make_evaluation().probes[0], truths=np.array(["jig", None], dtype=object))
    with pytest.raises(TypeError, match="truths"):
        save_evaluation(tmp_path, dataclasses.replace(make_evaluation(), probes=(probe,)), "key")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        save_evaluation(tmp_path / "file", make_evaluation(), "key")


def test_numbers_of_numpy_and_paths_stand_in_json():
    value = {"n": np.int64(3), "x": np.float32(0.5), "a": np.arange(2), "p": Path("a/b"), "t": (1, 2)}
    assert json.loads(to_json(value)) == {"n": 3, "x": 0.5, "a": [0, 1], "p": "a/b", "t": [1, 2]}
    with pytest.raises(TypeError, match="set"):
        to_json({"s": {1}})


@pytest.mark.parametrize("name", ["random", "mfcc", "ms-cr@2", "demo_dance", "mss-1", "a.b", "0"])
def test_harmless_names_stay_as_they_are(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "mss/1",
        "/etc/passwd",
        "../x",
        "hear:my.module",
        "MSS",
        "-rf",
        "a" * 300,
        "ü",
        "\0",
        "~",
    ],
)
def test_other_names_become_harmless(name):
    assert safe_name(name) != name
    assert Path("folder", safe_name(name)).parent == Path("folder")


@given(one=texts, other=texts | st.sampled_from(["mss/1", "mss-1", "MSS/1", "mss:1"]))
def test_names_of_files_are_portable_and_unique(one, other):
    for name in map(safe_name, (one, other)):
        assert name.isascii()
        assert 0 < len(name) <= 60
        assert not set(name) & set('/\\:*?"<>| \0')
        assert name[0] not in "-."
    assert (safe_name(one).lower() == safe_name(other).lower()) == (one == other)
