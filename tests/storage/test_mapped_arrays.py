import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasrep.errors import DataError
from kerasrep.storage.mapped_arrays import map_arrays, release
from kerasrep.storage.run_directory import read_arrays, write_arrays

KINDS = st.sampled_from(["<f4", "<f8", "<i8", "|i1", "<U5", "|b1"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


def mapping_of(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


@given(arrays=st.dictionaries(st.text("abc.", min_size=1), hnp.arrays(KINDS, SHAPES), max_size=3))
def test_mapped_arrays_equal_those_that_numpy_reads(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "a.npz"
    write_arrays(path, arrays)
    found, expected = map_arrays(path), read_arrays(path)
    assert found.keys() == expected.keys() == arrays.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_fortran_order_and_arrays_that_savez_wrote_are_mapped_too(tmp_path):
    values = np.arange(12.0).reshape(3, 4)
    np.savez(tmp_path / "a.npz", plain=values, turned=np.asfortranarray(values))
    found = map_arrays(tmp_path / "a.npz")
    for array in found.values():
        np.testing.assert_array_equal(array, values)
        assert isinstance(mapping_of(array), mmap.mmap)
        assert not array.flags.writeable


def test_memory_does_not_grow_with_a_mapped_array_and_release_gives_pages_back(tmp_path):
    def resident():
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) >> 10

    path = tmp_path / "a.npz"
    write_arrays(path, {"large": np.ones((100 << 20) // 8)})
    map_arrays(path)  # what the checksum is read into stays with the allocator, up to two chunks of 8 MiB
    before = resident()
    array = map_arrays(path)["large"]
    assert resident() - before < 20
    assert array.sum() == len(array)
    assert resident() - before > 90
    release(array)
    assert resident() - before < 20
    assert array[-1] == 1.0
    release(np.ones(3))  # nothing to give back


def test_a_mapped_array_keeps_its_values_when_another_file_takes_its_name(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.zeros(5000)})
    array = map_arrays(path)["a"]
    write_arrays(path, {"a": np.ones(5000)})
    assert array.sum() == 0
    assert map_arrays(path)["a"].sum() == 5000


def test_compressed_arrays_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(5))
    np.testing.assert_array_equal(map_arrays(tmp_path / "a.npz")["a"], np.arange(5))


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.97])
def test_a_flipped_bit_anywhere_is_refused(place, tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.arange(1000.0), "b": np.arange(500)})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: .*delete it and write it again"):
        map_arrays(path)


@pytest.mark.parametrize("kept", [0, 10, 4000, -1])
def test_a_truncated_file_is_refused(kept, tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.arange(1000.0)})
    os.truncate(path, kept if kept >= 0 else path.stat().st_size - 1)
    with pytest.raises(DataError, match=r"a\.npz: is not a usable NPZ file"):
        map_arrays(path)


def test_pickled_objects_and_missing_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.asarray([{}, None]))
    with pytest.raises(DataError, match="not a usable NPZ file"):
        map_arrays(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"b\.npz: cannot be read"):
        map_arrays(tmp_path / "b.npz")
