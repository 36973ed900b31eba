"""`.keras`: weights and graph for Keras itself; loading it needs kerasrep, whose layers it names."""

from __future__ import annotations

from pathlib import Path

from kerasrep.serving.runtimes import Embed, Source

FILE = "model.keras"
BATCHES = (1, 3)


def require() -> None:
    """Keras is always there."""


def write(path: Path, source: Source) -> None:
    """Save waveform -> embeddings."""
    source.network.embedder.save(path)


def read(path: Path) -> Embed:
    """Load the file."""
    import keras

    model = keras.models.load_model(path, compile=False)
    return lambda waveform: {name: value.numpy() for name, value in model(waveform, training=False).items()}
