"""Models as commands and tables name them: by a path, or by the name of a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kerasrep.embedding.catalogue.writing import path_text
from kerasrep.embedding.models import SegmentModel, find_model
from kerasrep.embedding.recordings import RecordingRepresentation
from kerasrep.embedding.representations import (
    HEAR,
    MFCC,
    MUSICNN,
    is_path,
    model_fingerprint,
    open_representation,
)

BASELINES = (MUSICNN, MFCC, HEAR)


@dataclass(frozen=True)
class NamedModel:
    """A model that is not loaded yet.

    Attributes:
        name: An absolute path, or that of a baseline.
        fingerprint: Changes with anything that changes its embeddings.
        load: Loads it.
        path: Where it is, of what is no baseline.
    """

    name: str
    fingerprint: str
    load: Callable[[], SegmentModel]
    path: Path | None = None


def named_model(name: str) -> NamedModel:
    """Find a model.

    Args:
        name: Path of an export, a run directory or a `.keras` file; or `musicnn`, `mfcc`, `hear:MODULE`,
            `hear:MODULE:WEIGHTS`. A path that is spelt like these needs `./` in front.

    Raises:
        ExportError: Where there is no such model.
        DataError: Where what a baseline needs is missing.
        RecipeError: Where a baseline is named in a wrong form.
        RunError: Where a run has no trained weights yet.
    """
    if not is_path(name) and name.partition(":")[0] in BASELINES:
        baseline = open_representation(name)
        assert isinstance(baseline, RecordingRepresentation)
        return NamedModel(name, baseline.fingerprint, lambda: _segment_model(baseline))
    load, found = find_model(Path(name))
    return NamedModel(path_text(found.absolute()), model_fingerprint(found), lambda: load(found), found)


def _segment_model(baseline: RecordingRepresentation) -> SegmentModel:
    baseline.prepare()
    return SegmentModel(
        baseline.embed_segments,
        baseline.sample_rate_hz,
        round(baseline.segment_seconds * baseline.sample_rate_hz),
        (baseline.name,),
        baseline_width=baseline.dimension,
        embed_file=baseline.embed_file,
    )
