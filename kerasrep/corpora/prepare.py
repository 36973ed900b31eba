"""A corpus becomes shards and targets in one folder, `prepared/FINGERPRINT` under `run_directory.home()`.

The fingerprint covers the corpus, how it is decoded, and how targets are made, but not which sources a
recipe trains on: all recipes on one corpus share one folder. `manifest.json` is written last and says
that all the rest is there; an interrupted call leaves finished shards for the next.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasrep import constants
from kerasrep.corpora import open_corpus
from kerasrep.corpora.base import Corpus
from kerasrep.data.shard_writer import (
    MAX_TRACK_SECONDS,
    AudioItem,
    WrittenShards,
    remove_parts,
    remove_temporary,
    write_shards,
)
from kerasrep.data.shards import ShardIndex, save_index
from kerasrep.errors import DataError, RunError
from kerasrep.recipe import Recipe, fingerprint
from kerasrep.run_directory import PreparedDirectory, home, read_json, write_json, write_text
from kerasrep.sources.targets import TargetSet, build_targets, restrict_labels, save_targets
from kerasrep.sources.topics import write_topics

FORMAT_VERSION = 2


def prepare(recipe: Recipe, progress: bool = True) -> PreparedDirectory:
    """Make the folder that `recipe` trains from, or return it at once where it is complete.

    Args:
        recipe: Its `corpus`, `audio`, `targets` and `seed` decide what is made.
        progress: Show bars, notices and a summary.

    Raises:
        DataError: Where the corpus cannot be used, no track is left in training or validation, or a
            source of the recipe has no training track.
        RunError: Where the folder cannot be written.
    """
    corpus = open_corpus(recipe.corpus, progress)
    _check_labels(recipe, corpus)
    settings = _settings(recipe)
    directory = _directory(corpus, settings)
    if progress:
        for notice in corpus.notices:
            print(f"note: {notice}")
    if not directory.manifest.exists():
        with _lock(directory.root, progress):
            if not directory.manifest.exists():  # another process may have made it meanwhile
                remove_temporary(directory)
                _build(recipe, corpus, directory, settings, progress)
    if progress:
        print(describe(directory), flush=True)
    _check_sources(recipe, directory)
    return directory


@dataclass(frozen=True)
class Preview:
    """What `prepare` would find, without making anything.

    Attributes:
        prepared: The folder, where it is complete already.
        training_tracks: How many to expect otherwise; `None` where only reading the corpus could tell.
    """

    prepared: PreparedDirectory | None
    training_tracks: int | None


def preview(recipe: Recipe) -> Preview:
    """Say what `prepare` would find, without building a corpus or decoding audio.

    Raises:
        DataError: Where the corpus cannot be used, or lacks a source of the recipe.
    """
    corpus_settings = recipe.corpus
    if corpus_settings.name == "million_song":
        return Preview(None, None)
    if corpus_settings.name == "demo":
        from kerasrep.corpora.demo import demo_is_cached

        if not demo_is_cached(corpus_settings):
            learning = corpus_settings.tracks * 2 / 3
            return Preview(None, round(learning * (1 - corpus_settings.validation_fraction)))
    corpus = open_corpus(corpus_settings, progress=False)
    _check_labels(recipe, corpus)
    directory = _directory(corpus, _settings(recipe))
    if directory.manifest.exists():
        return Preview(directory, None)
    return Preview(None, sum(track.split == "train" for track in corpus.tracks))


def describe(prepared: PreparedDirectory) -> str:
    """Tracks a split, tracks and target size a source, what was skipped: a few lines for people.

    Raises:
        DataError: Where the manifest is missing or malformed.
    """
    manifest = read_manifest(prepared)
    tracks, sources = manifest["tracks"], manifest["sources"]
    lines = [
        f"prepared: {prepared.root}",
        f"corpus {manifest['corpus']['name']}: {tracks['train']} tracks to train on, "
        f"{tracks['validation']} for validation, {tracks['evaluation']} reserved for evaluation, "
        f"{manifest['hours']:.2f} hours of audio",
    ]
    lines += [
        f"  {source:8} {numbers['train']:6} training tracks, {numbers['validation']:5} validation, "
        f"{numbers['size']:3} targets{_fewer(numbers)}"
        for source, numbers in sources.items()
    ]
    if manifest["skipped"]:
        lines.append(f"skipped: {manifest['skipped']} files, listed in {prepared.skipped}")
    if manifest["shortened"]:
        lines.append(f"shortened: {manifest['shortened']} tracks to their first {MAX_TRACK_SECONDS:g} s")
    return "\n".join(lines)


def _fewer(numbers: Mapping[str, int]) -> str:
    asked = numbers["requested_size"]
    return f" (the labels have no more dimensions; {asked} asked for)" if numbers["size"] < asked else ""


def read_manifest(prepared: PreparedDirectory) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: Where it is missing or malformed.
    """
    manifest = read_json(prepared.manifest)
    expected = {"corpus", "tracks", "sources", "hours", "skipped", "shortened", "fingerprint"}
    if not isinstance(manifest, dict) or not expected <= manifest.keys():
        raise DataError(
            f"{prepared.manifest}: is no manifest of prepared data; delete {prepared.root} and prepare again"
        )
    return manifest


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What the prepared files depend on, beside the corpus."""
    return {
        "sample_rate_hz": recipe.audio.sample_rate_hz,
        "segment_samples": recipe.audio.segment_samples,
        "decoder": recipe.audio.decoder,
        "targets": recipe.targets.model_dump(mode="json"),
        "seed": recipe.seed,
    }


def _directory(corpus: Corpus, settings: Mapping[str, Any]) -> PreparedDirectory:
    digits = fingerprint([FORMAT_VERSION, corpus.fingerprint, settings])
    return PreparedDirectory(home() / "prepared" / digits)


@contextlib.contextmanager
def _lock(root: Path, progress: bool) -> Iterator[None]:
    """Hold the folder's lock file; the system releases it when the process ends, however it ends."""
    path = root.with_name(f".{root.name}.lock")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        reason = f"cannot write there ({error.strerror}); set KERASREP_HOME to another folder"
        raise RunError(f"{root}: {reason}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                print(f"waiting for another process that prepares {root}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        root.mkdir(exist_ok=True)
        yield


def _build(
    recipe: Recipe, corpus: Corpus, directory: PreparedDirectory, settings: Mapping[str, Any], progress: bool
) -> None:
    """Write every file of `directory`, the manifest last."""
    items = [
        AudioItem(track.track_id, track.path, track.split)
        for track in corpus.tracks
        if track.split != "evaluation"
    ]
    shards = write_shards(directory, items, recipe.audio, progress=progress)
    for split in ("train", "validation"):
        if not len(shards.index.rows(split)):
            shutil.rmtree(directory.root, ignore_errors=True)
            raise DataError(_none_left(corpus, shards, split))
    _write_skipped(directory, corpus, shards)
    save_index(directory, shards.index)
    train_ids = shards.index.track_ids[shards.index.rows("train")].tolist()
    labels = restrict_labels(corpus.labels, shards.index.track_ids.tolist())
    targets = build_targets(labels, train_ids, recipe.targets, recipe.seed, progress)
    save_targets(directory.targets, targets)
    write_topics(directory, targets.report)
    _write_tracks(directory, corpus, shards)
    write_json(directory.manifest, _manifest(corpus, directory, settings, shards, targets))
    remove_parts(directory)


def _none_left(corpus: Corpus, shards: WrittenShards, split: str) -> str:
    in_split = [track for track in corpus.tracks if track.split == split]
    message = f"corpus '{corpus.name}': none of its {len(in_split)} {split} tracks can be used"
    for track in in_split:
        if track.track_id in shards.skipped:
            return f"{message}; the first, {track.path}: {shards.skipped[track.track_id]}"
    return f"{message}; add tracks or change the split's fraction"


def _manifest(
    corpus: Corpus,
    directory: PreparedDirectory,
    settings: Mapping[str, Any],
    shards: WrittenShards,
    targets: TargetSet,
) -> dict[str, Any]:
    index = shards.index
    return {
        "format": FORMAT_VERSION,
        "fingerprint": directory.root.name,
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "notices": list(corpus.notices)},
        "settings": dict(settings),
        "tracks": {
            "train": len(index.rows("train")),
            "validation": len(index.rows("validation")),
            "evaluation": sum(track.split == "evaluation" for track in corpus.tracks),
        },
        "hours": float(index.samples.sum() / index.sample_rate_hz / 3600),
        "sources": _source_numbers(index, targets),
        "skipped": len(shards.skipped) + len(corpus.skipped),
        "shortened": shards.shortened,
        "shards": {
            str(name): {"bytes": int(size), "sha256": shards.checksums[str(name)]}
            for name, size in zip(index.shard_files, index.shard_bytes, strict=True)
        },
    }


