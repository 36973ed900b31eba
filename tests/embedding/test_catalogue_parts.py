"""Parts that nodes make: whole or not there, taken in once, and only where they are what is wanted."""

from pathlib import Path

import numpy as np
import pytest

from kerasrep.embedding.catalogue.journal import DONE, WAITING, Journal
from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.on_ray import chunks, take_leftover_parts
from kerasrep.embedding.catalogue.parts import Listed, PartWriter, is_whole, parts_in, read_part

ABOUT = About("m", "f", ("shared",), ("shared",), "mean", 2.5, 2.5, 22_050, "soundfile", "0.1.0")


@pytest.fixture
def journal(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    with Journal(tmp_path / "x.parquet", ABOUT) as journal:
        journal.list_files(tmp_path / name for name in ("a", "b", "c", "missing"))
        yield journal


def publish(journal, numbers=(0, 1), settings=None, failed=()):
    listed = [list(journal.waiting())[number] for number in numbers]
    with PartWriter(listed, settings or ABOUT.to_json()) as part:
        for key, number in enumerate(numbers):
            part.add(key, 0, np.full((2, 4), number, np.float32))
            part.add(key, 2, np.full((1, 4), number + 0.5, np.float32))
            if number in failed:
                part.fail(key, "cannot \udc80")
            else:
                part.finish(key, 7.5)
        return journal.folder / part.publish(journal.folder)


def take(journal):
    seen = []
    take_leftover_parts(journal, ABOUT.to_json(), seen.append)
    return seen


def test_a_part_is_taken_in_once_with_its_rows_under_the_keys_of_the_work(journal):
    publish(journal, (2, 1))
    assert take(journal) == [7.5, 7.5]
    publish(journal, ())
    assert not parts_in(journal.folder) or take(journal) == []
    rows = [(row.path.name, row.first, row.values[:, 0].tolist()) for row in journal.rows(4)]
    assert rows == [("b", 0, [1, 1]), ("b", 2, [1.5]), ("c", 0, [2, 2]), ("c", 2, [2.5])]
    assert [listed.path.name for listed in journal.waiting()] == ["a", "missing"]


def test_the_same_part_from_two_nodes_counts_once(journal):
    first = publish(journal)
    content = first.read_bytes()
    assert take(journal) == [7.5, 7.5]
    first.write_bytes(content)
    assert take(journal) == [] and journal.count(DONE) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_part_is_left_out_and_its_files_wait(journal, damage):
    path = publish(journal)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-100])
    assert not is_whole(path)
    assert take(journal) == [] and journal.count(WAITING) == 4 and not path.exists()


def test_parts_of_other_settings_or_of_files_that_changed_are_left_out(journal, tmp_path):
    publish(journal, settings="other")
    assert take(journal) == []
    publish(journal)
    (tmp_path / "a").write_text("changed")
    journal.list_files(tmp_path / name for name in ("a", "b"))
    assert take(journal) == [7.5]
    assert [row.path.name for row in journal.rows(4)] == ["b", "b"]


def test_bad_files_of_an_earlier_call_are_tried_again(journal):
    path = publish(journal, (0, 1), failed=(0,))
    found = [(one.seconds, one.reason, len(list(one.rows))) for one in read_part(path, ABOUT.to_json())]
    assert found == [(None, "cannot \\x80", 0), (7.5, None, 2)]
    assert take(journal) == [7.5]
    assert "a" in [listed.path.name for listed in journal.waiting()]


def test_beginning_anew_forgets_parts(journal, tmp_path):
    path = publish(journal)
    journal.__exit__(None, None, None)
    with Journal(tmp_path / "x.parquet", ABOUT, restart=True):
        assert not path.exists()


def test_chunks_are_consecutive_and_bounded_in_files_and_bytes():
    sizes = [1, 1, 1, 300 << 20, 1, -1, 200 << 20, 100 << 20]
    files = [Listed(Path(str(number)), size, 0) for number, size in enumerate(sizes)]
    found = [[int(file.path.name) for file in chunk] for chunk in chunks(files, 2)]
    assert found == [[0, 1], [2], [3], [4, 5], [6], [7]]
    assert list(chunks([], 2)) == []
