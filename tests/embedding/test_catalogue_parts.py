"""Parts, whoever writes them: whole or not there, taken in once, and only where they are what is wanted."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from kerasrep.embedding.catalogue import parts
from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.listing import Listing
from kerasrep.embedding.catalogue.parts import Listed, PartWriter, parts_in, read_part
from kerasrep.embedding.catalogue.work import chunks
from kerasrep.errors import RecipeError, RunError

ABOUT = About("m", "f", ("shared",), ("shared",), "mean", 2.5, 2.5, 22_050, "soundfile", "0.1.0")


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".parts").mkdir()
    return tmp_path / ".parts"


def listing_of(folder, names=("a", "b", "c", "missing")):
    return Listing((folder.parent / name for name in names), folder, ABOUT)


def publish(folder, names=("a", "b"), about=ABOUT, failed=()):
    """Write parts; returns where they are."""
    files = {file.path.name: file for file in listing_of(folder).waiting()}
    published = []
    writer = PartWriter(folder, about.to_json(), 4, published.append)
    for name in names:
        writer.add(files[name], np.full((2, 4), ord(name), np.float32))
        writer.add(files[name], np.full((1, 4), ord(name) + 0.5, np.float32))
        writer.end(files[name], *((None, "cannot \udc80") if name in failed else (7.5,)))
    writer.publish()
    return published


def rows(listing):
    return [
        (Path(block.paths[0]).name, block.start_seconds.tolist(), block.embeddings[:, 0].tolist())
        for block in listing.rows(2.5)
    ]


def waiting(listing):
    return [file.path.name for file in listing.waiting()]


def test_work_goes_on_while_a_part_is_written_and_the_next_part_waits_for_it(folder, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 8)  # every addition is a part
    (file, *_), may_end, written = listing_of(folder).waiting(), threading.Event(), []

    def published(part):
        assert may_end.wait(60)
        written.append(part)

    writer = PartWriter(folder, ABOUT.to_json(), 4, published)
    writer.add(file, np.zeros((1, 4), np.float32))
    assert not written  # and yet it has returned
    may_end.set()
    writer.add(file, np.ones((1, 4), np.float32))
    assert len(written) == 1
    writer.end(file, 7.5)
    writer.publish()
    assert written == parts_in(folder)
    assert np.concatenate([read_part(part).values for part in written])[:, 0].tolist() == [0, 1]


def test_of_files_that_lie_in_the_same_parts_in_another_order_each_row_is_read_once(folder, monkeypatch):
    monkeypatch.setattr(parts, "GROUP_BYTES", 2 * 4 * 4)  # two rows
    names = [f"{number:02d}" for number in range(40)]
    for name in names:
        (folder.parent / name).write_text(name)
    listing, n_read = listing_of(folder, names), []
    files = list(listing.waiting())
    order = np.random.default_rng(0).permutation(len(files))
    for numbers in np.split(order, 2):
        writer = PartWriter(folder, ABOUT.to_json(), 4, listing.take)
        for number in numbers:
            writer.add(files[number], np.full((3, 4), number, np.float32))
            writer.end(files[number], 7.5)
        writer.publish()
    real = parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_group", lambda *given: n_read.append(given[1]) or real(*given)
    )
    found = [(name, value) for name, _, values in rows(listing) for value in values]
    assert found == [(name, number) for number, name in enumerate(names) for _ in range(3)]
    assert len(n_read) == sum(parquet.ParquetFile(path).num_row_groups for path in parts_in(folder)) == 60


def test_what_went_wrong_while_a_part_was_written_is_told_with_the_next_one(folder, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 8)
    file, *_ = listing_of(folder).waiting()

    def published(part):
        raise RunError("no room")

    writer = PartWriter(folder, ABOUT.to_json(), 4, published)
    writer.add(file, np.zeros((1, 4), np.float32))
    with pytest.raises(RunError, match="no room"):
        writer.add(file, np.zeros((1, 4), np.float32))
    with pytest.raises(RunError, match="no room"):
        writer.publish()


def test_a_part_is_taken_in_with_its_rows_in_the_order_of_the_list(folder):
    listing = listing_of(folder)
    (part,) = publish(folder, ("c", "b"))
    assert listing.take(part) == [7.5, 7.5]
    assert rows(listing) == [("b", [0, 2.5, 5], [98, 98, 98.5]), ("c", [0, 2.5, 5], [99, 99, 99.5])]
    assert waiting(listing) == ["a", "missing"]
    assert (listing.n_waiting, listing.n_rows()) == (2, 6)


def test_a_file_in_the_parts_of_two_writers_counts_once(folder):
    listing = listing_of(folder)
    (first,), (second,) = publish(folder), publish(folder, ("b", "c"))
    assert listing.take(first) == [7.5, 7.5]
    assert listing.take(first) == []
    assert listing.take(second) == [7.5]
    assert [name for name, _, _ in rows(listing)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_part_is_told_and_removed_and_its_files_wait(folder, damage, capsys):
    (path,) = publish(folder)
    content = bytearray(path.read_bytes())
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1  # the last byte of the values
    path.write_bytes(content if damage == "flipped" else content[:-100])
    listing = listing_of(folder)
    listing.take_leftovers()
    assert listing.n_waiting == 4 and not path.exists()
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: is damaged (") and said.endswith("; its files are done again\n")


def test_a_file_counts_only_with_all_its_rows(folder, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    published = publish(folder)
    assert len(published) == 5
    listing = listing_of(folder)
    assert [listing.take(part) for part in published] == [[], [], [7.5], [], [7.5]]
    assert rows(listing) == [
        ("a", [0, 2.5], [97, 97]),
        ("a", [5], [97.5]),
        ("b", [0, 2.5], [98, 98]),
        ("b", [5], [98.5]),
    ]
    published[3].unlink()
    again = listing_of(folder)
    again.take_leftovers()
    assert waiting(again) == ["b", "c", "missing"]


def test_rows_of_a_file_that_did_not_end_do_not_count(folder):
    file = next(listing_of(folder).waiting())
    writer = PartWriter(folder, ABOUT.to_json(), 4, lambda part: None)
    writer.add(file, np.zeros((2, 4), np.float32))
    writer.publish()
    publish(folder, ("a",))
    listing = listing_of(folder)
    listing.take_leftovers()
    assert rows(listing) == [("a", [0, 2.5, 5], [97, 97, 97.5])]


def test_parts_of_other_settings_are_refused_and_files_that_changed_wait(folder):
    publish(folder)
    (folder.parent / "a").write_text("changed")
    listing = listing_of(folder)
    listing.take_leftovers()
    assert waiting(listing) == ["a", "c", "missing"]
    publish(folder, about=dataclasses.replace(ABOUT, model="elsewhere"))
    listing_of(folder).take_leftovers()  # the same network from another path
    publish(folder, about=dataclasses.replace(ABOUT, pool="none"))
    with pytest.raises(RecipeError, match=r"another pool \(none, now mean\)"):
        listing_of(folder).take_leftovers()


def test_bad_files_are_told_once_and_tried_again_by_the_next_call(folder):
    (path,) = publish(folder, ("a", "b"), failed=("a",))
    assert [(entry.seconds, entry.reason, entry.n_rows) for entry in read_part(path).entries] == [
        (None, "cannot \\x80", 0),
        (7.5, None, 3),
    ]
    listing = listing_of(folder)
    assert listing.take(path) == [None, 7.5]
    assert [(bad.path.name, bad.reason) for bad in listing.bad()] == [("a", "cannot \\x80")]
    again = listing_of(folder)
    again.take_leftovers()
    assert waiting(again) == ["a", "c", "missing"]


def test_beginning_anew_forgets_parts(folder):
    publish(folder)
    listing = listing_of(folder)
    listing.take_leftovers(restart=True)
    assert listing.n_waiting == 4 and not parts_in(folder)


def test_a_part_appears_whole_or_not_at_all(folder, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parts.parquet, "write_table", full)
        with pytest.raises(RunError, match="the disk is full"):
            publish(folder)
    assert list(folder.iterdir()) == []


def test_chunks_are_consecutive_and_bounded_in_files_and_bytes():
    sizes = [1, 1, 1, 300 << 20, 1, -1, 200 << 20, 100 << 20]
    files = [Listed(Path(str(number)), size, 0) for number, size in enumerate(sizes)]
    found = [[int(file.path.name) for file in chunk] for chunk in chunks(files, 2)]
    assert found == [[0, 1], [2], [3], [4, 5], [6], [7]]
    assert list(chunks([], 2)) == []
