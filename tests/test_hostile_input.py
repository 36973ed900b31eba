"""Random and malicious files: an error of ours or a good result, within bounded memory, and no code run."""

import contextlib
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasrep.errors import DataError, KerasrepError, RecipeError
from kerasrep.evaluation.readers.split_list import read_split_list
from kerasrep.recipe.file import read_recipe
from kerasrep.storage.run_directory import read_arrays, write_arrays
from kerasrep.storage.tables import read_table

ROOT = Path(__file__).parents[1]
FUZZ = settings(
    max_examples=40,
    deadline=60_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(FUZZ, max_examples=3_000)
YAML_PARTS = [
    "&a ",
    "*a",
    "!!python/object/apply:os.system ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\n",
    "  ",
    "? ",
]
YAML_PARTS += ["strategy", "sources", "mss-cr", "tag", "9" * 500, "1e999", ".nan", '"\\U0010FFFF"', "<<"]
YAML_PARTS += ["\u202e", "\u0085", "\x00", "---", "%YAML 1.1", "|", ">", "'", '"', "#", "0x" + "f" * 50]
TABLE_PARTS = [
    "\t",
    ",",
    "\n",
    "\r",
    '"',
    "path",
    "label",
    "split",
    "../",
    "/etc/passwd",
    "train",
    "nan",
    "\x00",
]
yaml_text = st.lists(st.sampled_from(YAML_PARTS) | st.text(max_size=5), max_size=60).map("".join)
table_text = st.lists(st.sampled_from(TABLE_PARTS) | st.text(max_size=5), max_size=60).map("".join)


def check_recipe(folder, content):
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    try:
        read_recipe(path)
    except RecipeError as error:
        assert len(str(error)) < 2_000


def check_tables(folder, content):
    (folder / "audio").mkdir(exist_ok=True)
    for name in ("list.tsv", "list.csv"):
        path = folder / name
        path.write_bytes(content)
        for read in (
            lambda path: list(read_table(path, ["path", "label"], ["split"])),
            lambda path: read_split_list(path, folder / "audio", "classification"),
        ):
            try:
                found = read(path)
            except KerasrepError:
                continue
            for audio in getattr(found, "paths", ()):
                assert Path(os.path.normpath(audio)).is_relative_to(folder / "audio")


def damaged(whole, changes):
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    return bytes(content)


def check_arrays(folder, content):
    path = folder / "x.npz"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert all(array.dtype != object for array in read_arrays(path).values())


@FUZZ
@given(yaml_text.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
def test_no_recipe_does_more_than_be_refused(tmp_path, content):
    check_recipe(tmp_path, content)


@FUZZ
@given(table_text.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
def test_no_table_does_more_than_be_refused_and_no_path_leads_out(tmp_path, content):
    check_tables(tmp_path, content)


@pytest.fixture(scope="module")
def whole_arrays(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "whole.npz"
    write_arrays(path, {"mean": np.zeros(4, np.float32), "sd": np.ones((2, 2))})
    return path.read_bytes()


changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8)


@FUZZ
@given(changes)
def test_no_damaged_archive_does_more_than_be_refused(whole_arrays, tmp_path, changes):
    check_arrays(tmp_path, damaged(whole_arrays, changes))


@pytest.mark.slow
@LONG
@given(
    yaml_text.map(lambda text: text.encode("utf-8", "surrogatepass")),
    table_text.map(lambda text: text.encode("utf-8", "surrogatepass")),
    changes,
)
def test_at_length(whole_arrays, tmp_path, recipe, table, changes):
    check_recipe(tmp_path, recipe)
    check_tables(tmp_path, table)
    check_arrays(tmp_path, damaged(whole_arrays, changes))


@pytest.mark.parametrize(
    "content",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "[" * 50_000,
        "a: " + "9" * 90_000,
        "a: !!python/object/apply:os.system ['touch ran']",
        "strategy: mss-cr\n" * 5_000,
        "x" * 10**7,
    ],
    ids=["aliases", "deep", "huge number", "code", "twice", "10 MB"],
)
def test_a_yaml_bomb_is_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(content)
    with pytest.raises(RecipeError) as refused:
        read_recipe(Path("recipe.yaml"))
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()


def npy(shape, dtype="<f4", body=b""):
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def test_an_archive_that_would_fill_the_memory_is_refused_within_bounds(tmp_path):
    members = {
        "bomb": {"a.npy": npy((1 << 27,), body=bytes(1 << 29))},
        "promise": {"a.npy": npy((1 << 40,))},
        "objects": {"a.npy": npy((1,), "|O", b"cos\nsystem\n(S'touch ran'\ntR.")},
        "path": {"../../a.npy": npy((1,), body=bytes(3))},
    }
    for name, files in members.items():
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in files.items():
                archive.writestr(member, content)
    body = """
    import resource, sys
    from pathlib import Path
    import numpy
    from kerasrep.errors import DataError
    from kerasrep.storage.run_directory import read_arrays
    from kerasrep.runtime.run_log import peak_memory_mib
    before = peak_memory_mib()
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    for name in sys.argv[1:]:
        try:
            read_arrays(Path(name))
        except DataError:
            print("refused", end=" ")
    print(peak_memory_mib() - before < 50)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *(f"{name}.npz" for name in members)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("refused " * 4 + "True\n", 0), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.npz" for name in members}
