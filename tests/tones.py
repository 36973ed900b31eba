"""A small folder of synthetic tones with labels that can be heard, for whatever trains; a pytest plugin."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kerasrep.recipe.schema import Recipe

if TYPE_CHECKING:
    from kerasrep.storage.run_directory import PreparedDirectory

RATE_HZ = 22_050
N_TRACKS = 40


def piece(seed: int, seconds: int = 25, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Notes with overtones that come and go at random; float32 [samples, 2] of 16-bit values."""
    rng = np.random.default_rng(seed)
    sound = 0.002 * rng.normal(size=(seconds * rate_hz, 2))
    for _ in range(4 * seconds):
        length = rng.uniform(0.2, 1.5)
        time = np.arange(round(length * rate_hz)) / rate_hz
        pitch_hz = 110 * 2 ** (rng.integers(36) / 12)
        note = sum(
            rng.uniform(0, 1) * np.sin(2 * np.pi * k * pitch_hz * time) / k
            for k in range(1, 1 + int(5_000 // pitch_hz))
        )
        start = rng.integers(len(sound) - len(time))
        sound[start : start + len(time)] += 0.1 * (note * np.exp(-3 * time / length))[:, None]
    return (np.rint(np.clip(sound, -0.99, 0.99) * 32_768) / 32_768).astype(np.float32)


def write_tones(root: Path) -> None:
    """Write 40 tracks: `tag` says the octave of the tone; `bpm` follows it, and a third has none."""
    import soundfile

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
        if number % 3:
            rows["bpm"].append((f"t{number:02d}", str(80 + 30 * kind + number % 3)))
    for source, columns in (("tag", ("track", "item", "weight")), ("bpm", ("track", "value"))):
        with (root / f"{source}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows[source]])


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tones")
    write_tones(root)
    return root


@pytest.fixture(scope="session")
def tone_values(tones: Path) -> Callable[..., dict[str, Any]]:
    """A function that makes the settings of a recipe on the tones; keywords merge into its sections.

    By default blocks are shared and others are not, with as few blocks to trace as that needs.
    """

    def make(strategy: str = "ms-cr@6", **sections: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "name": "tones",
            "strategy": strategy,
            "sources": ["self", "tag", "bpm"],
            "corpus": {
                "name": "folder",
                "root": str(tones),
                "tables": {"tag": "tag.csv", "bpm": "bpm.csv"},
                "validation_fraction": 0.2,
            },
            "targets": {"size": 4},
            "model": {"width": 0.25},
            "batches": {"size": 8},
            "training": {"epochs": 2, "learning_rate": 1e-3, "tensorboard": "scalars"},
            "seed": 3,
        }
        for name, value in sections.items():
            both_mappings = isinstance(value, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **value} if both_mappings else value
        return values

    return make


@pytest.fixture(scope="session")
def tone_recipe(tone_values: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    """A function that makes a recipe on the tones that trains in seconds."""
    return lambda *args, **sections: Recipe.model_validate(tone_values(*args, **sections))


@pytest.fixture(scope="session")
def tiny_recipe(tone_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A function that makes a recipe of two sources and the narrowest network, for all but learning."""

    def make(strategy: str = "ms-cr@6", **sections: Any) -> Recipe:
        sources = ["tag"] if strategy == "ss-r" else ["self", "tag"]
        return tone_recipe(strategy, **{"sources": sources, "model": {"width": 0.0625}, **sections})

    return make


@pytest.fixture(scope="session")
def prepared_tones(tone_recipe: Callable[..., Recipe]) -> PreparedDirectory:
    from kerasrep.api import prepare

    return prepare(tone_recipe(), progress=False)
