"""Opening the demo corpus: from the cache, or built there first."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kerasrep.corpora.base import Corpus, Track
from kerasrep.corpora.demo import building, selection
from kerasrep.corpora.demo.catalogue import choose
from kerasrep.corpora.demo.labels import raw_labels
from kerasrep.errors import DataError, RunError
from kerasrep.recipe.corpora import DemoCorpus
from kerasrep.recipe.schema import fingerprint
from kerasrep.storage.atomic import MARK
from kerasrep.storage.run_directory import atomic_directory, home, read_json

_STALE_SECONDS = 24 * 3600


def open_demo(settings: DemoCorpus, progress: bool = True, workers: int | None = None) -> Corpus:
    """Open the corpus, building it where it is not in the cache.

    Args:
        settings: Of the corpus.
        progress: Whether to show a bar while it is built.
        workers: Processes that build it; by default one a core, 8 at most.

    Returns:
        All tracks; labels of those that train or validate only. The rest is in the manifest beside the audio.

    Raises:
        RecipeError: A collection is unknown.
        DataError: The packages of the extra `demo` are missing, or the cache is damaged.
        RunError: The cache cannot be written.
    """
    choose(settings.collections)
    identity, folder = _locate(settings)
    if not (folder / building.MANIFEST).is_file():
        _build(settings, folder, progress, workers)
    return _corpus(settings, folder, identity)


def demo_is_cached(settings: DemoCorpus) -> bool:
    """Whether `open_demo` would find the corpus built already."""
    _, folder = _locate(settings)
    return (folder / building.MANIFEST).is_file()


def demo_folder(settings: DemoCorpus) -> Path:
    """Where the corpus lies, or would lie once built."""
    return _locate(settings)[1]


def _locate(settings: DemoCorpus) -> tuple[str, Path]:
    """Fingerprint of the audio, and its folder in the cache."""
    identity = fingerprint(
        {
            "settings": settings.model_dump(mode="json", exclude={"validation_fraction"}),
            "format": building.FORMAT_VERSION,
            "packages": building.package_versions(),
        }
    )
    return identity, home() / "corpora" / f"demo-{identity}"


def _build(settings: DemoCorpus, folder: Path, progress: bool, workers: int | None) -> None:
    """Build under a temporary name; where another process was quicker, its result is taken."""
    if folder.exists():
        raise DataError(f"{folder}: has no {building.MANIFEST}, so it is not a corpus; delete the folder")
    _remove_stale(folder)
    try:
        with atomic_directory(folder) as temporary:
            building.build(settings, temporary, progress, workers)
    except RunError:
        if not (folder / building.MANIFEST).is_file():
            raise


def _remove_stale(folder: Path) -> None:
    """Remove what builds of this corpus left that were killed long ago."""
    for left in folder.parent.glob(f".{folder.name}{MARK}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _corpus(settings: DemoCorpus, folder: Path, identity: str) -> Corpus:
    manifest = read_json(folder / building.MANIFEST)
    try:
        records: list[dict[str, Any]] = manifest["tracks"]
        learning = {
            record["group"]: record["collection"]
            for record in records
            if record["split"] == selection.LEARNING
        }
        validating = selection.validation_groups(learning, settings.validation_fraction)
        for record in records:
            if record["split"] == selection.LEARNING:
                record["split"] = "validation" if record["group"] in validating else "train"
        tracks = [_track(record, folder) for record in records]
        labels = raw_labels([record for record in records if record["split"] != selection.EVALUATION])
        skipped = {str(source): str(reason) for source, reason in manifest["skipped"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{folder / building.MANIFEST}: is damaged ({error!r}); delete {folder} and start again"
        ) from error
    missing = [track.path for track in tracks if not track.path.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} audio files are missing, {missing[0].name} first; delete the folder "
            "and start again"
        )
    notices = tuple(collection.notice for collection in choose(settings.collections) if collection.notice)
    whole = fingerprint({"audio": identity, "validation_fraction": settings.validation_fraction})
    return Corpus("demo", whole, tracks, labels, notices + _skip_notice(skipped), skipped)


def _skip_notice(skipped: dict[str, str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    reason, count = Counter(skipped.values()).most_common(1)[0]
    return (f"demo: {len(skipped)} scores could not be used and were replaced ({count} of them: {reason})",)


def _track(record: dict[str, Any], folder: Path) -> Track:
    return Track(
        record["track_id"],
        folder / record["audio"],
        record["split"],
        record["title"],
        record["artist"],
        record["dance"] or record["form"],
    )
