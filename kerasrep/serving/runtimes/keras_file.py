"""`.keras`: weights and graph for Keras itself; loading it needs kerasrep, whose layers it names."""

from __future__ import annotations

from pathlib import Path

from kerasrep.serving.runtimes import Embed, Source

FILES = ("model.keras",)
BATCHES = (1, 3)
SEGMENTS = FILES[0]
TRACK = None


def require() -> None:
    """Keras is always there."""


def write(folder: Path, source: Source) -> None:
    """Save waveform -> embeddings."""
    source.network.embedder.save(folder / SEGMENTS)


def read(folder: Path, name: str) -> Embed:
    """Load the file."""
    import keras

    model = keras.models.load_model(folder / name, compile=False)
    return lambda waveform: {name: value.numpy() for name, value in model(waveform, training=False).items()}
