"""Write `embedding.npz` anew: the embedding of a short clip by a seeded network.

Run it only where a change of embeddings is meant, and name the change in CHANGELOG.md:

    python tests/golden/regenerate.py
"""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("embedding.npz")
SOURCES = ("tag", "year")
RATE_HZ = 22_050


def clip() -> np.ndarray:
    """Three seconds of two chords with decaying harmonics, panned, float32 [66150, 2]."""
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    left = np.zeros(len(time))
    right = np.zeros(len(time))
    for number, midi in enumerate((48, 55, 60, 64, 50, 57, 62, 65)):
        onset = 0.0 if number < 4 else 1.5
        since = np.maximum(time - onset, 0.0)
        envelope = np.where(time >= onset, np.exp(-2.0 * since), 0.0)
        pitch_hz = 440.0 * 2 ** ((midi - 69) / 12)
        for harmonic in range(1, 6):
            partial = envelope * np.sin(2 * np.pi * harmonic * pitch_hz * since) / harmonic**1.5
            left += 0.08 * partial * (1 + number % 4) / 4
            right += 0.08 * partial * (4 - number % 4) / 4
    return np.stack([left, right], 1).astype(np.float32)


def compute() -> dict[str, np.ndarray]:
    """Embeddings of the clip's first segment, whole, and by track pooling; and its log-mel's band means."""
    from kerasrep.model.blocks import BlockOptions
    from kerasrep.model.frontend import build_frontend
    from kerasrep.model.strategies import Scaler, build_network

    scaler = Scaler(np.full(128, -30, np.float32), np.full(128, 18, np.float32))
    sizes = dict.fromkeys(SOURCES, 4)
    network = build_network("ms-cr@4", SOURCES, sizes, options=BlockOptions(seed=20180213), scaler=scaler)
    waveform = clip()
    padded = np.concatenate([waveform, np.zeros((2 * 55_125 - len(waveform), 2), np.float32)])
    segments = padded.reshape(2, 55_125, 2)
    embeddings = network.embedder(segments)["embedding"].numpy()
    return {
        "segment": embeddings[0],
        "track": np.concatenate([embeddings.mean(0), embeddings.std(0)]),
        "log_mel_db": build_frontend()(segments[:1]).numpy()[0].mean(axis=(0, 2)),
    }


if __name__ == "__main__":
    np.savez(GOLDEN, **compute())
    print(f"wrote {GOLDEN}")
