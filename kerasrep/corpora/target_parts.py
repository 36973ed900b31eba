"""Targets source by source, each kept when it is done, as factorising one of them may take an hour."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from kerasrep.corpora.report import LabelsInUse
from kerasrep.recipe.base import in_order
from kerasrep.sources.labels import RawLabels
from kerasrep.sources.target_files import load_targets, save_targets
from kerasrep.sources.targets import SourceTargets, TargetSet
from kerasrep.storage.run_directory import PreparedDirectory, read_json, write_json


def targets_by_source(
    directory: PreparedDirectory,
    labels: LabelsInUse,
    build: Callable[[Mapping[str, RawLabels]], TargetSet],
) -> TargetSet:
    """Targets of all sources; what an interrupted call has finished in `directory` is taken as it is.

    Args:
        directory: Named by a fingerprint of all that the targets depend on.
        labels: Those of a finished source are not accessed, but their number is filled in.
        build: Makes the targets of one source; sources must not depend on each other.

    Raises:
        DataError: Where the labels of a source cannot be used.
    """
    sources: dict[str, SourceTargets] = {}
    report: dict[str, Mapping[str, Any]] = {}
    for source in in_order(labels):
        arrays, about = _paths(directory, source)
        if not about.exists():
            made = build({source: labels[source]})
            save_targets(arrays, made)
            write_json(about, {"report": made.report, "labelled": labels.n_labelled[source]})
        known = read_json(about)
        sources |= load_targets(arrays)
        report |= known["report"]
        labels.n_labelled[source] = known["labelled"]
    return TargetSet(sources, report)


def remove_target_parts(directory: PreparedDirectory, sources: Collection[str]) -> None:
    """Remove the files of single sources, once all targets are saved in one."""
    for source in sources:
        for path in _paths(directory, source):
            path.unlink(missing_ok=True)


def _paths(directory: PreparedDirectory, source: str) -> tuple[Path, Path]:
    """Targets and, written after them, the report."""
    return directory.root / f"{source}.part.npz", directory.root / f"{source}.part.json"
