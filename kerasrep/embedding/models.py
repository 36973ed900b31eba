"""Trained models as functions from segments to embeddings, whatever form they are kept in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.crops import ALIGNMENT_BYTES
from kerasrep.embedding.catalogue.layout import Layout, make_layout
from kerasrep.embedding.segments import BATCH_SEGMENTS, GPU_BATCH_SEGMENTS
from kerasrep.errors import ExportError
from kerasrep.recipe.file import read_recipe
from kerasrep.runtime.child_process import check_not_forked
from kerasrep.storage import export_directory
from kerasrep.storage.run_directory import KERAS_SUFFIX, RunDirectory
from kerasrep.storage.segment_vector import LAST, Piece, embedding_pieces

if TYPE_CHECKING:
    import keras

    from kerasrep.embedding.files import BadFile, FileEmbedding

WHAT_A_MODEL_IS = (
    "an export (NAME, exported/NAME or a version in it), a run directory, a .keras file, or starter, the "
    "trunk that comes with kerasrep"
)


#: float32 [segments, segment_samples, 2] -> float32 [segments, widths of all pieces].
EmbedSegments = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class SegmentModel:
    """A trained model.

    Attributes:
        embed_segments: float32 [segments, segment_samples, 2] -> float32 [segments, 256 x branches];
            after `only`, [segments, widths of its pieces]. Where it has an attribute `windows`, that embeds
            segments that overlap (`_Forward.windows`).
        sample_rate_hz: Of the segments.
        segment_samples: Samples a channel in one segment.
        branches: Names of the embeddings side by side.
        embed_some: Makes `embed_segments` of some pieces, which computes no others; without it, all are
            computed.
        layers: Pooled layers that `embed_some` can give as well.
        default_layers: What an embedding is made of where nobody names layers.
        sources: What it learnt from, as far as its card or recipe says.
        baseline_width: Values of a segment, where it is a baseline; they have one branch.
        embed_file: A baseline's own embedding of a whole file.
        batch_segments: Segments that it embeds at once where there are many.
    """

    embed_segments: EmbedSegments
    sample_rate_hz: int
    segment_samples: int
    branches: tuple[str, ...]
    embed_some: Callable[[tuple[Piece, ...]], EmbedSegments] | None = None
    layers: tuple[Piece, ...] = ()
    default_layers: str = LAST
    sources: tuple[str, ...] = ()
    baseline_width: int | None = None
    embed_file: Callable[[Path], FileEmbedding | BadFile] | None = None
    batch_segments: int = BATCH_SEGMENTS

    def arranged(
        self,
        pool: str | None = None,
        hop_seconds: float | None = None,
        sources: Sequence[str] | None = None,
        layers: str | Sequence[str] | None = None,
    ) -> tuple[SegmentModel, Layout]:
        """The model of what an embedding shall be made of, and where its values lie; see `make_layout`."""
        layout = make_layout(
            self.branches,
            self.sample_rate_hz,
            self.segment_samples,
            pool,
            hop_seconds,
            sources,
            self.default_layers if layers is None else layers,
            self.layers,
            self.baseline_width,
        )
        return self.only(layout.pieces), layout

    def only(self, pieces: tuple[Piece, ...]) -> SegmentModel:
        """The model whose `embed_segments` gives some pieces, in the order given."""
        if self.baseline_width is not None or pieces == embedding_pieces(self.branches):
            return self
        make = self.embed_some or self._cut_out
        branches = tuple(dict.fromkeys(piece.branch for piece in pieces))
        return replace(self, embed_segments=make(pieces), branches=branches, embed_some=None, layers=())

    def _cut_out(self, pieces: tuple[Piece, ...]) -> EmbedSegments:
        places = [self.branches.index(piece.branch) for piece in pieces]

        def embed_segments(segments: NDArray[np.float32]) -> NDArray[np.float32]:
            values = self.embed_segments(segments)
            by_branch = values.reshape(len(values), len(self.branches), constants.EMBEDDING_SIZE)
            return by_branch[:, places].reshape(len(values), -1)

        return embed_segments


def find_model(path: Path) -> tuple[Callable[[Path], SegmentModel], Path]:
    """Tell what kind of model `path` is, without loading anything.

    Args:
        path: An export (a version, or `exported/NAME` for its newest one), a run directory, a `.keras` file
            that holds a run's model; or `starter`, the trunk that comes with kerasrep.

    Returns:
        A function that loads such a model, and the path to give it.

    Raises:
        ExportError: Where `path` is none of these.
    """
    try:
        path = export_directory.model_path(path)
        if not path.exists():
            raise ExportError(f"{path}: does not exist; give {WHAT_A_MODEL_IS}")
        if path.is_file():
            if path.suffix != KERAS_SUFFIX:
                raise ExportError(f"{path}: is not a model; give {WHAT_A_MODEL_IS}")
            return load_keras_file, path
        version = export_directory.find_version(path)
        if version is not None:
            return load_export, version
        if RunDirectory(path).recipe.is_file():
            return load_run, path
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check name and permissions"
        raise ExportError(f"{path}: {reason}") from error
    raise ExportError(f"{path}: holds no model; give {WHAT_A_MODEL_IS}")


def default_layers(path: Path) -> str:
    """What an embedding of a model is made of where nobody names layers; the model is not loaded.

    Raises:
        ExportError: Where `path` is no model, or its card is damaged.
        RecipeError: Where the recipe of a run is malformed.
    """
    load, found = find_model(path)
    if load is load_export:
        return export_directory.read_card(found).default_layers
    if load is load_run:
        return read_recipe(RunDirectory(found).recipe).export.default_layers
    return LAST


def load_export(version: Path) -> SegmentModel:
    """Load a version of an export.

    Raises:
        ExportError: Where its card or its SavedModel is damaged.
    """
    check_not_forked()
    import tensorflow as tf

    card = export_directory.read_card(version)
    export_directory.check_files(version, card)
    try:
        loaded = tf.saved_model.load(str(version))
        function = loaded.signatures[export_directory.SERVING_DEFAULT]
        widths = {name: output.shape[-1] for name, output in function.structured_outputs.items()}
        width = widths["embedding"]
    # Damaged files raise anything from OSError to protobuf's own kinds.
    except Exception as error:
        raise ExportError(f"{version}: cannot be loaded ({_short(error)}); export the run again") from error
    if width != constants.EMBEDDING_SIZE * len(card.branches):
        raise ExportError(
            f"{version}: gives {width} values a segment, its card names {len(card.branches)} branches of "
            f"{constants.EMBEDDING_SIZE}; export the run again"
        )
    for piece in card.layers:
        if widths.get(piece.output) != piece.width:
            raise ExportError(f"{version}: has not the '{piece.output}' of its card; export the run again")

    def outputs(segments: Any, _owner: Any = loaded) -> Any:  # its variables die with it
        return function(waveform=segments)

    @functools.cache
    def embed_some(pieces: tuple[Piece, ...] = ()) -> EmbedSegments:
        return _Forward(outputs, card.segment_samples, pieces)

    return SegmentModel(
        embed_some(),
        card.sample_rate_hz,
        card.segment_samples,
        card.branches,
        embed_some,
        card.layers,
        card.default_layers,
        card.sources,
        batch_segments=_batch_segments(),
    )


def load_run(root: Path) -> SegmentModel:
    """Rebuild the best network of a run.

    Raises:
        RunError: Where the run has no trained weights yet.
        RecipeError: Where its recipe is malformed.
        DataError: Where its weights are.
    """
    check_not_forked()
    from kerasrep.model.restore import restore_run

    trained = restore_run(root)
    audio, network = trained.recipe.audio, trained.network
    model = model_of_keras(network.embedder, audio.sample_rate_hz, audio.segment_samples, network.branches)
    return replace(
        model, default_layers=trained.recipe.export.default_layers, sources=tuple(trained.recipe.sources)
    )


def load_keras_file(path: Path) -> SegmentModel:
    """Load the model of a run from its `.keras` file; nothing in the file is executed.

    Raises:
        ExportError: Where it cannot be loaded, or holds another kind of model.
    """
    from kerasrep.model.keras_file import read_keras_file

    return segment_model_of(path, read_keras_file(path))


def segment_model_of(path: Path, model: keras.Model) -> SegmentModel:
    """Take the model of a `.keras` file as a function.

    Args:
        path: The file, for errors.
        model: What it holds.

    Raises:
        ExportError: Where it is not the model of a run.
    """
    from kerasrep.model.keras_file import describe_model

    return model_of_keras(model, *describe_model(path, model))


def model_of_keras(
    model: keras.Model, sample_rate_hz: int, segment_samples: int, branches: tuple[str, ...]
) -> SegmentModel:
    """Take a Keras model, waveform -> dict with `embedding` and each `embedding_BRANCH`, as a function."""
    from kerasrep.model.folding import fold_batch_norm
    from kerasrep.model.layers import layer_pieces, with_layers

    @functools.cache
    def folded(layers: frozenset[str]) -> keras.Model:
        return fold_batch_norm(with_layers(model, branches, layers))

    @functools.cache
    def embed_some(pieces: tuple[Piece, ...] = ()) -> EmbedSegments:
        inner = folded(frozenset(piece.layer for piece in pieces) - {LAST})
        return _Forward(lambda segments: inner(segments, training=False), segment_samples, pieces)

    layers = layer_pieces(model, branches)
    return SegmentModel(
        embed_some(),
        sample_rate_hz,
        segment_samples,
        branches,
        embed_some,
        layers,
        batch_segments=_batch_segments(),
    )


def _batch_segments() -> int:
    """More where a GPU is: it would wait for the host."""
    import tensorflow as tf

    return GPU_BATCH_SEGMENTS if tf.config.list_physical_devices("GPU") else BATCH_SEGMENTS


class _Forward:
    """Some pieces side by side, by default all embeddings; TensorFlow leaves out what others alone need.

    Args:
        outputs: Waveform -> outputs by name.
        segment_samples: Samples a channel in one segment.
        pieces: Which outputs.
    """

    def __init__(
        self, outputs: Callable[[Any], Any], segment_samples: int, pieces: tuple[Piece, ...]
    ) -> None:
        import tensorflow as tf

        names = [piece.output for piece in pieces] or ["embedding"]
        segments_spec = tf.TensorSpec((None, segment_samples, constants.N_CHANNELS), tf.float32)
        stretch_spec = tf.TensorSpec((None, constants.N_CHANNELS), tf.float32)

        @tf.function(input_signature=[segments_spec], autograph=False)  # type: ignore[untyped-decorator]
        def forward(segments: Any) -> Any:
            found = outputs(segments)
            return tf.concat([found[name] for name in names], -1)

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[stretch_spec, tf.TensorSpec((None,), tf.int64)], autograph=False
        )
        def forward_windows(stretch: Any, starts: Any) -> Any:
            # int64, as TensorFlow computes with int32 on the host.
            places = starts[:, tf.newaxis] + tf.range(segment_samples, dtype=tf.int64)
            return forward(tf.gather(stretch, places))

        self._forward, self._forward_windows = forward, forward_windows

    def __call__(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `SegmentModel.embed_segments`."""
        check_not_forked()
        embeddings: NDArray[np.float32] = self._forward(_tensor(segments)).numpy()
        return embeddings

    def windows(self, stretch: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embed segments that overlap, cut on the device.

        Args:
            stretch: float32 [samples, 2].
            starts: Of the segments, in samples.

        Returns:
            float32 [segments, widths of all pieces].
        """
        check_not_forked()
        embeddings: NDArray[np.float32] = self._forward_windows(_tensor(stretch), starts).numpy()
        return embeddings


def _tensor(segments: NDArray[np.float32]) -> Any:
    """A tensor of the same memory where that is aligned: to copy it takes longer than a GPU works on it."""
    import tensorflow as tf

    flags = segments.flags
    if flags.c_contiguous and flags.writeable and segments.ctypes.data % ALIGNMENT_BYTES == 0:
        return tf.experimental.dlpack.from_dlpack(segments.__dlpack__())
    return tf.constant(segments)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
