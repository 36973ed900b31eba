"""A table that is written while its files are embedded."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kerasrep.embedding.catalogue import writing
from kerasrep.embedding.catalogue.early import EarlyTable
from kerasrep.embedding.catalogue.layout import About, make_layout
from kerasrep.embedding.catalogue.listing import Earlier, Listing
from kerasrep.embedding.catalogue.parts import PartWriter
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.errors import StorageError

LAYOUT = make_layout(("shared",), 22_050, 55_125, pool="mean")
ABOUT = About("m", "f", ("shared",), ("shared",), "mean", 2.5, 2.5, 22_050, "soundfile", "0.1.0")
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def listing(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text(name)
    (tmp_path / ".parts").mkdir()
    return Listing((tmp_path / name for name in NAMES), tmp_path / ".parts", ABOUT)


def table_of(tmp_path, listing):
    return EarlyTable(tmp_path / "x.parquet", Earlier(), listing, LAYOUT, ABOUT)


def do(listing, *names, reason=None):
    """These files are embedded, or cannot be."""
    writer = PartWriter(listing.folder, ABOUT.to_json(), LAYOUT.dimension, listing.take)
    for file in [file for file in listing.waiting() if file.path.name in names]:
        if reason is None:
            writer.add(file, np.full((1, LAYOUT.dimension), ord(file.path.name), np.float32))
        writer.end(file, None if reason else 7.5, reason)
    writer.publish()


@pytest.fixture
def seen(monkeypatch):
    """Rows as they are written, each when it comes; `seen.wait(n)` waits until there are `n`."""

    class Seen(list):
        came = threading.Condition()

        def wait(self, n):
            with self.came:
                assert self.came.wait_for(lambda: len(self) >= n, 60)

    seen, real = Seen(), writing.write_parquet

    def write(path, blocks, *rest):
        def passed():
            for block in blocks:
                with seen.came:
                    seen.extend(block.paths)
                    seen.came.notify_all()
                yield block

        real(path, passed(), *rest)

    monkeypatch.setattr(writing, "write_parquet", write)
    monkeypatch.setattr(writing, "GROUP_BYTES", 1)
    return seen


def test_a_file_is_in_the_table_once_those_before_it_are_done_and_others_are_waited_for(
    tmp_path, listing, seen
):
    with table_of(tmp_path, listing) as table:
        do(listing, "a", "c")
        seen.wait(1)
        assert len(seen) == 1  # c waits for b
        do(listing, "b", reason="broken")
        seen.wait(2)
        do(listing, "d")
        seen.wait(3)
        assert not (tmp_path / "x.parquet").exists()
        table.finish()
    found = read_embeddings(tmp_path / "x.parquet")
    assert [path[-1] for path in found.paths] == ["a", "c", "d"]
    assert found.embeddings[:, 0].tolist() == [97, 99, 100]


@pytest.mark.parametrize("done", [(), ("a",), NAMES])
def test_work_that_ends_without_it_leaves_neither_table_nor_temporary_file(tmp_path, listing, done):
    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), table_of(tmp_path, listing):
        do(listing, *done)
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == [".parts", *NAMES]
    assert threading.active_count() == n_threads


def test_an_interrupt_while_it_is_finished_stops_it(tmp_path, listing, monkeypatch):
    begun, left = threading.Event(), threading.Event()

    def slow(path, blocks, *_rest):
        for _ in blocks:
            begun.set()
            left.wait(10)  # until the context is being left, or long enough to see that it waits for this

    def interrupted():
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_parquet", slow)
    monkeypatch.setattr(writing, "GROUP_BYTES", 1)
    with pytest.raises(KeyboardInterrupt), table_of(tmp_path, listing) as table:
        do(listing, "a", "b")
        table._written.exception = interrupted  # where `finish` waits
        real = table._end
        monkeypatch.setattr(table, "_end", lambda: (real(), left.set() if not table._wanted else None))
        table.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".parts", *NAMES]


def test_a_process_that_ends_without_leaving_its_context_does_not_hang(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_catalogue_early import ABOUT, Listing, table_of
folder = Path({str(tmp_path)!r})
table_of(folder, Listing([folder / "a"], folder / ".parts", ABOUT)).__enter__()
"""
    (tmp_path / "a").write_text("a")
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_it_could_not_be_written_early_it_is_written_at_the_end(tmp_path, listing, monkeypatch):
    real, failed = writing.write_parquet, threading.Event()

    def full_at_first(*given):
        if failed.is_set():
            return real(*given)
        failed.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_parquet", full_at_first)
    with table_of(tmp_path, listing) as table:
        assert failed.wait(60)
        do(listing, *NAMES)
        table.finish()
    assert len(read_embeddings(tmp_path / "x.parquet").paths) == 4


def test_what_keeps_it_from_being_written_is_told_when_it_is_wanted(tmp_path, listing, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_parquet", full)
    with table_of(tmp_path, listing) as table:
        do(listing, *NAMES)
        with pytest.raises(StorageError, match="the disk is full"):
            table.finish()
    assert listing.n_waiting == 0 and not (tmp_path / "x.parquet").exists()
