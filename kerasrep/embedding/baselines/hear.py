"""Any module with the HEAR API as a representation (Turian et al. 2022, arXiv 2203.03022).

The API is described at https://hearbenchmark.com/hear-api.html: `load_model(path)` gives a model with
`sample_rate` and `scene_embedding_size`, `get_scene_embeddings(audio, model)` takes mono audio [sounds,
samples] and gives [sounds, size]. Audio is a TensorFlow or a PyTorch tensor, whichever the model is made of.

Importing a module runs its code, with the rights of whoever runs this: name only modules that you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.decoders.plan import MIN_RATE_HZ
from kerasrep.embedding.recordings import RecordingRepresentation
from kerasrep.errors import DataError
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage import limits

#: Raised whenever the code gives other values for the same audio.
VERSION = 1
#: The API promises audio under 20 minutes; longer recordings are taken in parts, weighted by length.
PART_SECONDS = 19 * 60


class Hear(RecordingRepresentation):
    """The scene embeddings of a HEAR module.

    Attributes:
        module_name: Dotted.
        weights: What `load_model` is given; `None` for no argument.

    Raises:
        DataError: When made, where there is no such module or no such file.
    """

    workers = 1  # nothing says that a module may be called from several threads

    def __init__(self, module: str, weights: str | None = None) -> None:
        self.module_name, self.weights = module, weights
        self._place = f"hear:{module}"
        self.name = self._place if weights is None else f"{self._place}:{Path(weights).name}"
        self._code = _find_code(module, self._place)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the module's code and of the weights' bytes; weights that a module brings stay unseen."""
        weights = None if self.weights is None else _content(Path(self.weights)) or self.weights
        file, colon, layers = (self.weights or "").rpartition(":")
        if colon and weights == self.weights:  # kerasrep's own module takes layers behind a path
            weights = f"{_content(Path(file)) or file}:{layers}"
        return fingerprint(["hear", VERSION, self.module_name, _content(self._code), weights])

    @property
    def sample_rate_hz(self) -> int:
        """Rate that the model asks for; loads it."""
        return self._whole_number("sample_rate", MIN_RATE_HZ, limits.SAMPLE_RATE_HZ.value)

    @property
    def dimension(self) -> int:
        """Size that the model states; loads it."""
        return self._whole_number("scene_embedding_size", 1, 2**24)

    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """float32 [samples, 2] blocks -> float32 [scene_embedding_size]."""
        total, n_samples = np.zeros(self.dimension), 0
        for part in _mono_parts(blocks, PART_SECONDS * self.sample_rate_hz):
            total += len(part) * self._scene_embeddings(part[np.newaxis])[0].astype(np.float64)
            n_samples += len(part)
        return (total / n_samples).astype(np.float32)

    def embed_segments(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [segments, samples, 2] -> float32 [segments, scene_embedding_size], in one call."""
        return self._scene_embeddings(segments.mean(axis=2))

    def prepare(self) -> None:
        """Import the module and load its model."""
        for _ in (self.dimension, self.sample_rate_hz):
            pass

    @cached_property
    def _module(self) -> ModuleType:
        try:
            module = importlib.import_module(self.module_name)
        # Whatever a foreign module raises, SystemExit included, is its fault and told in one line.
        except (Exception, SystemExit) as error:
            raise DataError(f"{self._place}: cannot be imported ({_short(error)})") from error
        for function in ("load_model", "get_scene_embeddings"):
            if not callable(getattr(module, function, None)):
                raise DataError(f"{self._place}: has no function '{function}'; it is not a HEAR module")
        return module

    @cached_property
    def _model(self) -> Any:
        arguments = [] if self.weights is None else [self.weights]
        try:
            return self._module.load_model(*arguments)
        except (Exception, SystemExit) as error:
            raise DataError(f"{self._place}: load_model failed ({_short(error)})") from error

    def _whole_number(self, attribute: str, minimum: int, maximum: int) -> int:
        value = getattr(self._model, attribute, None)
        try:
            number = int(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = -1
        if number != value or not minimum <= number <= maximum:
            raise DataError(
                f"{self._place}: its model has {attribute} {value!r:.40}; a whole number from {minimum} to "
                f"{maximum} was expected"
            )
        return number

    def _scene_embeddings(self, sounds: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [sounds, samples] -> float32 [sounds, scene_embedding_size]."""
        try:
            embeddings = self._call(sounds)
        except Exception as error:
            raise DataError(f"{self._place}: get_scene_embeddings failed ({_short(error)})") from error
        if embeddings.shape != (len(sounds), self.dimension):
            raise DataError(
                f"{self._place}: get_scene_embeddings gives {list(embeddings.shape)}, "
                f"{[len(sounds), self.dimension]} was expected"
            )
        return embeddings

    def _call(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        if _uses_torch(self._module, self._model):
            torch = sys.modules["torch"]
            parameters = getattr(self._model, "parameters", lambda: ())
            device = next((parameter.device for parameter in parameters()), "cpu")
            with torch.no_grad():
                result = self._module.get_scene_embeddings(torch.from_numpy(audio).to(device), self._model)
        else:
            import tensorflow as tf

            result = self._module.get_scene_embeddings(tf.constant(audio), self._model)
        for step in ("detach", "cpu", "numpy"):  # PyTorch needs all three, TensorFlow the last
            result = getattr(result, step, lambda same=result: same)()
        return np.asarray(result, np.float32)


def _uses_torch(module: ModuleType, model: Any) -> bool:
    """Whether a model is PyTorch's: by its class, or else by what its module has imported."""
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is None:
        return False
    if isinstance(model, torch.nn.Module):
        return True
    if tensorflow is not None and isinstance(model, tensorflow.Module):
        return False
    imported = [value for value in vars(module).values() if isinstance(value, ModuleType)]
    return torch in imported or tensorflow not in imported


def _mono_parts(blocks: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Mix to mono and join to parts of `size` samples; a recording without samples is one silent sample."""
    held: list[NDArray[np.float32]] = []
    n_held, begun = 0, False
    for block in blocks:
        mono = block.mean(axis=1)
        while n_held + len(mono) > size:
            cut = size - n_held
            yield np.concatenate([*held, mono[:cut]])
            held, n_held, mono, begun = [], 0, mono[cut:], True
        held.append(mono)
        n_held += len(mono)
    if n_held or not begun:
        yield np.concatenate(held) if n_held else np.zeros(1, np.float32)


def _find_code(module: str, place: str) -> Path:
    """The file of a module, or the folder of a package; parents of a dotted name are imported."""
    spec: ModuleSpec | None
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:
        raise DataError(f"{place}: cannot be found ({_short(error)})") from error
    if spec is None or spec.origin is None:
        raise DataError(f"{place}: there is no module '{module}'; install it, or set PYTHONPATH")
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _content(path: Path) -> str | None:
    """SHA-256 of a file, or of all files under a folder except compiled ones; `None` where there is none."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
