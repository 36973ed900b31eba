"""PyTorch's files, damaged or made at random: a network or one line; no code runs, nothing is written."""

import io
import pickle
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.model.reference_checkpoint import read_checkpoint

torch = pytest.importorskip("torch")

FUZZ = settings(max_examples=40, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8)


def saved(value, legacy):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def small(**more):
    """The form of a checkpoint, with far too few weights for a network."""
    state = {"shared.0.conv.weight": torch.ones(16, 2, 5, 5), "shared.0.conv.bias": torch.zeros(16)}
    return {"tasks": ["self_", "tag"], "branch_at": 2, "n_outs": 50, "state_dict": state, **more}


def damaged(content, changes):
    content = bytearray(content)
    for place, value in changes:
        content[place % len(content)] = value
    return bytes(content)


def read_or_told(folder, content):
    """No code leaves its mark, nothing is written, and nothing takes long."""
    path, began = folder / "c.pt", time.process_time()
    path.write_bytes(content)
    try:
        read_checkpoint(path).build()
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        assert "weights_only" not in str(error)  # nobody is told to turn it off
    assert time.process_time() - began < 20
    assert [entry.name for entry in folder.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("legacy", [False, True])
@FUZZ
@given(changes=changes, length=st.none() | st.floats(0, 1))
def test_damaged_files_are_told(legacy, tmp_path, changes, length):
    content = damaged(saved(small(), legacy), changes)
    read_or_told(tmp_path, content if length is None else content[: int(length * len(content))])


def opcodes(folder):
    """Pickle fragments, some of which would run a command if they were obeyed."""
    mark = str(folder / "mark").encode()
    return [
        b"cos\nsystem\n(S'touch %s'\ntR" % mark,
        b"(S'touch %s'\nios\nsystem\n" % mark,
        b"cbuiltins\nopen\n(S'%s'\nS'w'\ntR" % mark,
        b"ctorch\nload\n(S'%s'\ntR" % mark,
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n)R",
        b"ctorch.storage\n_load_from_bytes\n(C\x04abcdtR",
        b"(lp0\n",
        b"}q\x00",
        b"h\x00",
        b"Q",
        b"b",
        b"R",
        b"\x81",
        b"0",
        b"a",
        b"s",
        b"u",
        b"(",
        b"t",
        b"X\xff\xff\xff\x7f",
        b"\x8d" + b"\xff" * 8,
        b"J\xff\xff\xff\x7f",
        b"\x8a\xff" + b"\x01" * 255,
        b"r\xff\xff\xff\x7f",
        b".",
    ]


@FUZZ
@given(
    changes=changes,
    inserted=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 25)), max_size=5),
)
def test_any_pickle_in_a_sound_archive_is_told(tmp_path, changes, inserted):
    with zipfile.ZipFile(io.BytesIO(saved(small(), legacy=False))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    content, parts = damaged(members[name], changes), opcodes(tmp_path)
    for number, part in inserted:
        place = number % len(content)
        content = content[:place] + parts[part] + content[place:]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, old in members.items():
            archive.writestr(member, content if member == name else old)
    read_or_told(tmp_path, stream.getvalue())


def tensors():
    """Tensors of all kinds, by a number."""
    view = torch.zeros(1)
    return [
        torch.ones(16, 2, 5, 5),
        torch.zeros(0),
        torch.tensor(float("nan")),
        torch.full((16,), float("inf")),
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, dtype=torch.bfloat16),
        torch.eye(3).to_sparse(),
        view.expand(2**20, 2**20),
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(4).as_strided((2, 2), (1, 1)),
        torch.empty(2, device="meta"),
        torch.ones(2).neg().conj(),
        "text",
        None,
    ]


scalars = (
    st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from([2, 4, 6, "fc", True])
)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("legacy", [False, True])
@FUZZ
@given(
    tasks=plain | st.lists(st.sampled_from(["self_", "tag", "bpm", "tag\n", "../x"]), max_size=9),
    branch_at=plain,
    n_outs=plain,
    state=st.dictionaries(
        st.sampled_from(["shared.0.conv.weight", "shared.0.conv.bias", "x\ny", "../../x"]) | scalars,
        st.integers(0, len(tensors()) - 1),
        max_size=4,
    ),
)
def test_any_values_of_a_checkpoint_are_told(legacy, tmp_path, tasks, branch_at, n_outs, state):
    kinds = tensors()
    value = {"tasks": tasks, "branch_at": branch_at, "n_outs": n_outs}
    value["state_dict"] = {key: kinds[number] for key, number in state.items()}
    try:
        content = saved(value, legacy)
    except (RuntimeError, ValueError, NotImplementedError, pickle.PicklingError):
        return  # PyTorch does not write it
    read_or_told(tmp_path, content)


def test_what_the_fuzzing_starts_from_is_read(tmp_path):
    for legacy in (False, True):
        (tmp_path / "c.pt").write_bytes(saved(small(), legacy))
        found = read_checkpoint(tmp_path / "c.pt")
        assert (found.tasks, found.branch_at, found.n_outs) == (("self_", "tag"), 2, 50)
        np.testing.assert_array_equal(found.state_dict["shared.0.conv.bias"], np.zeros(16))
