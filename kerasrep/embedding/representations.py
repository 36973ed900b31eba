"""Everything that can be judged on downstream tasks, behind one interface.

Opening a representation reads cards and hashes files; models are loaded when something must be embedded, so
that a run whose embeddings are all cached never starts TensorFlow.
"""

from __future__ import annotations

import hashlib
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
from kerasrep.embedding.models import WHAT_A_MODEL_IS, find_model, load_export, load_run
from kerasrep.embedding.stream import embed_files
from kerasrep.errors import RecipeError, RunError
from kerasrep.recipe.faults import nearest
from kerasrep.recipe.file import read_recipe
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.export_directory import SAVED_MODEL_FILE, read_card
from kerasrep.storage.run_directory import RunDirectory

RANDOM, MFCC, MUSICNN, HEAR = "random", "mfcc", "musicnn", "hear"
#: What `open_representation` takes beside paths.
FORMS = ("random", "random:SEED", "mfcc", "musicnn", "hear:MODULE", "hear:MODULE:WEIGHTS")
SEED_LIMIT = 2**31


class Representation(Protocol):
    """What turns recordings into vectors.

    Attributes:
        name: Short, for tables; unique among representations opened together.
        dimension: Values of an embedding. May load the model.
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
        name: In tables; the last two parts of the path by default.

    Raises:
        ExportError: Where `path` is no model.
        RunError: Where a run has no trained weights yet.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._load, self.path = find_model(path)
        self.name = name or path_names([self.path])[0]
        self.fingerprint = model_fingerprint(path)

    @cached_property
    def dimension(self) -> int:
        """512 a branch; only a `.keras` file has to be loaded to know it."""
        if self._load is load_export:
            return read_card(self.path).track_dimension
        if self._load is load_run:
            recipe = read_recipe(RunDirectory(self.path).recipe)
            branches = 1 if recipe.strategy == "ms-sr@fc" else len(recipe.sources)
            return 2 * constants.EMBEDDING_SIZE * branches
        return self.embedder.dimension

    @cached_property
    def embedder(self) -> Embedder:
        """The loaded model."""
        return Embedder(self._load(self.path))

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        return self.embedder.embed(waveform, sample_rate_hz)

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """See `files.embed_files`."""
        return embed_files(self.embedder, paths) if paths else iter(())


class UntrainedRepresentation(ModelRepresentation):
    """The network of a reference model with initial weights; see `baselines.untrained`.

    Args:
        reference: Path of the model whose network and standardisation it takes.
        seed: Of the weights.
    """

    def __init__(self, reference: Path, seed: int) -> None:
        self._load, self.path = find_model(reference)
        self.name = RANDOM if seed == 0 else f"{RANDOM}:{seed}"
        self._reference, self._seed = reference, seed
        self.fingerprint = fingerprint([RANDOM, untrained.VERSION, seed, _reference_fingerprint(reference)])

    @cached_property
    def embedder(self) -> Embedder:
        """The network, built."""
        return Embedder(untrained.load_untrained(self._reference, self._seed))


def open_representation(spec: str, *, reference: Path | None = None) -> Representation:
    """Open one representation.

    Args:
        spec: Path of an export, a run or a `.keras` file; or one of `FORMS`. A path that is spelt like a
            form needs `./` in front.
        reference: Model whose network `random` takes.

    Returns:
        The representation, its model not yet loaded.

    Raises:
        RecipeError: Where `spec` is neither, or `random` has no reference.
        DataError: Where what a baseline needs is missing.
        ExportError: Where a model is damaged.
        RunError: Where a run has no trained weights yet.
    """
    form, _, rest = spec.partition(":")
    if form == RANDOM:
        return _open_random(spec, rest, reference)
    if spec == MFCC:
        from kerasrep.embedding.baselines.mfcc import Mfcc

        return Mfcc()
    if spec == MUSICNN:
        from kerasrep.embedding.baselines.musicnn import Musicnn

        return Musicnn()
    if form == HEAR:
        return _open_hear(spec, rest)
    if not is_path(spec):
        raise RecipeError(_unknown(spec))
    return ModelRepresentation(Path(spec))


def open_representations(specs: Sequence[str], *, reference: Path | None = None) -> list[Representation]:
    """Open several representations, each under a name of its own.

    Args:
        specs: As `open_representation` takes them. Models of one name in different folders get as many
            parts of their paths as tell them apart.
        reference: Model whose network `random` takes; by default the first path among `specs`.

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
        model.name = name
    hears = [one for one in opened if isinstance(one, Hear) and one.weights is not None]
    for hear, name in zip(hears, path_names([Path(str(one.weights)) for one in hears], 1), strict=True):
        hear.name = f"{HEAR}:{hear.module_name}:{name}"


def is_path(spec: str) -> bool:
    """Whether `spec` names something on disk and not a baseline."""
    if spec.partition(":")[0] in {RANDOM, HEAR} or spec in {MFCC, MUSICNN}:
        return False
    try:
        return bool(spec) and Path(spec).exists()
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
        files = [run.recipe, run.scaler, run.best]
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
            with file.open("rb") as opened:
                hashes[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            reason = f"{file.name}: {error.strerror}"
            raise RunError(f"{found}: has no trained weights yet, or cannot be read ({reason})") from error
    return fingerprint(["model", TRACK_EMBEDDING_VERSION, hashes])


def _open_random(spec: str, seed: str, reference: Path | None) -> Representation:
    if spec != RANDOM and not (seed.isascii() and seed.isdecimal() and int(seed) < SEED_LIMIT):
        raise RecipeError(f"{spec}: the seed must be a whole number from 0 to {SEED_LIMIT - 1}")
    if reference is None:
        raise RecipeError(
            f"{spec}: needs a model whose network and mel standardisation it takes; name {WHAT_A_MODEL_IS} "
            "beside it"
        )
    return UntrainedRepresentation(reference, int(seed or 0))


def _open_hear(spec: str, rest: str) -> Representation:
    from kerasrep.embedding.baselines.hear import Hear

    module, _, weights = rest.partition(":")
    if not module or not all(part.isidentifier() for part in module.split(".")):
        raise RecipeError(f"{spec}: write hear:MODULE or hear:MODULE:WEIGHTS, such as hear:hearbaseline")
    return Hear(module, weights or None)


def _unknown(spec: str) -> str:
    meant = nearest(spec.partition(":")[0], (RANDOM, MFCC, MUSICNN, HEAR))
    hint = f"did you mean '{meant}'? " if meant else ""
    return f"{spec}: no such model or baseline; {hint}Give {WHAT_A_MODEL_IS}, or one of {', '.join(FORMS)}"
