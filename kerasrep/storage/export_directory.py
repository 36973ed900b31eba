"""Exports on disk: the serving folder `exported/NAME/`, its versions, and the card that says what each is.

One of them, `starter`, is the trunk that comes with kerasrep, for those who name no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kerasrep.errors import DataError, ExportError
from kerasrep.storage.regular_file import sha256_of
from kerasrep.storage.run_directory import Folder, Inside, RunDirectory, read_json
from kerasrep.storage.segment_vector import LAST, Piece

SAVED_MODEL_FILE = "saved_model.pb"
SERVING_DEFAULT = "serving_default"
EMBED_TRACK = "embed_track"

_Count = Annotated[int, Field(ge=1)]
STARTER = "starter"
#: Where recipes export to if they do not say otherwise.
EXPORTS = Path("exported")
_PACKAGE = Path(__file__).parents[1]
#: Where an installed package has it, and where a clone has it.
STARTER_PLACES = (_PACKAGE / "exported", _PACKAGE.parent / "exported")


class ExportCard(BaseModel):
    """What an export is and how to call it.

    Attributes:
        format: Of this card.
        version: Number of the version that it describes; `None` where the file does not tell.
        name: Of the export.
        strategy: How the sources share the network.
        sources: Learning sources, in recipe order.
        branches: Order of the embeddings side by side: the sources, or `shared` alone.
        sample_rate_hz: Of the waveforms.
        segment_samples: Samples a channel in one segment.
        layers: Pooled layers that it gives beside the embedding, each an output (`segment_vector.Piece`).
        segment_dimension: Values of the output `embedding` of a segment.
        track_dimension: Values of the output `embedding` of a track.
        default_layers: What an embedding is made of where nobody names layers: `last`, `all`, or some.
        default_dimension: Values of the embedding of a track that is made of them; `None` in old cards,
            where it is `track_dimension`.
        weights: Type that kernels are stored in.
        signatures: Signature -> inputs, outputs with type and shape, and what it does.
        how_to_call: Lines for people.
        recipe: As it was run; of an imported network, what a recipe would say of it.
        run: The card of the run with its scores; `None` where it has none.
        imported: What an imported network was read from; `None` for one that was trained here.
        front_end: How audio becomes what the network sees.
        training_data: Corpus and its fingerprint, tracks, hours; `None` where nothing is known of them.
        scores: `validation` by source, and `downstream` by task, where they were measured.
        licence: Lines on what may be done with the weights.
        warmup: Where the audio of the warm-up requests is from, and how many each signature has.
        versions: Library -> version that wrote the export.
        check: Largest difference from the trained model when the export was loaded back.
        files: File of the version, relative to it -> its SHA-256; empty in cards of older versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    version: _Count | None = None
    name: str
    strategy: str
    sources: tuple[str, ...]
    branches: Annotated[tuple[str, ...], Field(min_length=1)]
    layers: tuple[Piece, ...] = ()
    sample_rate_hz: _Count
    segment_samples: _Count
    segment_dimension: _Count
    track_dimension: _Count
    default_layers: str = LAST
    default_dimension: _Count | None = None
    weights: str = "float32"
    signatures: dict[str, Any]
    how_to_call: tuple[str, ...]
    recipe: dict[str, Any]
    run: dict[str, Any] | None
    imported: dict[str, Any] | None = None
    front_end: dict[str, Any] = Field(default_factory=dict)
    training_data: dict[str, Any] | None = None
    scores: dict[str, Any] = Field(default_factory=dict)
    licence: tuple[str, ...] = ()
    warmup: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str]
    check: dict[str, float]
    files: dict[str, str] = Field(default_factory=dict)


def card_path(version: Path) -> Path:
    """Where the card of a version lies; servers ignore it there."""
    return version / "assets.extra" / "card.json"


def warmup_path(version: Path) -> Path:
    """Where servers look for requests to replay before a version takes any traffic."""
    return version / "assets.extra" / "tf_serving_warmup_requests"


def identities_path(version: Path) -> Path:
    """NPZ: what the recordings are known by that a version was trained on (see `data.recordings`)."""
    return version / "assets.extra" / "identities.npz"


def trained_on(model: Path) -> Path:
    """Where the identities of a model's training lie, if anybody has kept them.

    Args:
        model: An export or a version of it, a run directory, or a `.keras` file in one.
    """
    version = find_version(model)
    if version is not None:
        return identities_path(version)
    return RunDirectory(model.parent if model.is_file() else model).identities


def read_card(version: Path) -> ExportCard:
    """Read the card of a version.

    Raises:
        ExportError: Where it is missing or malformed.
    """
    return _read_card(card_path(version), "this is not a complete kerasrep export, export the run again")


