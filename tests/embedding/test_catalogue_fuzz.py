"""Parts and tables of a catalogue that were damaged: told, or read as they were written; never as another."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from kerasrep.embedding.catalogue.layout import About, Layout
from kerasrep.embedding.catalogue.listing import Listing
from kerasrep.embedding.catalogue.parts import DamagedPartError, Listed, PartWriter, parts_in, read_part
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.catalogue.writing import Block, described, write_npz, write_parquet
from kerasrep.errors import DataError, KerasrepError
from kerasrep.storage.segment_vector import embedding_pieces

ABOUT = About("m", "f", ("a",), ("a",), "none", 2.5, 2.5, 22_050, "soundfile", "1")
LAYOUT = Layout(("a",), ("a",), embedding_pieces(("a",)), "none", 55_125, 55_125, 22_050)
DIMENSION = 256
FUZZ = settings(
    max_examples=100, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: Every so many bits of a file one is flipped, in turn.
STEP = 61


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Files, some of which are done; and the one part that says so."""
    root = tmp_path_factory.mktemp("begun")
    paths = [root / f"{number}.wav" for number in range(12)]
    for path in paths:
        path.write_bytes(b"x")
    listing = Listing(paths, root, ABOUT)
    writer = PartWriter(root, ABOUT.to_json(), DIMENSION, lambda part: None)
    for file in list(listing.waiting())[:9]:
        number = int(file.path.stem)
        if number % 5 == 4:
            writer.end(file, None, f"{file.path}: is no audio")
            continue
        for _ in range(1 + number % 3):
            writer.add(file, np.full((1, DIMENSION), number, np.float32))
        if number < 8:
            writer.end(file, 2.5 + number)
    writer.publish()
    (part,) = parts_in(root)
    return paths, part


def is_same(first, second):
    return first[:2] == second[:2] and np.array_equal(first.values, second.values)


