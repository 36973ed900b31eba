from pathlib import Path

import pytest

from kerasrep.errors import ExportError
from kerasrep.storage import export_directory as starter


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of exports with two versions of the trunk, and an empty current folder."""
    for number in (1, 2):
        version = tmp_path / "exported" / starter.STARTER / str(number)
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(starter, "STARTER_PLACES", (tmp_path / "nowhere", tmp_path / "exported"))
    return tmp_path / "exported" / starter.STARTER / "2"


def test_the_bare_name_is_the_newest_shipped_version(shipped):
    assert starter.model_path("starter") == shipped


def test_a_folder_of_that_name_comes_first_and_other_names_stay(shipped):
    assert str(starter.model_path("mine/starter")) == "mine/starter"
    (shipped.parents[2] / "here" / "starter").mkdir()
    assert str(starter.model_path("starter")) == "starter"


def test_another_name_is_an_export_where_it_is_one(shipped):
    version = Path("exported", "mss", "1")
    version.mkdir(parents=True)
    assert starter.model_path("mss") == Path("mss")
    (version / "saved_model.pb").touch()
    assert starter.model_path("mss") == Path("exported", "mss")
    assert starter.model_path("mss/1") == Path("mss", "1")
    Path("mss").mkdir()
    assert starter.model_path("mss") == Path("mss")


def test_an_installation_without_it_says_so(shipped, monkeypatch):
    monkeypatch.setattr(starter, "STARTER_PLACES", ())
    with pytest.raises(ExportError, match="starter: this installation lacks the trunk"):
        starter.model_path("starter")
