"""Everything that can be judged on downstream tasks, behind one interface.

Opening a representation reads cards and hashes files; models are loaded when something must be embedded, so
that a run whose embeddings are all cached never starts TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep import constants
from kerasrep.embedding.baselines import untrained
from kerasrep.embedding.embedder import TRACK_EMBEDDING_VERSION, Embedder
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import WHAT_A_MODEL_IS, default_layers, find_model, load_export, load_run
from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe.faults import nearest
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.export_directory import SAVED_MODEL_FILE, STARTER, default_model, read_card, trained_on
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import RunDirectory
from kerasrep.storage.segment_vector import LAST, layers_text, parse_layers

RANDOM, MFCC, MUSICNN, HEAR, VECTORS = "random", "mfcc", "musicnn", "hear", "vectors"
#: What `open_representation` takes beside paths.
FORMS = ("random", "random:SEED", "mfcc", "musicnn", "hear:MODULE", "hear:MODULE:WEIGHTS", "vectors:TABLE")
SEED_LIMIT = 2**31


class Representation(Protocol):
    """What turns recordings into vectors.

    Attributes:
        name: Short, for tables; unique among representations opened together.
        dimension: Dimensions of an embedding. May load the model.
        fingerprint: Hexadecimal digits that change with the weights, the settings or the code.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def dimension(self) -> int: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """Embed one recording, [samples] or [samples, channels]; returns float32 [dimension]."""

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """Embed files; yields one result a file, in the order of `paths`."""


class ModelRepresentation:
    """An export, a run or a `.keras` file.

    Args:
        path: Of the model; an export's is that of its newest version afterwards.
        name: In tables; the last two parts of the path, and the layers, by default.
        layers: See `kerasrep.load`.

    Raises:
        ExportError: Where `path` is no model.
        RunError: Where a run has no trained weights yet.
        RecipeError: Where there is no such layer.
    """

    def __init__(self, path: Path, name: str | None = None, layers: str | None = None) -> None:
        self._load, self.path = find_model(path)
        self._default_layers = default_layers(path)
        self.layers = layers_text(parse_layers(layers or self._default_layers))
        self.name = name or self.named(path_names([self.path])[0])
        self.fingerprint = self._of_layers(model_fingerprint(path))

    def named(self, name: str) -> str:
        """A name that tells the layers, where they are others than the model's own."""
        return name if self.layers == self._default_layers else f"{name}:{self.layers}"

    def _of_layers(self, of_model: str) -> str:
        """The fingerprint of a model, with that of the layers behind it."""
        return of_model if self.layers == LAST else of_model + fingerprint(self.layers)

    @cached_property
    def dimension(self) -> int:
        """512 a branch; only for a `.keras` file or pooled layers the model is loaded."""
        if self.layers != LAST:
            return self.embedder.dimension
        if self._load is load_export:
            return read_card(self.path).track_dimension
        if self._load is load_run:
            recipe = read_recipe(RunDirectory(self.path).recipe)
            branches = 1 if recipe.strategy == "ms-sr@fc" else len(recipe.sources)
            return 2 * constants.EMBEDDING_SIZE * branches
        return self.embedder.dimension

    @property
    def trained_on(self) -> Path | None:
        """Where the identities of the recordings that it was trained on lie, if they were kept."""
        return trained_on(self.path)

    @cached_property
    def embedder(self) -> Embedder:
        """The loaded model."""
        return Embedder(self._load(self.path), self.layers)

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        return self.embedder.embed(waveform, sample_rate_hz)

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """See `stream.embed_in_order`."""
        if not paths:
            return iter(())
        return self.embedder.embed_in_order(paths)


