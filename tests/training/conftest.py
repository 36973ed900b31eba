"""A small folder of synthetic tones with labels that can be heard, prepared once for all training tests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.corpora.prepare import prepare
from kerasrep.recipe import Recipe
from kerasrep.run_directory import PreparedDirectory

RATE_HZ = 22_050
N_TRACKS = 40


def _write_corpus(root: Path) -> None:
    rng = np.random.default_rng(7)
    rows: dict[str, list[tuple[str, ...]]] = {"tag": [], "bpm": []}
    for number in range(N_TRACKS):
        kind = number % 4
        seconds = 3.0 + 0.25 * (number % 5)
        time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
        pitch_hz = 110.0 * 2**kind * rng.uniform(0.97, 1.03)
        tone = 0.3 * np.sin(2 * np.pi * pitch_hz * time) + 0.01 * rng.normal(size=len(time))
        pan = rng.uniform(0.3, 0.7)
        soundfile.write(root / f"t{number:02d}.wav", np.stack([tone * pan, tone * (1 - pan)], 1), RATE_HZ)
        rows["tag"].append((f"t{number:02d}", ("low", "mid", "high", "top")[kind], "3"))
        if number % 3:  # a third of the tracks has no tempo
            rows["bpm"].append((f"t{number:02d}", str(80 + 30 * kind + number % 3)))
    for source, columns in (("tag", ("track", "item", "weight")), ("bpm", ("track", "value"))):
        with (root / f"{source}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows[source]])


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tones")
    _write_corpus(root)
    return root


def make_recipe(root: Path, strategy: str = "ms-cr@2", **sections: object) -> Recipe:
    """A recipe on the tones that trains in seconds."""
    values: dict[str, object] = {
        "name": "tones",
        "strategy": strategy,
        "sources": ["self", "tag", "bpm"],
        "corpus": {
            "name": "folder",
            "root": str(root),
            "tables": {"tag": "tag.csv", "bpm": "bpm.csv"},
            "validation_fraction": 0.2,
        },
        "targets": {"size": 4},
        "model": {"width": 0.25},
        "batches": {"size": 8},
        "training": {"epochs": 2, "learning_rate": 1e-3},
        "seed": 3,
    }
    for name, value in sections.items():
        merged = {**values[name], **value} if isinstance(value, dict) and name in values else value  # type: ignore[dict-item]
        values[name] = merged
    return Recipe.model_validate(values)


@pytest.fixture(scope="session")
def prepared_tones(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDirectory:
    import os

    before = os.environ.get("KERASREP_HOME")
    os.environ["KERASREP_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        return prepare(make_recipe(tones), progress=False)
    finally:
        if before is None:
            del os.environ["KERASREP_HOME"]
        else:
            os.environ["KERASREP_HOME"] = before
