"""Labels kept on disk: the same when read back, and made anew when a file they came from changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from kerasrep.corpora.stored_labels import LabelReader, StoredLabels
from kerasrep.errors import DataError
from kerasrep.sources.labels import CountLabels, ValueLabels
from kerasrep.sources.readers.reading import Reading

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), unique=True, max_size=8)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that stores the labels of one file and counts how often the file was read."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    path = tmp_path / "labels.txt"
    path.write_text("1")
    reads = []

    def make(labels, **about):
        def read():
            reads.append(path.read_text())
            return Reading(labels, **about)

        return StoredLabels({"tag": LabelReader([path], read)}, lambda: None)

    make.path, make.reads = path, reads
    return make


@given(names, names, st.data())
def test_counts_come_back_as_they_were(tmp_path_factory, tracks, terms, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    n_documents = data.draw(st.integers(0, 5)) if terms else 0
    counts = sparse.csr_matrix(rng.poisson(0.5, (n_documents, len(terms))).astype(np.float32))
    documents = rng.integers(0, max(n_documents, 1), len(tracks))
    labels = CountLabels(counts, terms, tracks, documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASREP_HOME", str(tmp_path_factory.mktemp("home")))
        store = StoredLabels({"tag": LabelReader([], lambda: Reading(labels))}, lambda: None)
        store.read_all()
        store = StoredLabels({"tag": LabelReader([], None)}, lambda: None)  # cannot read any more
        found = store["tag"]
    assert (list(found.terms), list(found.track_ids)) == (terms, tracks)
    assert found.counts.shape == counts.shape and found.counts.dtype == counts.dtype
    np.testing.assert_array_equal(found.counts.toarray(), counts.toarray())
    np.testing.assert_array_equal(found.documents, documents)


def test_values_counts_of_skipped_lines_and_notices_come_back(stored):
    about = {"skipped": {"f": {"why": 3}}, "notices": ["f: 3 lines"]}
    labels = ValueLabels(["a", "\u00e9"], np.array([1.5, -2]))
    assert stored(labels, **about).read_all() == ({"f": {"why": 3}}, ["f: 3 lines"])
    again = stored(None)
    assert again.read_all() == ({"f": {"why": 3}}, ["f: 3 lines"])
    assert list(again["tag"].track_ids) == ["a", "\u00e9"] and again["tag"].values.tolist() == [1.5, -2]
    assert stored.reads == ["1"]


def test_a_changed_file_is_read_again(stored):
    stored(ValueLabels(["a"], np.ones(1))).read_all()
    stored.path.write_text("22")
    assert stored(ValueLabels(["b"], np.ones(1)))["tag"].track_ids == ["b"]
    assert stored.reads == ["1", "22"]


def test_membership_reads_nothing(stored):
    labels = stored(None)
    assert "tag" in labels and "year" not in labels and len(labels) == 1
    assert stored.reads == []


def test_a_store_that_lacks_an_array_is_told(stored, tmp_path):
    stored(ValueLabels(["a"], np.ones(1))).read_all()
    (path,) = (tmp_path / "home" / "labels").glob("*/labels.npz")
    np.savez(path, values=np.ones(1))
    with pytest.raises(DataError, match=r"labels\.npz: is damaged; delete .* and prepare again"):
        stored(None)["tag"]
