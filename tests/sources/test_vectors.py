import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasrep.errors import DataError
from kerasrep.recipe.corpora import FolderCorpus, LabelTable
from kerasrep.sources.readers.vectors import read_vectors


def test_a_track_without_a_name_is_refused_with_its_row(tmp_path):
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"path": ["a", None], "embedding": vectors}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: row 2: column 'path' is empty; name the track$"):
        read_vectors(tmp_path / "t.parquet", None, None, None, None, "corpus.tables.teacher")


def test_a_column_of_tracks_that_holds_no_text_is_refused_in_one_line(tmp_path):
    vectors = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"path": [["a"]], "embedding": vectors}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as Parquet"):
        read_vectors(tmp_path / "t.parquet", None, None, None, None, "corpus.tables.teacher")


def test_a_name_of_several_columns_is_refused(tmp_path):
    names, vectors = pa.array(["a"]), pa.array([[1.0, 2.0]])
    table = pa.Table.from_arrays([names, names, vectors], names=["path", "path", "embedding"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: has 2 columns 'path'; rename all but one$"):
        read_vectors(tmp_path / "t.parquet", None, None, None, None, "corpus.tables.teacher")


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (np.zeros(1), "array 'start_seconds' is not seconds of each path"),
        (np.array([0.0, np.nan]), "array 'start_seconds' is not seconds of each path"),
        (np.array(["0", "1"]), "array 'start_seconds' is not seconds of each path"),
        (np.array([0.0, -1.0]), r"row 2: lasts from -1 to 1\.5 s; correct its times"),
    ],
)
def test_times_of_an_npz_file_are_checked(tmp_path, starts, message):
    path = tmp_path / "t.npz"
    vectors = np.ones((2, 3), np.float32)
    np.savez(
        path,
        paths=np.array(["a", "b"]),
        embeddings=vectors,
        start_seconds=starts,
        about='{"segment_seconds": 2.5}',
    )
    with pytest.raises(DataError, match=rf"t\.npz.*{message}"):
        read_vectors(path, None, None, None, None, "corpus.tables.teacher")


def test_columns_of_an_npz_file_cannot_be_named(tmp_path):
    np.savez(tmp_path / "t.npz", paths=np.array(["a"]), embeddings=np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match=r"has no columns; remove corpus\.tables\.teacher\.start"):
        read_vectors(tmp_path / "t.npz", None, None, "from", None, "corpus.tables.teacher")


def test_ends_are_read_beside_start_seconds_which_need_no_name(tmp_path):
    path, vectors = tmp_path / "t.parquet", pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    columns = {"track": ["a", "a"], "embedding": vectors, "end_seconds": [1.0, 4.0]}
    pq.write_table(pa.table(columns | {"start_seconds": [0.0, 1.0]}), path)
    table = LabelTable(path=str(path), target="vector", end="end_seconds")
    settings = FolderCorpus(name="folder", root=str(tmp_path), tables={"teacher": table})
    found = read_vectors(path, None, None, None, settings.table("teacher").end, "corpus.tables.teacher")
    assert found.times.tolist() == [[0.0, 1.0], [1.0, 4.0]]
    pq.write_table(pa.table(columns), path)
    with pytest.raises(
        DataError, match=r"has no column 'start_seconds'; name .* as corpus\.tables\.teacher\.st"
    ):
        read_vectors(path, None, None, None, "end_seconds", "corpus.tables.teacher")
