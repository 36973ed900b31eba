"""What is published: built, then installed where nothing of the repository is in reach.

Takes minutes, so that it has a mark of its own: `pytest -m package`, where pip reaches an index.
"""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import kerasrep

pytestmark = pytest.mark.package
ROOT = Path(__file__).parents[2]
#: The wheel has 15.0 MB, nine tenths of it the shipped trunk.
MOST_BYTES = 15_200_000
TRUNK = {"exported/starter/5/saved_model.pb", "exported/starter/card.json"}
DATA = {
    f"kerasrep/{name}"
    for name in ("py.typed", "serving/tf_serving_messages.binpb", "report/templates/page.html")
}


def run(*words, cwd, **variables):
    """Standard output of a command that must succeed, with nothing of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [str(word) for word in words]
    result = subprocess.run(words, cwd=cwd, env=kept | variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{words}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, made from the sdist, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The commands of an environment that holds the wheel and what its metadata ask for."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    words = ("-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt")
    run(folder / "bin" / "python", *words, f"{built[0]}[demo]", cwd=folder)
    return folder / "bin"


def test_what_is_published_is_complete_small_and_well_described(built):
    wheel, sdist = built
    run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=wheel.parent)
    names = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert names >= DATA | {f"kerasrep/{name}" for name in TRUNK}
    assert source >= DATA | TRUNK | {"LICENSE", "README.md"}
    assert any(name.endswith("LICENSE") for name in names)
    assert f"\nVersion: {kerasrep.__version__}\n" in text
    assert "\nLicense-Expression: MIT\n" in text
    assert {name.partition("/")[0] for name in names} == {"kerasrep", metadata.partition("/")[0]}
    for path in built:
        assert path.stat().st_size < MOST_BYTES


def test_every_command_answers(installed, tmp_path):
    commands = sorted(installed.glob("kerasrep-*"))
    assert len(commands) >= 9
    for command in commands:
        assert run(command, "--help", cwd=tmp_path).startswith(f"usage: {command.name}")


def test_a_file_is_embedded_by_the_shipped_trunk_as_it_is_here(installed, tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, (60_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, 22_050, subtype="FLOAT")
    run(installed / "kerasrep-embed", "a.wav", "-o", "vectors.npz", cwd=tmp_path)
    with np.load(tmp_path / "vectors.npz") as stored:
        (found,) = stored["embeddings"]
    expected = kerasrep.load(ROOT / "exported" / "starter").embed(waveform, sample_rate_hz=22_050)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_demo_recipe_trains_and_exports(installed, tmp_path):
    recipe = yaml.safe_load((ROOT / "recipes" / "mss.yaml").read_text(encoding="utf-8"))
    recipe["corpus"]["tracks"] = 60
    recipe["batches"]["size"] = 8  # lyrics has few tracks
    recipe["training"]["epochs"] = 1
    (tmp_path / "mss.yaml").write_text(yaml.safe_dump(recipe))
    run(installed / "kerasrep-train", "mss.yaml", cwd=tmp_path, KERASREP_HOME=str(tmp_path / "home"))
    (card,) = tmp_path.glob("exported/*/1/assets.extra/card.json")
    versions = json.loads(card.read_text(encoding="utf-8"))["versions"]
    assert versions["kerasrep"] == kerasrep.__version__
    assert versions["kapre"] == "0.4.1"
