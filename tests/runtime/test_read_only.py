"""Installed where nothing can be written, with a home folder that cannot be written either."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import piece

from kerasrep.storage.export_directory import default_model

ROOT = Path(__file__).parents[2]
RECIPE = """
strategy: ss-r
sources: [tag]
corpus: {name: folder, root: ., tables: {tag: tags.tsv}, validation_fraction: 0.3}
targets: {size: 2}
batches: {size: 2}
training: {epochs: 1}
"""


def words_before():
    """Root may write everywhere, unless it gives that up."""
    if os.name != "posix":
        pytest.skip("permissions are not those of POSIX")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not installed")
    return ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]


def lock(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)


@pytest.fixture
def kerasrep(tmp_path):
    """A function that runs a command of a read-only installation, in a folder with six recordings."""
    site, home, work = tmp_path / "site-packages", tmp_path / "home", tmp_path / "work"
    shutil.copytree(ROOT / "kerasrep", site / "kerasrep", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(default_model().parent, site / "kerasrep" / "exported" / "starter")
    home.mkdir()
    work.mkdir()
    for number in range(6):
        soundfile.write(work / f"t{number}.wav", piece(number, seconds=5), 22_050)
    (work / "tags.tsv").write_text("track\titem\n" + "".join(f"t{n}\t{'ab'[n % 2]}\n" for n in range(6)))
    (work / "recipe.yaml").write_text(RECIPE)
    before = words_before()
    lock(site)
    lock(home)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*before, "touch", str(site / "x")], check=True, capture_output=True)
    kept = {
        name: value for name, value in os.environ.items() if name not in {"KERASREP_HOME", "XDG_CACHE_HOME"}
    }

    def run(command, *arguments, **variables):
        code = f"import sys; from kerasrep.cli.{command} import entry; sys.exit(entry())"
        done = subprocess.run(
            [*before, sys.executable, "-c", code, *arguments],
            cwd=work,
            env=kept | {"PYTHONPATH": str(site), "HOME": str(home)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    yield run
    assert list(home.iterdir()) == []
    assert not list(site.rglob("__pycache__"))
    for path in (site, home):
        for folder in (path, *path.rglob("*")):
            folder.chmod(folder.stat().st_mode | 0o200)  # so that pytest can remove them


def test_embedding_and_search_work_where_nothing_but_the_output_can_be_written(kerasrep, tmp_path):
    done = kerasrep("embed", ".", "-o", "x.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "work" / "x.npz")["embeddings"].shape == (6, 5888)
    found = kerasrep("search", "x.npz", "t3.wav")
    assert found.returncode == 0 and "nearest to t3.wav" in found.stdout
    refused = kerasrep("prepare", "recipe.yaml")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1 and "set KERASREP_HOME to another folder" in refused.stderr


@pytest.mark.slow
def test_training_works_into_folders_that_can_be_written(kerasrep, tmp_path):
    done = kerasrep("train", "recipe.yaml", KERASREP_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "exported" / "recipe" / "1" / "saved_model.pb").is_file()
    done = kerasrep("embed", "t0.wav", "--model", "exported/recipe", "-o", "y.npz")
    assert done.returncode == 0, done.stderr
