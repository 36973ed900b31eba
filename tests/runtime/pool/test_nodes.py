import os
from importlib import metadata

import numpy
import pytest

from kerasrep.errors import RunError
from kerasrep.runtime.pool.nodes import check_facts, check_missing, facts_function, shared_with


def test_a_node_that_sees_the_same_files_works_in_the_same_folder(tmp_path, monkeypatch):
    for name in ("here", "out"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KERASREP_HOME", "home")
    with shared_with([tmp_path / "out"], [tmp_path / "missing"]) as shared:
        monkeypatch.chdir("/")
        shared.enter("other")
        assert os.getcwd() == str(tmp_path / "here")  # noqa: PTH109
        assert os.environ["KERASREP_HOME"] == str(tmp_path / "here" / "home")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("lack", ["token", "stale token", "folder", "input"])
def test_a_node_without_the_same_file_system_is_named_with_what_it_lacks(tmp_path, monkeypatch, lack):
    out, folder, audio = tmp_path / "out", tmp_path / "here", tmp_path / "audio"
    for path in (out, folder, audio):
        path.mkdir()
    monkeypatch.chdir(folder)
    with shared_with([out], [audio]) as shared:
        monkeypatch.chdir("/")
        (token,) = out.iterdir()
        if lack == "token":
            token.unlink()
        elif lack == "stale token":
            token.write_text("of another machine, at the same place")
        else:
            {"folder": folder, "input": audio}[lack].rmdir()
        with pytest.raises(RunError) as caught:
            shared.enter("node7")
    missing = {"folder": folder, "input": audio}.get(lack, out)
    assert str(caught.value).startswith(f"--ray: node node7 does not see {missing};")


def test_a_file_that_is_here_and_not_on_a_node_is_named(tmp_path):
    check_missing("node7", [tmp_path / "gone everywhere"])
    with pytest.raises(RunError, match=f"node node7 does not see {tmp_path};"):
        check_missing("node7", [tmp_path])


def test_facts_are_those_of_the_installed_packages():
    facts = facts_function()()
    assert facts["numpy"] == numpy.__version__
    assert facts["tensorflow"] == metadata.version("tensorflow")
    assert facts["kerasrep"].startswith("with files ")


def test_a_node_with_other_packages_is_named_with_the_first_that_differs():
    here = facts_function()()
    check_facts("other", here, dict(here))
    for name, other, said in (
        ("kerasrep", "", "node other has no kerasrep, this process kerasrep with files"),
        ("soxr", "0.0.1", "node other has soxr 0.0.1, this process soxr"),
    ):
        with pytest.raises(RunError, match=said):
            check_facts("other", here, here | {name: other})
