"""`.keras` files of earlier releases, as any Keras of today reads them."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

_CONFIG = "config.json"


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file, whichever release wrote it; nothing in the file is executed.

    Files of kerasrep up to the one for TensorFlow 2.17 hold the mean of each mel band as [1, 1, mels, 1],
    which Keras 3.14 and later refuse.

    Args:
        path: The file. Kapre's and kerasrep's layers are registered already.

    Raises:
        Exception: Of any kind, where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read(_CONFIG))
    if not _lower_means(config):
        return keras.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                new.writestr(name, json.dumps(config) if name == _CONFIG else old.read(name))
        return keras.models.load_model(copy, compile=False)


def _lower_means(config: Any) -> bool:
    """Write means and variances of [1, 1, mels, 1] as [mels, 1] over two axes; tell whether there are any."""
    old = [settings for settings in _standardisers(config) if np.ndim(settings["mean"]) == 4]
    for settings in old:
        settings["axis"] = [2, 3]
        for name in ("mean", "variance"):
            settings[name] = settings[name][0][0]
    return bool(old)


def _standardisers(config: Any) -> Iterator[dict[str, Any]]:
    """Configurations of all `Normalization` layers."""
    if isinstance(config, dict) and config.get("class_name") == "Normalization":
        yield config["config"]
    elif isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _standardisers(part)
