"""`.keras` files of earlier and later releases, as the Keras that is installed reads them."""

from __future__ import annotations

import inspect
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

_CONFIG = "config.json"
_QUANTIZATION = "quantization_config"
_QUANTIZES = _QUANTIZATION in inspect.signature(keras.layers.Dense.__init__).parameters


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file, whichever Keras wrote it; nothing in the file is executed.

    Keras 3.14 and later refuse what kerasrep wrote before them, the mean of each mel band as [1, 1, mels, 1];
    Keras 3.10 refuses a setting that later ones write into layers even where it says nothing.

    Args:
        path: The file. Kapre's and kerasrep's layers are registered already.

    Raises:
        Exception: Of any kind, where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read(_CONFIG))
    if not sum([_rewrite(settings) for settings in _layers(config)]):
        return keras.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                new.writestr(name, json.dumps(config) if name == _CONFIG else old.read(name))
        return keras.models.load_model(copy, compile=False)


def _rewrite(layer: dict[str, Any]) -> bool:
    """Change the settings of a layer to what this Keras reads; tell whether that was needed."""
    settings, changed = layer["config"], False
    if layer["class_name"] == "Normalization" and np.ndim(settings["mean"]) == 4:
        settings["axis"] = [2, 3]
        for name in ("mean", "variance"):
            settings[name] = settings[name][0][0]
        changed = True
    if not _QUANTIZES and settings.get(_QUANTIZATION, "") is None:
        del settings[_QUANTIZATION]
        changed = True
    return changed


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """All objects in a configuration: dicts of `class_name`, `config` and more."""
    if isinstance(config, dict):
        if "class_name" in config and isinstance(config.get("config"), dict):
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _layers(part)
