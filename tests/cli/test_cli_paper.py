"""The paper's recipes on a synthetic Million Song root: prepared and trained by one command each."""

import contextlib
import json
from pathlib import Path

import pytest

from kerasrep.cli import train
from kerasrep.recipe.file import read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "paper"
PAPER = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "paper-study")  # which is no single run


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_recipe_of_the_paper_takes_two_steps(path, small_root, tmp_path):
    """48 training tracks at most make two batches of 20 an epoch."""
    overrides = ["training.epochs=1", "batches.size=20", "model.width=0.125", "targets.plsa_iterations=20"]
    with contextlib.chdir(tmp_path):
        code = train.main([str(path), f"corpus.root={small_root.root}", "corpus.seed=1", *overrides])
    assert code == 0
    (root,) = (tmp_path / "runs" / path.stem).iterdir()
    assert json.loads((root / "card.json").read_text())["ended"] == "done"
    assert (tmp_path / "exported" / path.stem / "1" / "saved_model.pb").is_file()
    assert read_recipe(root / "recipe.yaml").sources == read_recipe(path).sources
