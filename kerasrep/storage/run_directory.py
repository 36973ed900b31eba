"""Every file name that two stages agree on, and how JSON, text and arrays are written and read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasrep.errors import DataError, RecipeError, RunError
from kerasrep.storage import limits
from kerasrep.storage.atomic import atomic_directory as atomic_directory  # noqa: PLC0414 (for others to import)
from kerasrep.storage.atomic import atomic_file as atomic_file  # noqa: PLC0414
from kerasrep.storage.regular_file import opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Of the files that hold the model of a run.
KERAS_SUFFIX = ".keras"
#: JSON lines of what happened, in each folder that a job fills.
LOG_NAME = "log.jsonl"
#: Where runs go unless told otherwise, under the current folder.
RUNS = Path("runs")
#: Environment variable: a folder in which processes that train on the same shards note that they are sound.
CHECKED_SHARDS = "KERASREP_CHECKED_SHARDS"
#: An NPZ archive may unpack to `limits.NPZ_BYTES`, or to this many times its size, whichever is more.
MAX_UNPACKED_RATIO = 4

_STAMP = r"\d{8}-\d{6}"


def home() -> Path:
    """Where corpora and prepared data are kept: `KERASREP_HOME`, or `kerasrep` in the user's cache.

    Raises:
        RecipeError: Where neither is known.
    """
    named = os.environ.get("KERASREP_HOME")
    if named:
        return user_path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(cache, "set KERASREP_HOME to a folder that can be written") / "kerasrep"


def user_path(text: str, advice: str = "write the path in full") -> Path:
    """A path that a user has written, with `~` or `~NAME` replaced.

    Raises:
        RecipeError: Where that home folder is not known.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RecipeError(f"{text}: the home folder is not known; {advice}") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: Where the file is missing, larger than `limits.JSON_BYTES`, or not JSON.
    """
    most = limits.JSON_BYTES
    with opened(path, "a JSON file") as file:
        content = file.read(most.value + 1)
    if len(content) > most.value:
        raise DataError(f"{path}: is larger than {most.value:,} bytes; {most.advice}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error})") from error


def read_object(path: Path, **types: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        types: Key that it must have -> what its value must be.

    Raises:
        DataError: Where the file is missing, is not JSON, or holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not a JSON object; delete it, or copy it again")
    for key, wanted in types.items():
        if not isinstance(found.get(key), wanted):
            raise DataError(f"{path}: '{key}' is missing or malformed; delete the file, or copy it again")
    return found


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], compressed: bool = False) -> None:
    """Write an NPZ file, whole or not at all; the same arrays give the same bytes."""
    import numpy as np
    from numpy.lib import format as npy

    # `np.savez` leaves its archive open where the disk is full, and Python complains when it is collected.
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, np.asanyarray(array), allow_pickle=False)  # type: ignore[no-untyped-call]


def check_unpacked_size(path: Path) -> None:
    """Refuse an NPZ or `.keras` archive that unpacks to far more than it takes; our own do not.

    Raises:
        DataError: Where it does; `zipfile` reads no more of a member than it says.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(limits.NPZ_BYTES.value, MAX_UNPACKED_RATIO * path.stat().st_size):
        raise DataError(
            f"{path}: unpacks to {unpacked} bytes, which a file of its size must not; "
            f"{limits.NPZ_BYTES.advice}"
        )