def file_digests(version: Path) -> dict[str, str]:
    """SHA-256 of every file of a version but its card, by the path relative to the version."""
    return {
        path.relative_to(version).as_posix(): sha256_of(path)
        for path in sorted(version.rglob("*"))
        if path.is_file() and path != card_path(version)
    }


def check_files(version: Path, card: ExportCard) -> None:
    """Compare the files of a version with its card: one bit of the graph can change every vector.

    Raises:
        ExportError: Where one is missing, is another, or cannot be read.
    """
    try:
        found = file_digests(version) if card.files else {}
    except OSError as error:
        raise ExportError(
            f"{error.filename}: cannot be read ({error.strerror}); check permissions"
        ) from error
    for name, digest in card.files.items():
        if found.get(name) != digest:
            what = "is not the one that its card describes (SHA-256)" if name in found else "is missing"
            raise ExportError(f"{version / name}: {what}; copy the export again, or export the run again")


def read_card_file(path: Path) -> ExportCard:
    """Read a card that somebody named, of a version or that at the top of a serving folder.

    The latter says its version; that of a version lies in a folder of that number.

    Raises:
        ExportError: Where it is missing or malformed.
    """
    return _read_card(path, "give EXPORT/card.json, or EXPORT/VERSION/assets.extra/card.json")


def _read_card(path: Path, advice: str) -> ExportCard:
    try:
        card = ExportCard.model_validate(read_json(path))
    except DataError as error:
        raise ExportError(f"{error}; {advice}") from error
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(str(part) for part in details["loc"]) or "card"
        raise ExportError(f"{path}: {key}: {details['msg']}; {advice}") from error
    version = path.absolute().parent.parent
    if card.version is None and path.absolute() == card_path(version) and _is_version_name(version.name):
        return card.model_copy(update={"version": int(version.name)})
    return card


class ServingFolder(Folder):
    """What lies beside the versions in `exported/NAME`; servers look at the numbered folders alone."""

    #: JSON: the card of the newest version, with its number as `version`.
    card = Inside("card.json")
    #: Text of a `ModelServerConfig`: which versions are served. Written once, then the user's.
    models_config = Inside("models.config")
    #: Text of `BatchingParameters`. Written once, then the user's.
    batching_parameters = Inside("batching_parameters.txt")

    def runtimes(self, number: int) -> Path:
        """Files for other runtimes than TensorFlow's, of one version."""
        return self.root / "runtimes" / str(number)

    def next_number(self) -> int:
        """The number after all that versions and files for other runtimes have.

        Raises:
            ExportError: Where that is longer than a version's may be.
        """
        taken = [*version_numbers(self.root), *version_numbers(self.root / "runtimes")]
        number = max(taken, default=0) + 1
        if not _is_version_name(str(number)):
            raise ExportError(f"{self.root}: no version can follow {number - 1}; move that away")
        return number


def version_numbers(export: Path) -> list[int]:
    """Numbers taken under `exported/NAME`, ascending, whatever lies there; none where it is missing."""
    if not export.is_dir():
        return []
    return sorted(int(entry.name) for entry in export.iterdir() if _is_version_name(entry.name))


def find_version(path: Path) -> Path | None:
    """The version that `path` stands for.

    Args:
        path: A version, or `exported/NAME`, which stands for its newest one.

    Returns:
        Folder of a SavedModel, or `None` where `path` has none.
    """
    if (path / SAVED_MODEL_FILE).is_file():
        return path
    found = [path / str(number) for number in version_numbers(path)]
    return next((v for v in reversed(found) if (v / SAVED_MODEL_FILE).is_file()), None)


def _is_version_name(name: str) -> bool:
    """Whether a server would take it for a version: decimal, without leading zeros."""
    return name.isascii() and name.isdecimal() and name == str(int(name)) and len(name) < 19


def default_model() -> Path:
    """The newest version of the trunk that comes with kerasrep.

    Raises:
        ExportError: Where there is none.
    """
    for place in STARTER_PLACES:
        version = find_version(place / STARTER)
        if version is not None:
            return version
    raise ExportError(
        f"{STARTER}: this installation lacks the trunk that comes with kerasrep (exported/{STARTER}); train "
        "one (kerasrep-train recipes/starter.yaml) and name it with --model"
    )


def model_path(named: str | Path) -> Path:
    """The path of a model: what is named.

    Where no such path exists, `starter` is the shipped trunk, and another name without folder an export in
    `exported/`, if it is there.

    Raises:
        ExportError: Where that is meant and missing.
    """
    path = Path(named)
    if path.exists():
        return path
    if path == Path(STARTER):
        return default_model()
    exported = EXPORTS / path.name
    return exported if path.name == str(path) and find_version(exported) is not None else path
