"""How well re-encoded copies are found: precision and recall of `kerasrep-search --duplicates` by threshold.

    python benchmarks/duplicates.py FOLDER_OF_AUDIO [MODEL] [--tracks 300]

Each track gets a copy in one of the ways of `COPIES`, in turn. A pair is right where it is a track and its copy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.files import find_audio
from kerasrep.embedding.listening.duplicates import duplicates
from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.embedding.models import find_model
from kerasrep.embedding.starter import default_model

#: Name -> suffix, settings of libsndfile, gain, and seconds cut off the beginning.
COPIES = {
    "MP3, good": (".mp3", {"compression_level": 0.2}, 1.0, 0.0),
    "MP3, small": (".mp3", {"compression_level": 0.9}, 1.0, 0.0),
    "Vorbis": (".ogg", {"compression_level": 0.6}, 1.0, 0.0),
    "Vorbis, 3 dB quieter": (".ogg", {"compression_level": 0.6}, 0.708, 0.0),
    "FLAC, 6 dB quieter": (".flac", {}, 0.5, 0.0),
    "FLAC, 0.4 s cut off": (".flac", {}, 1.0, 0.4),
}
THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)


def main() -> None:
    """Copy, embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path, nargs="?", default=None)
    parser.add_argument("--tracks", type=int, default=300)
    arguments = parser.parse_args()
    paths = find_audio([arguments.folder])[0][: arguments.tracks]
    _, model = find_model(arguments.model or default_model())
    with tempfile.TemporaryDirectory() as temporary:
        copies = {}
        for number, path in enumerate(paths):
            name = list(COPIES)[number % len(COPIES)]
            suffix, settings, gain, cut_seconds = COPIES[name]
            samples, rate_hz = soundfile.read(path)
            copy = Path(temporary, f"{number:05d}{suffix}")
            soundfile.write(copy, gain * samples[int(cut_seconds * rate_hz) :], rate_hz, **settings)
            copies[str(copy)] = (str(path), name)
        table = Path(temporary, "table.parquet")
        embed_catalogue(model, [*paths, *map(Path, copies)], table, Settings())
        _report(Tracks(read_embeddings(table)), copies)


def _report(tracks: Tracks, copies: dict[str, tuple[str, str]]) -> None:
    pairs = duplicates(tracks, min(THRESHOLDS))
    right = {
        frozenset((pair.first, pair.second)): pair.similarity
        for pair in pairs
        if copies.get(pair.second, ("",))[0] == pair.first
    }
    print(f"{len(copies)} tracks and as many copies, {tracks.table.embeddings.shape[1]} values each")
    print("threshold  precision  recall  false pairs")
    for threshold in THRESHOLDS:
        found = sum(pair.similarity >= threshold for pair in pairs)
        true = sum(similarity >= threshold for similarity in right.values())
        precision = true / found if found else float("nan")
        print(f"{threshold:9.2f}  {precision:9.3f}  {true / len(copies):6.3f}  {found - true:11d}")
    print("copy                      median similarity  lowest")
    for name in COPIES:
        some = [
            right.get(frozenset((path, copy)), np.nan) for copy, (path, kind) in copies.items() if kind == name
        ]
        print(f"{name:24s}  {np.nanmedian(some):17.4f}  {np.nanmin(some):6.4f}  missing {np.isnan(some).sum()}")


if __name__ == "__main__":
    main()