class UntrainedRepresentation(ModelRepresentation):
    """The network of a reference model with initial weights; see `baselines.untrained`.

    Args:
        reference: Path of the model whose network and standardisation it takes.
        seed: Of the weights.
        layers: See `kerasrep.load`.
    """

    def __init__(self, reference: Path, seed: int, layers: str | None = None) -> None:
        self._load, self.path = find_model(reference)
        self._default_layers = default_layers(reference)
        self.layers = layers_text(parse_layers(layers or self._default_layers))
        self.name = self.named(RANDOM if seed == 0 else f"{RANDOM}:{seed}")
        self._reference, self._seed = reference, seed
        of_model = fingerprint([RANDOM, untrained.VERSION, seed, _reference_fingerprint(reference)])
        self.fingerprint = self._of_layers(of_model)

    @property
    def trained_on(self) -> Path | None:
        """Nothing."""
        return None

    @cached_property
    def embedder(self) -> Embedder:
        """The network, built."""
        return Embedder(untrained.load_untrained(self._reference, self._seed), self.layers)


def open_representation(spec: str, *, reference: Path | None = None) -> Representation:
    """Open one representation.

    Args:
        spec: Path of an export, a run or a `.keras` file, or `starter`, with layers behind a colon where
            they are not its own (`exported/mss:all`); or one of `FORMS`. A path that is spelt like a form
            needs `./` in front.
        reference: Model whose network `random` takes, and likewise its layers; by default the trunk that
            comes with kerasrep.

    Returns:
        The representation, its model not yet loaded.

    Raises:
        RecipeError: Where `spec` is neither.
        DataError: Where what a baseline needs is missing.
        ExportError: Where a model is damaged.
        RunError: Where a run has no trained weights yet.
    """
    form, _, rest = spec.partition(":")
    if form == RANDOM:
        return _open_random(spec, rest, reference)
    if spec == MFCC:
        from kerasrep.embedding.baselines.mel import Mfcc

        return Mfcc()
    if spec == MUSICNN:
        from kerasrep.embedding.baselines.musicnn import Musicnn

        return Musicnn()
    if form == HEAR:
        return _open_hear(spec, rest)
    if form == VECTORS:
        from kerasrep.embedding.baselines.vectors import Vectors

        return Vectors(Path(rest))
    if not is_path(spec):
        raise RecipeError(_unknown(spec))
    path, layers = path_and_layers(spec)
    return ModelRepresentation(path, layers=layers)


def open_representations(specs: Sequence[str], *, reference: Path | None = None) -> list[Representation]:
    """Open several representations, each under a name of its own.

    Args:
        specs: As `open_representation` takes them. Models of one name in different folders get as many
            parts of their paths as tell them apart.
        reference: Model whose network `random` takes; by default the first path among `specs`, or the trunk
            that comes with kerasrep.

    Raises:
        RecipeError: Where one of them is unknown or stands twice; and whatever `open_representation` raises.
    """
    paths = [Path(spec) for spec in specs if is_path(spec)]
    reference = reference or next(iter(paths), None)
    opened = [open_representation(spec, reference=reference) for spec in specs]
    _name_apart(opened)
    named: dict[str, str] = {}
    for spec, one in zip(specs, opened, strict=True):
        if one.name in named:
            raise RecipeError(f"{spec}: stands twice, also as {named[one.name]}; remove one of them")
        named[one.name] = spec
    return opened


def _name_apart(opened: Sequence[Representation]) -> None:
    """Give models of one name, and HEAR weights of one name, longer names."""
    from kerasrep.embedding.baselines.hear import Hear

    models = [one for one in opened if type(one) is ModelRepresentation]
    for model, name in zip(models, path_names([model.path for model in models]), strict=True):
        model.name = model.named(name)
    hears = [one for one in opened if isinstance(one, Hear) and one.weights is not None]
    for hear, name in zip(hears, path_names([Path(str(one.weights)) for one in hears], 1), strict=True):
        hear.name = f"{HEAR}:{hear.module_name}:{name}"


def is_path(spec: str) -> bool:
    """Whether `spec` names something on disk, maybe with layers behind it, and not a baseline."""
    if spec.partition(":")[0] in {RANDOM, HEAR, VECTORS} or spec in {MFCC, MUSICNN}:
        return False
    return _exists(spec) or _exists(spec.rpartition(":")[0])


