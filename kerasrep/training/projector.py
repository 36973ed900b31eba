"""TensorBoard's projector: held-out tracks by their embedding, with all their labels and their log-mels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.batches import SplitExamples
from kerasrep.data.schedule import Examples
from kerasrep.storage.run_directory import atomic_file, write_text

#: Width and height of a thumbnail; TensorBoard draws 2,000 of them from one picture of 45 x 45.
THUMBNAIL_PIXELS = (54, 32)
NAMED_TERMS = 2
UNKNOWN = "-"


def write_projector(
    folder: Path,
    vectors: NDArray[np.float32],
    columns: Mapping[str, Sequence[str]],
    mels: NDArray[np.float32],
) -> None:
    """Write what the projector reads.

    Args:
        folder: Which has a file of events, as TensorBoard looks for projections beside those alone.
        vectors: float32 [tracks, dimension].
        columns: Heading -> text of each track.
        mels: float32 [tracks, frames, bands], log-mels in decibels.
    """
    lines = ["\t".join(f"{value:.4g}" for value in vector) for vector in vectors]
    write_text(folder / "embeddings.tsv", "\n".join(lines) + "\n")
    rows = zip(*columns.values(), strict=True)
    table = ["\t".join(" ".join(text.split()) or UNKNOWN for text in row) for row in [[*columns], *rows]]
    write_text(folder / "metadata.tsv", "\n".join(table) + "\n")
    _write_thumbnails(folder / "thumbnails.png", mels)
    width, height = THUMBNAIL_PIXELS
    write_text(
        folder / "projector_config.pbtxt",
        'embeddings {\n  tensor_name: "validation tracks"\n  tensor_path: "embeddings.tsv"\n'
        '  metadata_path: "metadata.tsv"\n  sprite {\n    image_path: "thumbnails.png"\n'
        f"    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n}}\n",
    )


def label_columns(
    held_out: SplitExamples, rows: NDArray[np.int64], report: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """What each source says of some tracks: the strongest topic, component or class, or the number.

    Args:
        held_out: Tracks and targets.
        rows: int64 [tracks], rows of the shard index.
        report: `TargetSet.report`: source -> what its targets mean.

    Returns:
        Source -> a text per track, "-" where it has no label. Sources without names are left out: `self`
        and vectors.
    """
    columns = {}
    for source, examples in held_out.by_source.items():
        if source == "self" or examples.kind == "vector":
            continue
        texts = dict.fromkeys(rows.tolist(), UNKNOWN)
        members = np.flatnonzero(np.isin(examples.rows, rows))
        targets, known = examples.targets(members)
        named = _names(examples, targets, report.get(source, {}))
        for row, text, is_known in zip(examples.rows[members].tolist(), named, known, strict=True):
            if is_known:
                texts[row] = text
        columns[source] = list(texts.values())
    return columns


def _names(examples: Examples, targets: NDArray[np.float32], about: Mapping[str, Any]) -> list[str]:
    """What the targets of some tracks, [tracks, size], are called."""
    if examples.kind == "number":
        values = targets[:, 0] * about.get("deviation", 1.0) + about.get("mean", 0.0)
        return [f"{value:.4g}" for value in values]
    names = _names_of_dimensions(examples.kind, targets.shape[1], about)
    if examples.kind == "labels":
        return [", ".join(names[place] for place in np.flatnonzero(target)) for target in targets]
    return [names[place] for place in targets.argmax(axis=1)]


def _names_of_dimensions(kind: str, size: int, about: Mapping[str, Any]) -> list[str]:
    if kind == "mixture" and "components" in about:  # numbers: the projector colours them by a scale
        return [f"{component['mean']:.4g}" for component in about["components"]]
    if kind == "topics" and "topics" in about:
        likeliest = ([term["term"] for term in topic["terms"][:NAMED_TERMS]] for topic in about["topics"])
        return [f"{number}: {', '.join(terms)}" for number, terms in enumerate(likeliest)]
    return list(about.get("terms", map(str, range(size))))


def _write_thumbnails(path: Path, mels: NDArray[np.float32]) -> None:
    """One picture of all log-mels, row by row in a square; time runs to the right, high bands are on top."""
    from matplotlib.image import imsave

    width, height = THUMBNAIL_PIXELS
    pictures = mels.transpose(0, 2, 1)[:, ::-1, :, np.newaxis]
    small = tf.image.resize(pictures, (height, width), antialias=True).numpy()[..., 0]
    side = int(np.ceil(np.sqrt(len(small))))
    sheet = np.full((side * side, height, width), small.min(), np.float32)
    sheet[: len(small)] = small
    sheet = sheet.reshape(side, side, height, width).swapaxes(1, 2).reshape(side * height, side * width)
    with atomic_file(path) as temporary:
        imsave(temporary, sheet, cmap="magma", format="png")
