"""Write `starter.npz` anew: what the shipped trunk gives for a synthesised clip.

Run it only where the shipped trunk is replaced or a change of embeddings is meant, and name that in
CHANGELOG.md:

    python tests/serving/regenerate_starter.py
"""

import importlib.util
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "exported" / "starter"
REFERENCE = Path(__file__).with_name("starter.npz")


def clip() -> tuple[np.ndarray, int]:
    """The clip of `tests/golden`, float32 [66150, 2], and its rate in hertz."""
    script = ROOT / "tests" / "golden" / "regenerate.py"
    spec = importlib.util.spec_from_file_location("golden_clip", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.clip(), module.RATE_HZ


def compute(embedder) -> dict[str, np.ndarray]:
    """The clip's embedding, and that of its first segment."""
    waveform, rate_hz = clip()
    first = waveform[np.newaxis, : embedder.segment_samples]
    return {"track": embedder.embed(waveform, rate_hz), "segment": embedder.embed_segments(first)[0]}


if __name__ == "__main__":
    import kerasrep

    np.savez(REFERENCE, **compute(kerasrep.load(STARTER)))
    print(f"wrote {REFERENCE}")
