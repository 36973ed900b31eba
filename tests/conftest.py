"""What all tests share: a home of their own, quiet TensorFlow, and small recipes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from kerasrep.recipe import Recipe

# Read when TensorFlow is first imported, which is after this file.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# Slow machines stall now and then, and the same examples everywhere make failures repeatable.
hypothesis.settings.register_profile("kerasrep", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("kerasrep")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep corpora and prepared data of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASREP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a recipe file and returns its path."""

    def write(content: str | bytes, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """A function that makes a small two-source recipe; keywords replace its sections."""

    def make(**sections: Any) -> Recipe:
        values = {"name": "test", "strategy": "mss-cr", "sources": ["tag", "year"], "batches": {"size": 8}}
        return Recipe.model_validate(values | sections)

    return make