def path_and_layers(spec: str) -> tuple[Path, str | None]:
    """A path, and the layers that stand behind it after a colon; `None` stands for the model's own.

    What exists under its whole name is a path, whatever is in it.

    Raises:
        RecipeError: Where there is no such layer.
    """
    path, colon, layers = spec.rpartition(":")
    if not colon or _exists(spec) or not _exists(path):
        return Path(spec), None
    return Path(path), layers_text(parse_layers(layers))


def with_layers(spec: str, layers: str) -> str:
    """The same with layers behind it, where it is a path that names none."""
    return f"{spec}:{layers}" if _exists(spec) and is_path(spec) else spec


def _exists(path: str) -> bool:
    try:
        return bool(path) and (Path(path).exists() or path == STARTER)
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def path_names(paths: Sequence[Path], least: int = 2) -> list[str]:
    """Short names: the last `least` parts of each path, or as many as tell them apart.

    Paths that lead to the same place get the same name.
    """
    parts = [Path(os.path.realpath(path)).parts for path in paths]

    def name(number: int) -> str:
        own = parts[number]
        length = least
        while any(other != own and other[-length:] == own[-length:] for other in parts):
            length += 1
        return Path(*own[-length:]).as_posix()

    return [name(number) for number in range(len(parts))]


def model_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits of a model's files and of the code that pools segments.

    Raises:
        ExportError: Where `path` is no model.
        RunError: Where a run has no trained weights yet.
    """
    load, found = find_model(path)
    if load is load_export:
        read_card(found)  # a damaged one is better told now
        files = [found / SAVED_MODEL_FILE, *sorted((found / "variables").glob("variables.*"))]
    elif load is load_run:
        run = RunDirectory(found)
        files = [run.recipe, run.scaler, run.best, *([run.whitening] if run.whitening.is_file() else [])]
    else:
        files = [found]
    return _fingerprint_of(found, files)


def _reference_fingerprint(path: Path) -> str:
    """As `model_fingerprint`, but of a run only what an untrained network takes from it."""
    load, found = find_model(path)
    if load is not load_run:
        return model_fingerprint(path)
    run = RunDirectory(found)
    return _fingerprint_of(found, [run.recipe, run.scaler])


def _fingerprint_of(found: Path, files: Sequence[Path]) -> str:
    hashes = {}
    for file in files:
        try:
            hashes[file.name] = sha256_of(file)
        except OSError as error:
            reason = f"{file.name}: {error.strerror}"
            raise RunError(f"{found}: has no trained weights yet, or cannot be read ({reason})") from error
    return fingerprint(["model", TRACK_EMBEDDING_VERSION, hashes])


def _open_random(spec: str, seed: str, reference: Path | None) -> Representation:
    if spec != RANDOM and not (seed.isascii() and seed.isdecimal() and int(seed) < SEED_LIMIT):
        raise RecipeError(f"{spec}: the seed must be a whole number from 0 to {SEED_LIMIT - 1}")
    path, layers = path_and_layers(str(reference or default_model()))
    return UntrainedRepresentation(path, int(seed or 0), layers)


def _open_hear(spec: str, rest: str) -> Representation:
    from kerasrep.embedding.baselines.hear import Hear

    module, _, weights = rest.partition(":")
    if not module or not all(part.isidentifier() for part in module.split(".")):
        raise RecipeError(f"{spec}: write hear:MODULE or hear:MODULE:WEIGHTS, such as hear:hearbaseline")
    return Hear(module, weights or None)


def _unknown(spec: str) -> str:
    meant = nearest(spec.partition(":")[0], (RANDOM, MFCC, MUSICNN, HEAR, VECTORS))
    give = f"did you mean '{meant}'? Give" if meant else "give"
    return f"{spec}: no such model or baseline; {give} {WHAT_A_MODEL_IS}, or one of {', '.join(FORMS)}"
