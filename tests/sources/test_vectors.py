import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasrep.errors import DataError
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