@contextlib.contextmanager
def npz_faults(path: Path) -> Iterator[None]:
    """Say of an NPZ file that cannot be used what is wrong with it.

    Raises:
        DataError: In the place of whatever reading it raises.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DataError:
        raise
    # Damaged archives raise many kinds (BadZipFile, zlib.error, EOFError, struct.error, MemoryError...).
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: is not a usable NPZ file ({reason}); delete it and write it again"
        ) from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an NPZ file; nothing in it is ever executed.

    Raises:
        DataError: Where the file is missing, is no NPZ file, or holds pickled objects.
    """
    import numpy as np

    with npz_faults(path):
        check_unpacked_size(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("one array without a name")
        with loaded:
            return {name: loaded[name] for name in loaded.files}


@dataclass(frozen=True)
class Folder:
    """A folder whose files have names that several stages know.

    Attributes:
        root: The folder.
    """

    root: Path


class Inside:
    """A file or folder inside a `Folder`, by its path below the root."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, folder: Folder, owner: type[Folder]) -> Path:
        return folder.root.joinpath(*self._parts)


class PreparedDirectory(Folder):
    """Shards and targets of one corpus: `prepared/FINGERPRINT` under `home()`."""

    #: JSON, written last: its presence says that all the rest is complete.
    manifest = Inside("manifest.json")
    #: NPZ: where each track's samples lie in the shards (see `data.shards`).
    index = Inside("index.npz")
    #: NPZ: what the recording of each track of the index is known by (see `data.recordings`).
    identities = Inside("identities.npz")
    #: NPZ: soft targets of all sources (see `sources.targets`).
    targets = Inside("targets.npz")
    #: NPZ: `pool` (str), the pool of each track of the index; only where the recipe has pools.
    pools = Inside("pools.npz")
    #: JSON: top terms of each topic, means of each mixture component.
    topics = Inside("topics.json")
    #: Text: the same for people (see `sources.topics`).
    topics_text = Inside("topics.txt")
    #: PNG: the largest topics with their likeliest terms, and the components of the mixtures.
    topics_picture = Inside("topics.png")
    #: TSV with a header: track_id, split, title, artist, label (for people and the projector).
    tracks = Inside("tracks.tsv")
    #: CSV with a header: path, reason; one line a file that could not be used.
    skipped = Inside("skipped.csv")
    #: Text: tracks a source and their overlaps, and what was skipped.
    report = Inside("report.txt")
    #: HTML: the same, with the topics.
    page = Inside("report.html")
    #: JSON lines: what happened while the folder was made (see `run_log`).
    log = Inside(LOG_NAME)

    def shard(self, number: int, count: int) -> Path:
        """TFRecord file `number` of `count`."""
        return self.root / f"shard-{number:05d}-of-{count:05d}.tfrecord"


class RunDirectory(Folder):
    """Everything one run of a recipe writes."""

    #: YAML: the recipe with overrides applied and defaults filled in.
    recipe = Inside("recipe.yaml")
    #: JSON: where the shards and targets lie, and their fingerprint.
    prepared = Inside("prepared.json")
    #: NPZ: per-band `mean` and `sd` in dB, float32 [n_mels].
    scaler = Inside("scaler.npz")
    #: NPZ: what the recordings are known by that were trained on, those of `model.start` included.
    identities = Inside("identities.npz")
    #: NPZ: the latest whole training state.
    last = Inside("checkpoints", "last.npz")
    #: NPZ: the weights of the lowest validation loss (see `training.checkpoint`).
    best = Inside("checkpoints", "best.npz")
    #: NPZ: how embeddings are whitened (see `model.whitening`); only where the recipe says so.
    whitening = Inside("whitening.npz")
    #: CSV: one line an epoch.
    history = Inside("history.csv")
    #: Folder of event files.
    tensorboard = Inside("tensorboard")
    #: PNG: the strategy, with shared and branch parameters.
    picture = Inside("strategy.png")
    #: Keras file: waveform -> embeddings, best weights, float32.
    model = Inside("model.keras")
    #: JSON: versions, devices, recipe, data, time, scores, and how the run ended.
    card = Inside("card.json")
    #: JSON lines: what happened, session after session (see `run_log`).
    log = Inside(LOG_NAME)

    def messages(self, rank: int) -> Path:
        """What a worker prints that is not the chief, whose messages are on the screen."""
        return self.root / f"worker-{rank}.txt"


def new_run(runs: Path, name: str) -> RunDirectory:
    """Make `runs`/`name`/TIME, a folder of this process's own.

    TIME is later than that of all runs there, whatever the clock says: the last one is the one to resume.

    Raises:
        RunError: Where the folder cannot be made.
    """
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    before = max((_started(path) for path in (runs / name).glob("*")), default=("", 0))
    if before[0] >= stamp and re.fullmatch(_STAMP, before[0]):  # the clock was put back
        stamp, number = before[0], before[1] + 1
    while True:
        root = runs / name / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"{root}: cannot be made ({error.strerror}); choose another --run-dir") from error
        else:
            return RunDirectory(root)


def latest_run(runs: Path, name: str, file: str = "recipe.yaml", what: str = "run") -> RunDirectory:
    """The latest run of a recipe.

    Args:
        runs: Folder of all.
        name: Of the recipe.
        file: That every such folder holds.
        what: It is, for the message.

    Raises:
        RunError: Where there is none.
    """
    found = sorted((path.parent for path in (runs / name).glob(f"*/{file}")), key=_started)
    if not found:
        raise RunError(f"{runs / name}: holds no {what} to resume; start one without --resume")
    return RunDirectory(found[-1])


def _started(root: Path) -> tuple[str, int]:
    """Time and number of a run, by which runs are in order; other folders by their name."""
    found = re.fullmatch(rf"({_STAMP})(?:-(\d{{1,9}}))?", root.name)
    return (found[1], int(found[2] or 1)) if found else (root.name, 0)
