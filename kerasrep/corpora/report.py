"""What the prepared files hold, as numbers in the manifest and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasrep import constants
from kerasrep.data.shard_decoding import MAX_TRACK_SECONDS
from kerasrep.data.shards import ShardIndex
from kerasrep.errors import DataError
from kerasrep.recipe.base import in_order
from kerasrep.report.wording import counted
from kerasrep.sources.labels import RawLabels
from kerasrep.sources.targets import TargetSet, restrict_labels
from kerasrep.storage.run_directory import PreparedDirectory, read_json


class LabelsInUse(Mapping[str, RawLabels]):
    """The labels of some tracks alone, one source at a time, as together they may not fit into memory.

    Args:
        labels: Of the whole corpus.
        track_ids: The tracks.

    Attributes:
        n_labelled: Source -> tracks that have a label in the corpus, of the sources accessed so far.
    """

    def __init__(self, labels: Mapping[str, RawLabels], track_ids: Sequence[str]) -> None:
        self._labels = labels
        self._track_ids = frozenset(track_ids)
        self.n_labelled: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __contains__(self, source: object) -> bool:
        return source in self._labels

    def __getitem__(self, source: str) -> RawLabels:
        raw = self._labels[source]
        self.n_labelled[source] = len(raw.track_ids)
        return restrict_labels({source: raw}, self._track_ids)[source]


def source_numbers(
    index: ShardIndex, targets: TargetSet, n_labelled: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Source -> target size, labelled tracks of the corpus, and of each split; `self` labels every track."""
    of_split = {split: index.track_ids[index.rows(split)] for split in ("train", "validation")}
    numbers = {}
    for source in in_order(["self", *targets.sources]):
        if source == "self":
            requested = size = constants.SELF_CLASSES
            labelled = index.track_ids
        else:
            size = targets.sources[source].target.shape[1]
            requested = targets.report[source]["requested_size"]
            labelled = targets.sources[source].track_ids
        counts = {split: int(np.isin(ids, labelled).sum()) for split, ids in of_split.items()}
        numbers[source] = {
            "size": size,
            "requested_size": requested,
            **counts,
            "labelled": n_labelled.get(source, len(labelled)),
        }
        if source != "self" and targets.report[source].get("all_alike"):
            numbers[source]["all_alike"] = 1
        stretches = None if source == "self" else targets.sources[source].stretches
        if stretches is not None and stretches.times is not None:
            row_of = {track: row for row, track in enumerate(index.track_ids.tolist())}
            seconds = index.samples[[row_of[track] for track in labelled.tolist()]] / index.sample_rate_hz
            share = stretches.labelled_seconds(seconds) / seconds.sum()
            numbers[source] |= {
                "labelled_per_cent": round(100 * share),
                "rows": len(stretches.values),
                "rows_behind": stretches.n_behind(seconds),
            }
    return numbers


def overlaps(index: ShardIndex, targets: TargetSet) -> dict[str, dict[str, int]]:
    """Source -> other source -> tracks in the shards that both label; with itself, those it labels."""
    has = {
        source: np.isin(index.track_ids, labelled.track_ids) for source, labelled in targets.sources.items()
    }
    return {a: {b: int((has[a] & has[b]).sum()) for b in has} for a in has}


def describe(prepared: PreparedDirectory) -> str:
    """Tracks a split, tracks and target size a source, what was skipped: a few lines for people.

    Raises:
        DataError: Where the manifest is missing or malformed.
    """
    page = [f"report:   {prepared.page}"] if prepared.page.is_file() else []  # older folders have none
    return "\n".join([f"prepared: {prepared.root}", *page, *report_lines(read_manifest(prepared))])


def report_lines(manifest: Mapping[str, Any]) -> list[str]:
    """The lines of `report.txt`; files are named as they lie beside it."""
    tracks, sources = manifest["tracks"], manifest["sources"]
    lines = [
        answer(manifest),
        f"corpus {manifest['corpus']['name']}: {tracks['train']} tracks to train on, "
        f"{tracks['validation']} for validation, {tracks['evaluation']} reserved for evaluation, "
        f"{manifest['hours']:.2f} hours of audio",
    ]
    width = max(8, *map(len, sources))
    lines += [
        f"  {source:{width}} {numbers['train']:6} training tracks, {numbers['validation']:5} validation, "
        f"{numbers['size']:3} targets{_fewer(numbers)}{_covered(numbers)}{_alike(numbers)}"
        for source, numbers in sources.items()
    ]
    lines += _overlap_lines(manifest["overlaps"])
    for file, reasons in manifest["corpus"]["skipped_labels"].items():
        counts = ", ".join(f"{count} that {reason}" for reason, count in reasons.items())
        lines.append(f"{file}: not used as they stand: {counts}")
    if manifest["skipped"]:
        lines.append(f"skipped: {counted(manifest['skipped'], 'file')}, listed in skipped.csv")
    if manifest["shortened"]:
        lines.append(f"shortened: {manifest['shortened']} tracks to their first {MAX_TRACK_SECONDS:g} s")
    return lines


def answer(manifest: Mapping[str, Any]) -> str:
    """How much there is to learn from, in a sentence."""
    tracks, sources = manifest["tracks"], manifest["sources"]
    said = (
        f"{counted(len(sources), 'source')} can be learnt from {counted(tracks['train'], 'training track')}"
    )
    fewest = min(sources, key=lambda source: (sources[source]["train"], sources[source]["validation"]))
    numbers = sources[fewest]
    if numbers["train"] == tracks["train"]:
        return f"{said}, all of which have labels of each source"
    return (
        f"{said}; {fewest} has the fewest labels, {numbers['train']} to train on, {numbers['validation']} to "
        "validate"
    )


def _overlap_lines(both: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The lower half of a table, as it is symmetric."""
    if len(both) < 2:
        return []
    names = list(both)
    width = max(8, *map(len, names))
    head = "".join(f" {name:>{width}}" for name in names)
    lines = ["tracks labelled by both:", f"    {'':{width}}{head}"]
    for row, source in enumerate(names):
        counts = "".join(f" {both[source][other]:{width}}" for other in names[: row + 1])
        lines.append(f"    {source:{width}}{counts}")
    return lines


def _fewer(numbers: Mapping[str, int]) -> str:
    asked = numbers["requested_size"]
    return f" (the labels have no more dimensions; {asked} asked for)" if numbers["size"] < asked else ""


def _covered(numbers: Mapping[str, int]) -> str:
    covered, behind = numbers.get("labelled_per_cent"), numbers.get("rows_behind")
    said = "" if covered is None else f", {min(covered, 100)}% of their time labelled"
    return f"{said}; {behind} of {numbers['rows']} rows begin after their track's end" if behind else said


def _alike(numbers: Mapping[str, int]) -> str:
    return "; all training tracks have the same label" if numbers.get("all_alike") else ""


def read_manifest(prepared: PreparedDirectory) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: Where it is missing or malformed.
    """
    manifest = read_json(prepared.manifest)
    expected = {"corpus", "tracks", "sources", "overlaps", "hours", "skipped", "shortened", "fingerprint"}
    if not isinstance(manifest, dict) or not expected <= manifest.keys():
        raise DataError(
            f"{prepared.manifest}: is not a manifest of prepared data; delete {prepared.root} and prepare "
            "again"
        )
    return manifest
