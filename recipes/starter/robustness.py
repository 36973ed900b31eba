"""How often a changed recording finds itself first among all others, for any models.

    python recipes/starter/robustness.py exported/starter exported/starter:last musicnn mfcc

The first 30 s of each piece of real music of one part are the index; queries are the same 30 s changed.
Vectors are standardised over the index and compared by cosine. MODEL is what kerasrep-evaluate takes.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from files import CollectError
from numpy.typing import NDArray

from kerasrep.embedding.representations import Representation, open_representations
from kerasrep.errors import KerasrepError

Audio = NDArray[np.float32]

RATE_HZ = 22_050
QUERY_SECONDS, LATER_SECONDS, SILENCE_SECONDS = 30.0, 1.2, 1.0
#: Pieces shorter than this are left out.
LEAST_SECONDS = QUERY_SECONDS + LATER_SECONDS
MP3_KILOBITS = 64


def through_mp3(audio: Audio) -> Audio:
    """Encode float32 [samples, 2] as MP3 and decode it; as long as before."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as encoded:
        stream = encoded.add_stream("libmp3lame", rate=RATE_HZ, layout="stereo", bit_rate=1000 * MP3_KILOBITS)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.T), format="fltp", layout="stereo")
        frame.sample_rate = RATE_HZ
        encoded.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file) as decoded:
        blocks = [frame.to_ndarray() for frame in decoded.decode(audio=0)]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1).T, np.float32)


def _quieter(decibels: float) -> Callable[[Audio], Audio]:
    return lambda audio: (audio * 10 ** (-decibels / 20)).astype(np.float32)


def _after_silence(audio: Audio) -> Audio:
    return np.concatenate([np.zeros((int(SILENCE_SECONDS * RATE_HZ), 2), np.float32), audio])


#: Name -> what happens to the query, float32 [samples, 2]. `later` takes other samples, see `queries_of`.
LATER = f"{LATER_SECONDS:g} s later"
CHANGES: dict[str, Callable[[Audio], Audio]] = {
    "12 dB quieter": _quieter(12),
    "20 dB quieter": _quieter(20),
    "channels swapped": lambda audio: audio[:, ::-1].copy(),
    "mono": lambda audio: np.repeat(audio.mean(axis=1, keepdims=True), 2, axis=1),
    f"{MP3_KILOBITS} kb/s MP3": through_mp3,
    f"{SILENCE_SECONDS:g} s of lead silence": _after_silence,
    LATER: lambda audio: audio,
}


def queries_of(audio: Audio) -> Iterator[tuple[str, Audio]]:
    """All changes of a piece, float32 [at least `LEAST_SECONDS`, 2] at `RATE_HZ`."""
    length, later = int(QUERY_SECONDS * RATE_HZ), int(LATER_SECONDS * RATE_HZ)
    for name, change in CHANGES.items():
        start = later if name == LATER else 0
        yield name, change(audio[start : start + length])


def own_first(index: NDArray[Any], queries: NDArray[Any], rows: Sequence[int]) -> int:
    """How many queries are nearest to the row of the index that they come from.

    Args:
        index: float [pieces, dimension].
        queries: float [queries, dimension].
        rows: Of each query the row of its piece.
    """
    index, queries = index.astype(np.float64), queries.astype(np.float64)
    mean, deviation = index.mean(axis=0), index.std(axis=0)
    kept = deviation > 1e-6 * np.abs(index).max(axis=0)
    index, queries = (((v - mean) / np.where(kept, deviation, 1))[:, kept] for v in (index, queries))
    index, queries = (
        v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30) for v in (index, queries)
    )
    return int(((queries @ index.T).argmax(axis=1) == np.asarray(rows)).sum())


def pieces_of(folder: Path, part: str) -> list[Path]:
    """The first stretch of each piece of real music that is long enough, of one part.

    Raises:
        CollectError: Where there are fewer than two.
    """
    found: dict[str, Path] = {}
    try:
        with (folder / "tracks.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                wanted = row["kind"] == "real" and row["part"] == part
                if wanted and float(row["seconds"]) >= LEAST_SECONDS:
                    found.setdefault(row["piece"], folder / row["path"])
    except OSError as error:
        raise CollectError(f"{error.filename}: cannot be read ({error.strerror}); see collect.py") from error
    if len(found) < 2:
        raise CollectError(f"{folder}: part {part} has {len(found)} pieces of {LEAST_SECONDS} s")
    return list(found.values())


def read(path: Path) -> Audio:
    """The beginning of a file, float32 [samples, 2] at `RATE_HZ`."""
    with soundfile.SoundFile(path) as file:
        audio = file.read(int((LEAST_SECONDS + 0.1) * file.samplerate), dtype="float32", always_2d=True)
        audio = soxr.resample(audio, file.samplerate, RATE_HZ)
    return np.ascontiguousarray(audio[:, :2] if audio.shape[1] > 1 else np.repeat(audio, 2, axis=1))


def robustness(
    models: Sequence[Representation], paths: Sequence[Path], n_queries: int, seed: int
) -> dict[str, dict[str, int]]:
    """Count, for each model and change, the queries that find themselves first."""
    asked = np.random.default_rng(seed).permutation(len(paths))[:n_queries].tolist()
    index: dict[str, list[NDArray[np.float32]]] = {model.name: [] for model in models}
    changed: dict[str, dict[str, list[NDArray[np.float32]]]] = {
        model.name: {name: [] for name in CHANGES} for model in models
    }
    order = []  # rows of the queries as they come
    for row, path in enumerate(paths):
        audio = read(path)
        versions = list(queries_of(audio)) if row in asked else []
        order += [row] * bool(versions)
        for model in models:
            index[model.name].append(model.embed(audio[: int(QUERY_SECONDS * RATE_HZ)], RATE_HZ))
            for name, version in versions:
                changed[model.name][name].append(model.embed(version, RATE_HZ))
    return {
        name: {
            change: own_first(np.stack(index[name]), np.stack(vectors), order)
            for change, vectors in of_model.items()
        }
        for name, of_model in changed.items()
    }


def table(found: dict[str, dict[str, int]]) -> str:
    """A Markdown table, a row a model."""
    lines = ["| | " + " | ".join(CHANGES) + " |", "|---" * (len(CHANGES) + 1) + "|"]
    lines += ["| " + " | ".join([name, *map(str, counts.values())]) + " |" for name, counts in found.items()]
    return "\n".join(lines)


def main() -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("data/starter"), help="that collect.py made")
    parser.add_argument("--part", choices=("A", "B", "C"), default="A")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = pieces_of(options.folder, options.part)
    found = robustness(open_representations(options.models), paths, options.queries, options.seed)
    print(f"{min(options.queries, len(paths))} queries among {len(paths)} pieces of part {options.part}\n")
    print(table(found))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CollectError, KerasrepError) as error:
        sys.exit(f"robustness.py: {error}")