def _source_numbers(index: ShardIndex, targets: TargetSet) -> dict[str, dict[str, int]]:
    """Source -> target size and labelled tracks a split; `self` labels every track."""
    of_split = {split: index.track_ids[index.rows(split)] for split in ("train", "validation")}
    numbers = {}
    for source in constants.SOURCES:
        if source == "self":
            requested = size = constants.SELF_CLASSES
            labelled = index.track_ids
        elif source in targets.sources:
            size = targets.sources[source].target.shape[1]
            requested = targets.report[source]["requested_size"]
            labelled = targets.sources[source].track_ids
        else:
            continue
        counts = {split: int(np.isin(ids, labelled).sum()) for split, ids in of_split.items()}
        numbers[source] = {"size": size, "requested_size": requested, **counts}
    return numbers


def _write_skipped(directory: PreparedDirectory, corpus: Corpus, shards: WrittenShards) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    paths = {track.track_id: str(track.path) for track in corpus.tracks}
    writer.writerows(corpus.skipped.items())
    writer.writerows((paths[track], reason) for track, reason in shards.skipped.items())
    # Names that are not UTF-8 carry lone surrogates, which no file can hold.
    write_text(directory.skipped, text.getvalue().encode("utf-8", "backslashreplace").decode())


def _write_tracks(directory: PreparedDirectory, corpus: Corpus, shards: WrittenShards) -> None:
    lines = ["track_id\tsplit\ttitle\tartist\tlabel"]
    for track in corpus.tracks:
        if track.track_id not in shards.skipped:
            fields = (track.track_id, track.split, track.title, track.artist, track.label)
            lines.append("\t".join(" ".join(field.split()) for field in fields))
    write_text(directory.tracks, "\n".join(lines) + "\n")


def _check_labels(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a source without any label before hours of decoding."""
    for source in recipe.sources:
        if source != "self" and source not in corpus.labels:
            available = ", ".join(s for s in constants.SOURCES if s == "self" or s in corpus.labels)
            raise DataError(_no_labels(corpus.name, source, available))


def _check_sources(recipe: Recipe, directory: PreparedDirectory) -> None:
    manifest = read_manifest(directory)
    numbers = manifest["sources"]
    available = ", ".join(source for source in numbers if numbers[source]["train"])
    for source in recipe.sources:
        if source not in numbers or not numbers[source]["train"]:
            raise DataError(_no_labels(manifest["corpus"]["name"], source, available))


def _no_labels(corpus: str, source: str, available: str) -> str:
    return f"corpus '{corpus}': source '{source}' has no labelled training track; sources it has: {available}"
