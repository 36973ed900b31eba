"""The model of a run in a `.keras` file."""

from __future__ import annotations

import inspect
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kerasrep.errors import DataError, ExportError

# Their layers must be registered before a file names them; the first chooses Keras's backend.
from kerasrep.model import blocks, frontend, layers, whitening  # noqa: F401
from kerasrep.model.strategies import Scaler
from kerasrep.runtime.child_process import check_not_forked
from kerasrep.storage import limits
from kerasrep.storage.run_directory import MAX_UNPACKED_RATIO, RunDirectory, check_unpacked_size
from kerasrep.storage.segment_vector import SHARED

_WEIGHTS = "model.weights.h5"  # as Keras calls it
_SINGLE_PREFIX = "embedding_"
_CONFIG = "config.json"
_QUANTIZATION = "quantization_config"
_QUANTIZES = _QUANTIZATION in inspect.signature(keras.layers.Dense.__init__).parameters


def read_keras_file(path: Path) -> keras.Model:
    """Load whatever model a `.keras` file holds; nothing in the file is executed.

    Raises:
        ExportError: Where it cannot be loaded.
    """
    check_not_forked()
    try:
        check_unpacked_size(path)
        _check_weights(path)
        return _load_model(path)
    except DataError as error:
        raise ExportError(str(error)) from error
    # Damaged files raise anything: BadZipFile, KeyError, ValueError, TypeError...
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(f"{path}: is not a usable .keras file ({reason}); save it again") from error


def _check_weights(path: Path) -> None:
    """Refuse arrays that are far larger than the file, which compression and fill values allow."""
    sizes: list[int] = []

    def look(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise DataError(f"{path}: its array '{name}' lies in another file; not read")
            sizes.append(found.size * found.dtype.itemsize)

    with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as file, h5py.File(file, "r") as weights:
        weights.visititems(look)
    most = max(limits.NPZ_BYTES.value, MAX_UNPACKED_RATIO * path.stat().st_size)
    if sum(sizes) > most:
        raise DataError(
            f"{path}: its arrays take {sum(sizes)} bytes, which a file of its size must not; "
            f"{limits.NPZ_BYTES.advice}"
        )


def describe_model(path: Path, model: keras.Model) -> tuple[int, int, tuple[str, ...]]:
    """Rate in Hz, samples of a segment and branches of the model of a `.keras` file.

    Raises:
        ExportError: Where it is not the model of a run.
    """
    try:
        sample_rate_hz = _sample_rate_hz(model)
        outputs, segment_samples = list(model.output), int(model.inputs[0].shape[1])
        model.get_layer("trunk")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"{path}: is not the model of a kerasrep run; give {RunDirectory(path.parent).model.name} of a "
            "run directory"
        ) from error
    singles = tuple(name.removeprefix(_SINGLE_PREFIX) for name in outputs if name.startswith(_SINGLE_PREFIX))
    return sample_rate_hz, segment_samples, singles or (SHARED,)


def _sample_rate_hz(model: keras.Model) -> int:
    """The rate that the mel filters of the front end were made for."""
    mel = model.get_layer("features").get_layer("frontend").get_layer("mel")
    return int(mel.get_config()["filterbank_kwargs"]["sample_rate"])


def audio_settings(model: keras.Model) -> dict[str, int]:
    """What the front end of such a model says of `audio` in a recipe."""
    frontend_model = model.get_layer("features").get_layer("frontend")
    stft = frontend_model.get_layer("stft").get_config()
    return {
        "sample_rate_hz": _sample_rate_hz(model),
        "fft_samples": int(stft["n_fft"]),
        "hop_samples": int(stft["hop_length"]),
        "n_mels": int(model.get_layer("trunk").inputs[0].shape[2]),
    }


def scaler_of(model: keras.Model) -> Scaler:
    """What such a model standardises its mel bands by."""
    config: dict[str, Any] = model.get_layer("features").get_layer("standardise").get_config()
    mean, variance = (np.asarray(config[key], np.float32).reshape(-1) for key in ("mean", "variance"))
    return Scaler(mean, np.sqrt(variance))


def _load_model(path: Path) -> keras.Model:
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
