"""Building the demo corpus in a folder: all takes, in several processes, and the manifest."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kerasrep.constants import N_CHANNELS, SAMPLE_RATE_HZ
from kerasrep.corpora.demo import labels, pieces, selection
from kerasrep.corpora.demo.catalogue import COLLECTIONS, choose
from kerasrep.corpora.demo.labels import draw_listeners, draw_plays
from kerasrep.corpora.demo.recording import Outcome, Studio, record
from kerasrep.errors import DataError
from kerasrep.recipe.corpora import DemoCorpus
from kerasrep.runtime.console import Progress
from kerasrep.runtime.threads import core_count
from kerasrep.storage.run_directory import write_json

FORMAT_VERSION = 3  # raise it whenever the same settings give other audio, splits or labels
PACKAGES = ("music21", "symusic", "pretty_midi")
MANIFEST = "manifest.json"

_SPARE_BYTES = 50_000_000
_MOST_WORKERS = 8
#: Deaths of processes, one after the other without a track between them, after which building ends.
_MOST_DEATHS = 3


def package_versions() -> dict[str, str]:
    """Versions of the packages that scores and sounds come from.

    Raises:
        DataError: One is missing.
    """
    for name in PACKAGES:
        pieces.package_folder(name)
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def build(settings: DemoCorpus, folder: Path, progress: bool, workers: int | None = None) -> None:
    """Render all tracks into `folder` and write the manifest there, last.

    Args:
        settings: What to render.
        folder: Exists and is empty.
        progress: Whether to show a bar.
        workers: Processes; by default one a core, 8 at most. The result does not depend on it.

    Raises:
        DataError: Packages are missing, the disk is too small, or no piece can be used.
    """
    collections = choose(settings.collections)
    folder_of_scores = pieces.score_folder()
    audio = folder / "audio"
    audio.mkdir()
    _check_space(settings, folder)
    studio = Studio(folder_of_scores, pieces.sound_font(), audio, settings.track_seconds, settings.seed)
    # Collections that anybody may use are always looked at, so that the reserve is the same in each corpus.
    looked_at = [one for one in COLLECTIONS if not one.notice or one in collections]
    found = pieces.find_pieces(looked_at, folder_of_scores)
    groups = pieces.group_pieces(found)
    counts = selection.quotas(collections, settings.tracks)
    plan = selection.strata(found, groups, counts, settings.seed)
    try:
        outcomes = _record_all(plan, studio, progress, workers or min(core_count(), _MOST_WORKERS))
    except OSError as error:
        raise DataError(
            f"{audio}: cannot be written ({error.strerror}); set KERASREP_HOME to another folder"
        ) from error
    done = [outcome for outcome in outcomes if outcome.record is not None]
    if not done:
        raise DataError(f"none of the {len(outcomes)} scores tried could be rendered; reinstall music21")
    write_json(folder / MANIFEST, _manifest(settings, outcomes))


def _check_space(settings: DemoCorpus, folder: Path) -> None:
    needed = round(settings.tracks * settings.track_seconds * SAMPLE_RATE_HZ * N_CHANNELS * 2) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder.parent}: the demo corpus needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "free space, set KERASREP_HOME, or lower corpus.tracks"
        )


def _record_all(
    plan: list[tuple[selection.Stratum, int]], studio: Studio, progress: bool, workers: int
) -> list[Outcome]:
    """Record what each stratum is asked for; a take that fails is replaced by the stratum's next piece."""
    outcomes: list[Outcome] = []
    wanted = {index: count for index, (_, count) in enumerate(plan) if count}
    with Progress(sum(wanted.values()), "demo corpus", "track", progress) as bar:
        while wanted:
            takes = [(index, take) for index, count in wanted.items() for take in plan[index][0].take(count)]
            wanted = {}
            results = _in_processes([take for _, take in takes], studio, workers)
            for (index, take), outcome in zip(takes, results, strict=True):
                outcomes.append(outcome)
                if outcome.record is None:
                    plan[index][0].strike(take.piece)
                    wanted[index] = wanted.get(index, 0) + 1
                else:
                    bar.update()
    return outcomes


def _in_processes(takes: list[selection.Take], studio: Studio, workers: int) -> Iterable[Outcome]:
    """Outcomes in the order of the takes.

    joblib's loky starts processes that neither fork (TensorFlow may run threads here) nor import the main
    module again (which scripts without a guard would not survive).
    """
    if workers == 1 or len(takes) == 1:
        return (record(take, studio) for take in takes)
    return _outliving_processes(takes, studio, workers)


def _outliving_processes(takes: list[selection.Take], studio: Studio, workers: int) -> Iterator[Outcome]:
    """Where a process dies, those that are left start anew with what is not done."""
    from joblib import Parallel, delayed  # type: ignore[import-untyped]
    from joblib.externals.loky import BrokenProcessPool  # type: ignore[import-untyped]

    done = deaths = 0
    while done < len(takes):
        parallel = Parallel(n_jobs=workers, return_as="generator", batch_size=4)
        results: Iterator[Outcome] = parallel(delayed(record)(take, studio) for take in takes[done:])
        try:
            for outcome in results:
                done, deaths = done + 1, 0
                yield outcome
        except BrokenProcessPool as error:
            deaths += 1
            if deaths > _MOST_DEATHS:
                raise DataError(
                    f"{studio.audio}: processes that render died {deaths} times, near "
                    f"{takes[done].piece.source}; is memory short? start again"
                ) from error


def _manifest(settings: DemoCorpus, outcomes: list[Outcome]) -> dict[str, Any]:
    listeners = draw_listeners(settings.seed)
    tracks = [
        {
            **outcome.record,
            "seconds": settings.track_seconds,
            "plays": draw_plays(outcome.record, listeners, settings.seed),
        }
        for outcome in outcomes
        if outcome.record is not None
    ]
    skipped = {
        f"{outcome.take.piece.source}#{outcome.take.piece.tune + 1}"
        if outcome.take.piece.tune >= 0
        else outcome.take.piece.source: outcome.reason
        for outcome in outcomes
        if outcome.record is None
    }
    return {
        "format_version": FORMAT_VERSION,
        "settings": settings.model_dump(mode="json", exclude={"validation_fraction"}),
        "packages": package_versions(),
        "label_kinds": labels.LABEL_KINDS,
        "collections": {
            one.name: {"title": one.title, "licence": one.licence, "notice": one.notice}
            for one in choose(settings.collections)
        },
        "reader_warnings": sum(outcome.warnings for outcome in outcomes),
        "skipped": skipped,
        "tracks": sorted(tracks, key=lambda track: str(track["track_id"])),
    }
