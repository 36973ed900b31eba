"""The trunk that comes with kerasrep."""

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import regenerate_starter

from kerasrep import constants
from kerasrep.data.recordings import first_of_each, read_identities
from kerasrep.embedding.embedder import Embedder, load
from kerasrep.errors import ExportError
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.serving import folder, warmup
from kerasrep.serving.check import check_operations
from kerasrep.serving.warmup import plucked_scale
from kerasrep.storage.export_directory import (
    ServingFolder,
    card_path,
    default_model,
    find_version,
    read_card,
    read_card_file,
    trained_on,
    warmup_path,
)

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "exported" / "starter"


def shipped_version():
    """What setup.py says, which is not imported."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    return values["STARTER_VERSION"]


VERSION = STARTER / shipped_version()


@pytest.fixture(scope="module")
def card():
    return read_card(VERSION)


def test_it_is_the_default_model():
    assert default_model().parent == STARTER


def test_its_card_is_complete(card):
    assert card == read_card_file(ServingFolder(STARTER).card)
    assert (card.strategy, card.weights, card.default_layers) == ("ms-sr@fc", "float16", "all")
    assert (card.segment_dimension, card.track_dimension, card.default_dimension) == (256, 512, 5888)
    assert set(card.scores["validation"]["sources"]) == set(card.sources)
    assert {task for task in constants.DOWNSTREAM_TASKS if task.startswith("demo_")} == set(
        card.scores["downstream"]
    )
    assert any(line.startswith("Trained on 690 recordings under these licences: ") for line in card.licence)
    assert card.training_data["corpus"] == "folder"
    assert len(card.training_data["fingerprint"]) == 16
    assert 0 < card.check["largest_difference"] < 1e-3  # of a vector's length, whitened and in half precision


def test_its_recipe_makes_it_again(card):
    """Settings that came later than the card have their defaults; where it is exported is no part of it."""
    recorded = Recipe.model_validate_json(json.dumps(card.recipe))
    recipe = read_recipe(ROOT / "recipes" / "starter.yaml")
    assert recipe.model_copy(update={"export": recorded.export}) == recorded


def test_its_recipe_leaves_the_shipped_version_and_its_card_alone(card):
    recipe = read_recipe(ROOT / "recipes" / "starter.yaml")
    assert recipe.export_name != card.name == STARTER.name
    if (ROOT / ".git").exists():
        place = f"{recipe.export.directory}/{recipe.export_name}/card.json"
        assert subprocess.run(["git", "check-ignore", "-q", place], cwd=ROOT, check=False).returncode == 0


def test_it_learnt_something(card):
    for name, task in card.scores["downstream"].items():
        scores = {label: score["mean"] for label, score in task["scores"].items()}
        ours = scores[f"starter/{VERSION.name}"]
        assert ours > scores["random"], name
        assert ours > scores["mfcc"], name


def test_its_folder_is_valid_and_its_requests_replay():
    import tensorflow as tf

    folder.check_folder(ServingFolder(STARTER))
    check_operations(VERSION)
    assert warmup.replay(warmup_path(VERSION), tf.saved_model.load(str(VERSION)).signatures) == {
        "serving_default": 2,
        "embed_track": 2,
    }


def test_a_flipped_bit_of_any_file_is_told_before_it_is_loaded(tmp_path):
    copy = shutil.copytree(default_model(), tmp_path / "1")
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path != card_path(copy))
    assert len(files) == 7
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
        with pytest.raises(ExportError, match=rf"^{re.escape(str(path))}: is not the one that its card"):
            load(copy)
        path.write_bytes(whole)
    (copy / "fingerprint.pb").unlink()
    with pytest.raises(ExportError, match=r"fingerprint\.pb: is missing; copy the export again"):
        load(copy)


def test_it_tells_sounds_apart():
    import kerasrep

    embedder = kerasrep.load(STARTER)
    one, other = (plucked_scale(embedder.segment_samples, embedder.sample_rate_hz, first) for first in (0, 3))
    vectors = embedder.embed_segments(np.stack([one, 0.9 * one, other]))
    assert np.isfinite(vectors).all()
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    assert distances[1] < 0.5 * distances[2]


def test_its_weights_are_those_that_were_shipped():
    import kerasrep
    from kerasrep.embedding.baselines.untrained import load_untrained

    computed = regenerate_starter.compute(kerasrep.load(VERSION))
    untrained = regenerate_starter.compute(Embedder(load_untrained(VERSION, 0)))
    with np.load(regenerate_starter.REFERENCE, allow_pickle=False) as reference:
        assert set(reference.files) == set(computed)
        for name in reference.files:
            np.testing.assert_allclose(computed[name], reference[name], atol=1e-4)
            assert np.abs(untrained[name] - reference[name]).max() > 0.1  # or anything would pass


def test_git_keeps_the_shipped_version_and_no_other():
    def ignored(path):
        done = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        return done.returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    kept = [path for path in VERSION.rglob("*") if path.is_file()] + [STARTER / "card.json"]
    assert not [path for path in kept if ignored(path.relative_to(ROOT))]
    for path in ("exported/starter/99", "exported/starter/runtimes", "exported/mss/1"):
        assert ignored(f"{path}/saved_model.pb")


def test_what_is_shipped_is_the_newest_and_small():
    assert find_version(STARTER) == VERSION
    assert f"graft exported/starter/{VERSION.name}\n" in (ROOT / "MANIFEST.in").read_text()
    assert sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file()) < 16e6


def test_a_wheel_has_it_inside_the_package(tmp_path):
    """What `build_py` puts into a wheel, built beside the tree and not in it."""
    pytest.importorskip("setuptools")
    command = [
        "setup.py",
        "-q",
        "egg_info",
        "--egg-base",
        tmp_path,
        "build_py",
        "--build-lib",
        tmp_path / "lib",
    ]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    shipped = tmp_path / "lib" / "kerasrep" / "exported" / "starter"
    found = {path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file()}
    wanted = {path.relative_to(STARTER) for path in VERSION.rglob("*") if path.is_file()}
    assert wanted <= found
    assert Path(VERSION.name, "saved_model.pb") in found
    assert {path.parts[0] for path in found if len(path.parts) > 1} == {VERSION.name}
    for path in wanted:
        assert (shipped / path).read_bytes() == (STARTER / path).read_bytes()


def test_it_has_at_most_sixteen_megabytes():
    sizes = {path.relative_to(VERSION): path.stat().st_size for path in VERSION.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 16_000_000
    assert sizes[Path("assets.extra", "tf_serving_warmup_requests")] <= 500_000


def test_it_tells_what_it_was_trained_on(card):
    path = trained_on(STARTER)
    assert card.files["assets.extra/identities.npz"] == hashlib.sha256(path.read_bytes()).hexdigest()
    known = read_identities(path)
    assert (known.lengths > 0).sum() > 600  # stretches of real music
    first = first_of_each(known)
    copies = np.flatnonzero((first != np.arange(len(known))) & (known.lengths > 0))
    assert len(copies) < 0.02 * len(known)  # prints are not taken for each other
