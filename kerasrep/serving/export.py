"""A trained run, or an imported network, becomes `exported/NAME/VERSION/`, checked before it counts.

Versions count up from 1 and are never overwritten. Everything is written under a temporary name, loaded
back, compared with the trained model, its warm-up requests replayed, and only then renamed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasrep import constants
from kerasrep.errors import ExportError, RecipeError, storage_reason
from kerasrep.model.layers import with_layers
from kerasrep.model.restore import TrainedRun
from kerasrep.model.strategies import Network
from kerasrep.recipe.network import AudioSettings
from kerasrep.serving.card import LICENCES_FILE, Origin, imported_origin, make_card, run_origin
from kerasrep.serving.check import check_operations, largest_difference
from kerasrep.serving.folder import check_folder, write_folder
from kerasrep.serving.runtimes import Source, require, runtime_card, write_formats
from kerasrep.serving.signatures import segment_function, track_function
from kerasrep.storage.atomic import storage_faults
from kerasrep.storage.export_directory import (
    EMBED_TRACK,
    SERVING_DEFAULT,
    ServingFolder,
    card_path,
    file_digests,
    identities_path,
    warmup_path,
)
from kerasrep.storage.folder_lock import held
from kerasrep.storage.run_directory import RunDirectory, read_object, write_json
from kerasrep.storage.segment_vector import ALL, LAST, parse_layers, whole_outputs


@dataclass(frozen=True)
class Job:
    """What is exported.

    Attributes:
        network: In float32.
        audio: Rates and mel geometry.
        origin: Where the network comes from, for the card.
        run: Whose validation audio becomes warm-up requests; `None` where there is none.
        weights: Type that kernels are stored in.
        default_layers: What an embedding is made of where nobody names layers.
        licences: Table of the licences of the training data.
    """

    network: Network
    audio: AudioSettings
    origin: Origin
    run: RunDirectory | None
    weights: str = constants.FLOAT32
    default_layers: str = LAST
    licences: Path | None = None


def export_run(
    trained: TrainedRun,
    directory: Path,
    name: str,
    formats: Sequence[str] = (constants.SAVED_MODEL,),
    downstream: dict[str, Any] | None = None,
    layers: str = ALL,
    weights: str | None = None,
    default_layers: str | None = None,
    licences: Path | None = None,
) -> Path:
    """Write the next version of an export.

    Args:
        trained: The run; its network holds the best weights in float32.
        directory: Where exports are kept, such as `exported`.
        name: Folder of this export in it.
        formats: Of `constants.EXPORT_FORMATS`, at least one.
        downstream: Scores on downstream tasks, for the card.
        layers: Pooled layers that it shall give beside the embedding (see `segment_vector.parse_layers`).
        weights: Of `constants.EXPORT_WEIGHTS`; by default what the recipe says.
        default_layers: What an embedding is made of where nobody names layers, some of `layers`; by default
            what the recipe says.
        licences: Table of the licences of the training data, which is put beside the card.

    Returns:
        `directory/name/VERSION`; without `savedmodel` among the formats `directory/name/runtimes/VERSION`.

    Raises:
        ExportError: Where nothing can be written there, a format cannot be, or what was loaded back differs
            from the trained model; nothing is left behind.
        DataError: Where the run's card or the table of licences is malformed.
        RecipeError: Where an embedding shall be made of layers that the export does not give.
    """
    settings = trained.recipe.export
    default_layers = default_layers or settings.default_layers
    if missing := set(parse_layers(default_layers)) - {LAST, *parse_layers(layers)}:
        raise RecipeError(
            f"default layers {','.join(sorted(missing))}: the export shall not give them; name them"
        )
    run_card = read_object(trained.run.card) if trained.run.card.is_file() else None
    network = _with_layers(trained.network, layers)
    origin = run_origin(trained, run_card, downstream, licences)
    weights = weights or settings.weights
    job = Job(network, trained.recipe.audio, origin, trained.run, weights, default_layers, licences)
    return _export(job, directory / name, tuple(dict.fromkeys(formats)))


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
    origin = imported_origin(network, name, imported)
    job = Job(_with_layers(network, ALL), AudioSettings(), origin, None)
    return _export(job, directory / name, (constants.SAVED_MODEL,))


def _with_layers(network: Network, layers: str) -> Network:
    embedder = with_layers(network.embedder, network.branches, parse_layers(layers))
    return replace(network, embedder=embedder)


def _export(job: Job, export: Path, formats: tuple[str, ...]) -> Path:
    """Write, check, describe, and only then claim a version."""
    folder = ServingFolder(export)
    others = [name for name in formats if name != constants.SAVED_MODEL]
    require(others)
    with temporary_beside(export) as temporary:
        check_folder(folder)
        saved, runtimes = temporary / "model", temporary / "runtimes"
        _write_version(saved, job, export.name)
        if others:
            runtimes.mkdir()
            source = Source(saved, job.network, job.weights)
            about = write_formats(runtimes, source, others, warmup_segments(saved))
            write_json(runtimes / "card.json", runtime_card(source, about))
        version = _claim(
            folder, saved if constants.SAVED_MODEL in formats else None, runtimes if others else None
        )
    if constants.SAVED_MODEL in formats:
        write_folder(folder)
    return version


def _write_version(saved: Path, job: Job, name: str) -> None:
    """Write a whole version: the SavedModel, its warm-up requests, and its card."""
    import tensorflow as tf

    from kerasrep.serving import warmup

    segment_samples = job.audio.segment_samples
    write_saved_model(saved, job.network, segment_samples, job.weights)
    check_operations(saved)
    signatures = tf.saved_model.load(str(saved)).signatures
    difference = largest_difference(signatures, job.network, segment_samples, job.weights)
    samples = warmup.samples_needed(segment_samples)
    audio, origin = warmup.warmup_audio(job.run, samples, job.audio.sample_rate_hz)
    warmup.write_requests(warmup_path(saved), name, warmup.make_requests(audio, segment_samples))
    counts = warmup.replay(warmup_path(saved), signatures)
    if job.licences is not None:
        shutil.copyfile(job.licences, card_path(saved).with_name(LICENCES_FILE))
    if job.run is not None and job.run.identities.is_file():
        shutil.copyfile(job.run.identities, identities_path(saved))
    requests = {"audio": origin, "requests": counts}
    card = make_card(
        job.network, job.audio, name, job.origin, difference, requests, job.weights, job.default_layers
    )
    # The version is claimed when all is written; the folder's name tells it.
    described_files = {"files": file_digests(saved)}
    write_json(card_path(saved), card.model_dump(mode="json", exclude={"version"}) | described_files)


def warmup_segments(saved: Path) -> Any:
    """The audio of the largest warm-up request for segments: what other formats are compared on."""
    from kerasrep.serving.warmup import read_requests

    waveforms = [
        r.inputs["waveform"] for r in read_requests(warmup_path(saved)) if r.signature == SERVING_DEFAULT
    ]
    return max(waveforms, key=len)


def write_saved_model(
    path: Path, network: Network, segment_samples: int, weights: str = constants.FLOAT32
) -> None:
    """Write a SavedModel with `serving_default` and `embed_track`.

    Args:
        path: A folder that does not exist yet.
        network: In float32.
        segment_samples: Samples a channel in one segment.
        weights: Type that kernels are stored in; see `StoredWeights`.

    Raises:
        ExportError: Where the file system refuses.
    """
    import tensorflow as tf

    from kerasrep.serving.signatures import StoredWeights

    model = StoredWeights(network.embedder, weights)
    embed_segments = segment_function(model, segment_samples)
    outputs = {name: output.shape[-1] for name, output in network.embedder.output.items()}
    embed_track = track_function(embed_segments, segment_samples, whole_outputs(outputs))
    signatures = {SERVING_DEFAULT: embed_segments, EMBED_TRACK: embed_track}
    try:
        tf.saved_model.save(model, str(path), signatures=signatures)
    except (OSError, tf.errors.OpError) as error:
        reason = storage_reason(error) or " ".join(str(error).split())[:200]
        raise ExportError(f"{path.parent.parent}: the model cannot be written there ({reason})") from error


@contextlib.contextmanager
def temporary_beside(export: Path) -> Iterator[Path]:
    """Give a hidden folder in `export`; remove it afterwards, and what was made for it if that is empty."""
    made = [folder for folder in (export, export.parent) if not folder.exists()]
    try:
        export.mkdir(parents=True, exist_ok=True)
        with held(export):  # nobody sweeps between making a folder and holding it
            for left in export.glob(".export-*"):  # by killed exports
                with contextlib.suppress(OSError), held(left, wait=False):
                    shutil.rmtree(left, ignore_errors=True)
            temporary = tempfile.TemporaryDirectory(prefix=".export-", dir=export)
            stack = contextlib.ExitStack()
            stack.enter_context(held(Path(temporary.name)))
    except OSError as error:
        raise ExportError(
            f"{export}: cannot write there ({storage_reason(error) or error.strerror}); choose another "
            "export directory"
        ) from error
    try:
        with stack, temporary as name, storage_faults(export):
            yield Path(name)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: this export or another one is in it
                folder.rmdir()


@contextlib.contextmanager
def placing(folder: ServingFolder) -> Iterator[None]:
    """Hold an export while what was written is renamed to its place.

    Raises:
        ExportError: Where something else lies there, or nothing can be written.
    """
    try:
        with held(folder.root):
            yield
    except OSError as error:
        if storage_reason(error) is not None:
            raise
        place = error.filename2 or error.filename or folder.root
        reason = f"cannot be written ({error.strerror}); move away what is there, or choose another directory"
        raise ExportError(f"{place}: {reason}") from error


def _claim(folder: ServingFolder, saved: Path | None, runtimes: Path | None) -> Path:
    """Rename what was written to the next free number, which others may be claiming as well."""
    with placing(folder):
        number = folder.next_number()
        version, others = folder.root / str(number), folder.runtimes(number)
        if runtimes is not None:
            others.parent.mkdir(exist_ok=True)
            runtimes.rename(others)
        if saved is not None:
            saved.rename(version)
    return version if saved is not None else others


def next_steps(version: Path) -> str:
    """Lines that tell people how to serve and load a version."""
    root = version.parent.resolve()
    return (
        f"TF Serving:   tensorflow_model_server --model_name={root.name} --model_base_path={root}\n"
        f"Docker:       docker run -p 8500:8500 -p 8501:8501 -v {root}:/models/{root.name} "
        f"-e MODEL_NAME={root.name} tensorflow/serving\n"
        f"TensorFlow:   tf.saved_model.load('{version}').signatures['{EMBED_TRACK}']\n"
        f"Python:       kerasrep.load('{version}').embed(waveform, sample_rate_hz)\n"
        f"Command line: kerasrep-embed --model {version} AUDIO_OR_FOLDER -o embeddings.npz"
    )
