"""A trained run, or an imported network, becomes `exported/NAME/VERSION/`, checked before it counts.

Versions count up from 1 and are never overwritten. Everything is written under a temporary name, loaded
back, compared with the trained model, and only then renamed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasrep import constants
from kerasrep.errors import ExportError
from kerasrep.export_directory import (
    EMBED_TRACK,
    SERVING_DEFAULT,
    ExportCard,
    card_path,
    version_numbers,
)
from kerasrep.model.folding import fold_batch_norm
from kerasrep.model.restore import TrainedRun
from kerasrep.model.strategies import Network
from kerasrep.run_directory import read_json, write_json
from kerasrep.serving.card import make_card, make_imported_card
from kerasrep.serving.check import largest_difference
from kerasrep.serving.signatures import (
    segment_function,
    segment_signature,
    track_function,
    track_signature,
)

#: Other exporters may take a number first; this many in a row means that something else is wrong.
MAX_CLAIMS = 1000


def export_run(trained: TrainedRun, directory: Path, name: str) -> Path:
    """Write the next version of an export.

    Args:
        trained: The run; its network holds the best weights in float32.
        directory: Where exports are kept, such as `exported`.
        name: Folder of this export in it.

    Returns:
        `directory/name/VERSION`.

    Raises:
        ExportError: Where nothing can be written there, or what was loaded back differs from the trained
            model; nothing is left behind.
        DataError: Where the run's card is malformed.
    """
    run_card = read_json(trained.run.card) if trained.run.card.is_file() else None
    return _export(
        trained.network,
        trained.recipe.audio.segment_samples,
        directory / name,
        lambda difference: make_card(trained, name, run_card, difference),
    )


def export_imported(network: Network, imported: dict[str, Any], directory: Path, name: str) -> Path:
    """Write a network that was trained elsewhere as the next version of an export.

    Args:
        network: In float32, of the paper's audio settings.
        imported: What it was read from, for the card.
        directory: Where exports are kept, such as `exported`.
        name: Folder of this export in it.

    Returns:
        `directory/name/VERSION`.

    Raises:
        ExportError: Where nothing can be written there, or what was loaded back differs from the network;
            nothing is left behind.
    """
    return _export(
        network,
        constants.SEGMENT_SAMPLES,
        directory / name,
        lambda difference: make_imported_card(network, name, imported, difference),
    )


def _export(
    network: Network, segment_samples: int, export: Path, describe: Callable[[float], ExportCard]
) -> Path:
    """Write, check, describe, and only then claim a version."""
    with _temporary_beside(export) as temporary:
        saved = temporary / "model"
        write_saved_model(saved, network, segment_samples)
        difference = largest_difference(saved, network, segment_samples)
        write_json(card_path(saved), describe(difference).model_dump(mode="json"))
        return _claim_version(saved, export)


def write_saved_model(path: Path, network: Network, segment_samples: int) -> None:
    """Write a SavedModel with `serving_default` and `embed_track`, batch norm folded into the convolutions.

    The archive does not track the model: its endpoints capture the variables they use, and a tracked
    model would store them a second time.

    Args:
        path: A folder that does not exist yet.
        network: In float32.
        segment_samples: Samples a channel in one segment.

    Raises:
        ExportError: Where the file system refuses.
    """
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    folded = replace(network, embedder=fold_batch_norm(network.embedder))
    embed_segments = segment_function(folded, segment_samples)
    dimension = constants.EMBEDDING_SIZE * len(network.branches)
    embed_track = track_function(embed_segments, segment_samples, dimension)
    archive.add_endpoint(SERVING_DEFAULT, embed_segments, segment_signature(segment_samples))
    archive.add_endpoint(EMBED_TRACK, embed_track, track_signature())
    try:
        archive.write_out(str(path), verbose=False)
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{path.parent.parent}: the model cannot be written there ({reason})") from error


@contextlib.contextmanager
def _temporary_beside(export: Path) -> Iterator[Path]:
    """Give a hidden folder in `export`; remove it afterwards, and what was made for it if that is empty."""
    made = [folder for folder in (export, export.parent) if not folder.exists()]
    try:
        export.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".export-", dir=export)
    except OSError as error:
        raise ExportError(
            f"{export}: cannot write there ({error.strerror}); choose another export directory"
        ) from error
    try:
        with temporary as name:
            yield Path(name)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: this export or another one is in it
                folder.rmdir()


def _claim_version(saved: Path, export: Path) -> Path:
    """Rename `saved` to the next free number under `export`, which others may be claiming as well."""
    for _ in range(MAX_CLAIMS):
        version = export / str(max(version_numbers(export), default=0) + 1)
        try:
            # Fails where another exporter has just taken the number: its folder is not empty.
            return saved.rename(version)
        except OSError as error:
            if not version.exists():
                raise ExportError(f"{version}: cannot be written ({error.strerror})") from error
    raise ExportError(f"{export}: no version number could be claimed; look what else writes there")


def next_steps(version: Path) -> str:
    """Lines that tell people how to serve and load a version."""
    root = version.parent.resolve()
    return (
        f"TF Serving:   tensorflow_model_server --model_name={root.name} --model_base_path={root}\n"
        f"TensorFlow:   tf.saved_model.load('{version}').signatures['{EMBED_TRACK}']\n"
        f"Python:       kerasrep.load('{version}').embed(waveform, sample_rate_hz)\n"
        f"Command line: kerasrep-embed --model {version} AUDIO_OR_FOLDER -o embeddings.npz"
    )