def flips(content):
    for bit in range(STEP // 2, 8 * len(content), STEP):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_any_flipped_bit_of_a_part_is_found_or_changes_nothing(tmp_path, begun):
    expected, path, found = read_part(begun[1]), tmp_path / begun[1].name, 0
    for content in flips(begun[1].read_bytes()):
        path.write_bytes(content)
        try:
            assert is_same(read_part(path), expected)
        except DamagedPartError as error:
            found += 1
            assert str(error).startswith(f"{path}: is damaged (") and "\n" not in str(error)
    assert found > 100


def block():
    values = np.random.default_rng(0).normal(size=(6, DIMENSION)).astype(np.float32)
    paths = [f"/music/{number // 2}.wav" for number in range(6)]
    return Block(paths, np.arange(6.0), 2.5 * np.arange(6.0), values, np.full(6, np.nan))


def test_any_flipped_bit_of_a_finished_table_is_told_or_changes_nothing(tmp_path):
    path = tmp_path / "vectors.parquet"
    write_parquet(path, [block()], LAYOUT, ABOUT)
    expected, found = read_embeddings(path), 0
    for content in flips(path.read_bytes()):
        path.write_bytes(content)
        try:
            table = read_embeddings(path)
        except DataError:
            found += 1
            continue
        assert (table.paths, table.columns, table.about) == (expected.paths, expected.columns, expected.about)
        np.testing.assert_array_equal(table.embeddings, expected.embeddings)
    assert found > 100


def test_a_table_is_a_tenth_smaller_than_its_vectors_and_has_their_bits(tmp_path):
    values = np.random.default_rng(0).normal(size=(3_000, DIMENSION)).astype(np.float32)
    values[0, :4] = np.array([0x7F7FFFFF, 0x00000001, 0x80000000, 0x3EAAAAAB], np.uint32).view(np.float32)
    n, path = len(values), tmp_path / "vectors.parquet"
    seconds = np.arange(n) / 3
    blocks = [Block(["/music/x.wav"] * n, seconds, 2.5 * np.arange(n), values, np.full(n, np.nan))]
    write_parquet(path, blocks, LAYOUT, ABOUT)
    assert path.stat().st_size < 0.9 * values.nbytes
    table = read_embeddings(path)
    assert table.embeddings.tobytes() == values.tobytes()
    np.testing.assert_array_equal(table.seconds, seconds)


def test_any_flipped_bit_of_the_vectors_of_an_npz_table_is_told(tmp_path):
    path = tmp_path / "vectors.npz"
    write_npz(path, lambda: [block()], LAYOUT, ABOUT, 6, 20)
    content = path.read_bytes()
    begin = content.index(block().embeddings.tobytes())
    for position in range(begin, begin + block().embeddings.nbytes, 97):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(DataError):
            read_embeddings(path)


def test_tables_from_before_checksums_and_from_elsewhere_are_read(tmp_path):
    write_parquet(tmp_path / "new.parquet", [block()], LAYOUT, ABOUT)
    table = parquet.read_table(tmp_path / "new.parquet")
    metadata = {key: text for key, text in table.schema.metadata.items() if key != b"crc32"}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    labels = pyarrow.array(["x"] * len(table))
    parquet.write_table(table.append_column("label", labels), tmp_path / "more.parquet")
    for name in ("old.parquet", "more.parquet"):
        np.testing.assert_array_equal(read_embeddings(tmp_path / name).embeddings, block().embeddings)


def go_on(folder, paths, restart=False):
    """All that a command reads and writes of its parts; returns what waited."""
    listing = Listing(paths, folder, ABOUT)
    listing.take_leftovers(restart)
    waiting = [file.path for file in listing.waiting()]
    writer = PartWriter(folder, ABOUT.to_json(), DIMENSION, listing.take)
    for file in list(listing.waiting()):
        writer.add(file, np.zeros((1, DIMENSION), np.float32))
        writer.end(file, 1.0)
    writer.publish()
    rows = list(listing.rows(2.5))
    assert sum(map(len, rows)) == listing.n_rows() and listing.n_waiting == 0
    assert {path for one in rows for path in one.paths} == set(map(str, paths))
    return waiting


def check(folder, paths):
    """What was spoilt is told with its place, or done again; begun anew, all files wait."""
    began = time.process_time()
    with contextlib.suppress(KerasrepError):
        try:
            go_on(folder, paths)
        except KerasrepError as error:
            assert str(error).startswith(str(folder)) and "\n" not in str(error)
            raise
    assert go_on(folder, paths, restart=True) == paths
    assert time.process_time() - began < 20


def place(folder, begun, content):
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    path = folder / begun[1].name
    path.write_bytes(content)
    return path


def test_what_the_fuzzing_starts_from_goes_on(tmp_path, begun):
    folder = tmp_path / "parts"
    place(folder, begun, begun[1].read_bytes())
    waiting = go_on(folder, begun[0])
    assert [int(path.stem) for path in waiting] == [4, 8, 9, 10, 11]  # a bad one is tried again


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12),
    part=st.none() | st.floats(0, 1),
)
def test_any_damage_is_told(tmp_path, begun, changes, part):
    content = bytearray(begun[1].read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    content = content if part is None else content[: int(part * len(content))]
    place(tmp_path / "parts", begun, content)
    check(tmp_path / "parts", begun[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=20,
)


@FUZZ
@given(
    files=st.binary(max_size=20)
    | JSON.map(lambda found: json.dumps(found).encode())
    | st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), JSON), min_size=1, max_size=4),
    said=st.dictionaries(st.sampled_from([*ABOUT.__dataclass_fields__]), JSON, max_size=3),
    has_checksum=st.booleans(),
)
def test_any_files_and_settings_are_told(tmp_path, begun, files, said, has_checksum):
    """Not only damage: what somebody made, with the right checksum or with none."""
    path = place(tmp_path / "parts", begun, begun[1].read_bytes())
    if isinstance(files, list):
        entries = list(map(list, read_part(path).entries))
        for number, field, value in files:
            entries[number][field] = value
        files = json.dumps(entries).encode()
    metadata = {b"files": files, b"kerasrep": json.dumps(json.loads(ABOUT.to_json()) | said).encode()}
    if has_checksum:
        with contextlib.suppress(UnicodeDecodeError):
            metadata = described(**{key.decode(): text.decode() for key, text in metadata.items()})
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(metadata), path)
    check(tmp_path / "parts", begun[0])


def test_a_file_is_listed_as_it_was(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"abc")
    (file,) = Listing([path, path], tmp_path, ABOUT).waiting()
    assert file == Listed(Path(path), 3, path.stat().st_mtime_ns)
