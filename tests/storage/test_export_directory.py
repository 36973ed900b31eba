import json

import pytest

from kerasrep.errors import ExportError
from kerasrep.storage.export_directory import (
    ServingFolder,
    card_path,
    find_version,
    read_card,
    version_numbers,
)


def make_version(path):
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"")
    return path


def test_an_export_stands_for_its_newest_version_by_number(tmp_path):
    for number in (9, 10, 2):
        make_version(tmp_path / "mss" / str(number))
    assert find_version(tmp_path / "mss") == tmp_path / "mss" / "10"


def test_a_version_stands_for_itself(tmp_path):
    version = make_version(tmp_path / "mss" / "1")
    make_version(tmp_path / "mss" / "2")
    assert find_version(version) == version


def test_folders_without_a_saved_model_are_no_version_but_keep_their_number(tmp_path):
    make_version(tmp_path / "1")
    (tmp_path / "2").mkdir()
    assert find_version(tmp_path) == tmp_path / "1"
    assert version_numbers(tmp_path) == [1, 2]


@pytest.mark.parametrize("name", ["01", "1a", "-1", "1.0", "²", ".export-1", "latest", "9" * 30])
def test_only_what_a_server_takes_for_a_version_is_one(tmp_path, name):
    make_version(tmp_path / name)
    assert version_numbers(tmp_path) == []
    assert find_version(tmp_path) is None


def test_a_missing_folder_has_no_versions(tmp_path):
    assert version_numbers(tmp_path / "none") == []
    assert find_version(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not valid JSON"),
        ("[]", "card"),
        (json.dumps({"format": 2}), "format"),
        (json.dumps({"format": 1, "name": "x"}), "strategy"),
    ],
)
def test_a_missing_or_malformed_card_is_told_in_one_line(tmp_path, content, said):
    path = card_path(tmp_path)
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    with pytest.raises(ExportError) as caught:
        read_card(tmp_path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_version_that_nobody_would_find_is_not_written(tmp_path):
    (tmp_path / "mss" / "20260101123456").mkdir(parents=True)  # as servers take them
    assert ServingFolder(tmp_path / "mss").next_number() == 20260101123457
    (tmp_path / "mss" / "runtimes" / "999999999999999999").mkdir(parents=True)
    with pytest.raises(ExportError, match="no version can follow 999999999999999999"):
        ServingFolder(tmp_path / "mss").next_number()
