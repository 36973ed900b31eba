"""Small tables of embeddings with audio beside them."""

import wave
from pathlib import Path

import numpy as np

from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.listening.tracks import Tracks

RATE_HZ = 8_000
COLUMNS = tuple(
    f"{of}/{branch}/{n}" for of in ("mean", "sd") for branch in ("tag", "artist") for n in range(8)
)


def write_tone(path: Path, hz: float, seconds: float) -> None:
    """A sine as a mono WAV of 16 bits."""
    samples = np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((8_000 * samples).astype("<i2").tobytes())


def grouped_vectors(n: int, n_groups: int, seed: int = 0) -> np.ndarray:
    """float32 [n, len(COLUMNS)], not negative: row i belongs to group i mod `n_groups`."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(1, 3, (n_groups, len(COLUMNS)))
    return (centres[np.arange(n) % n_groups] + rng.uniform(0, 0.5, (n, len(COLUMNS)))).astype(np.float32)


def about(folder: Path) -> About:
    """What a table says that was made in a folder."""
    branches = ("tag", "artist")
    settings = ("mean-std", 2.5, 2.5, 22_050, "soundfile", "0.1.0")
    return About("/gone", "0" * 16, branches, branches, *settings, folder=str(folder))


def write_catalogue(folder: Path, n: int = 40, n_groups: int = 4, **arrays: np.ndarray) -> Path:
    """`index.npz` of relative paths `GROUP/NN.wav`, and labels in `labels.csv`; no audio.

    Args:
        folder: Where both go.
        n: Tracks.
        n_groups: Folders, each with vectors near each other.
        **arrays: In place of those that would be written.
    """
    paths = [f"group{i % n_groups}/{i:02d} é.wav" for i in range(n)]
    content = {
        "paths": np.array(paths),
        "embeddings": grouped_vectors(n, n_groups),
        "columns": np.array(COLUMNS),
        "seconds": np.full(n, 8.0),
        "typical_seconds": np.full(n, 5.0),
        "about": np.array(about(folder).to_json()),
    }
    np.savez(folder / "index.npz", **(content | arrays))
    rows = [f"{path},mood {i % 3},{1900 + i}" for i, path in enumerate(paths)]
    (folder / "labels.csv").write_text("\n".join(["track,mood,year", *rows, ""]), encoding="utf-8")
    return folder / "index.npz"


def read_tracks(folder: Path, **settings: int) -> Tracks:
    """The tracks of a small catalogue."""
    return Tracks(read_embeddings(write_catalogue(folder, **settings)))


def table_of(vectors: np.ndarray, paths: list[str], starts: np.ndarray | None = None) -> Table:
    """A table without columns' names."""
    names = tuple(map(str, range(vectors.shape[1])))
    return Table(tuple(paths), vectors, names, np.full(len(paths), 8.0), starts, None)
