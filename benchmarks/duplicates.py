"""How well re-encoded copies are found: precision and recall of `kerasrep-search --duplicates` by threshold.

    python benchmarks/duplicates.py FOLDER_OF_AUDIO [MODEL] [--tracks 300]

Each track gets a copy in one of the ways of `COPIES`, in turn. A pair is right where it
is a track and its copy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import soundfile

from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.files import find_audio
from kerasrep.embedding.listening.nearest import THRESHOLD, duplicates
from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.embedding.models import find_model
from kerasrep.storage.export_directory import default_model

#: Name -> suffix, settings of libsndfile, gain, and seconds cut off the beginning.
COPIES = {
    "MP3, good": (".mp3", {"compression_level": 0.2}, 1.0, 0.0),
    "MP3, small": (".mp3", {"compression_level": 0.9}, 1.0, 0.0),
    "Vorbis": (".ogg", {"compression_level": 0.6}, 1.0, 0.0),
    "Vorbis, 3 dB quieter": (".ogg", {"compression_level": 0.6}, 0.708, 0.0),
    "FLAC, 6 dB quieter": (".flac", {}, 0.5, 0.0),
    "FLAC, 0.4 s cut off": (".flac", {}, 1.0, 0.4),
}
THRESHOLDS = (0.6, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)


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
            samples = gain * samples[int(cut_seconds * rate_hz) :]
            with soundfile.SoundFile(copy, "w", rate_hz, samples[0].size, **settings) as file:
                for start in range(0, len(samples), rate_hz):  # libsndfile crashes on long blocks of Vorbis
                    file.write(samples[start : start + rate_hz])
            copies[str(copy)] = (str(path), name)
        table = Path(temporary, "table.parquet")
        embed_catalogue(model, [*paths, *map(Path, copies)], table, Settings())
        _report(Tracks(read_embeddings(table)), copies)


def _report(tracks: Tracks, copies: dict[str, tuple[str, str]]) -> None:
    print(f"{len(copies)} tracks and as many copies, {tracks.table.embeddings.shape[1]} values each")
    print("threshold  precision  recall  false pairs")
    found = {}
    for threshold in sorted({*THRESHOLDS, THRESHOLD}):
        pairs = duplicates(tracks, threshold)
        found[threshold] = {pair.second for pair in pairs if copies.get(pair.second, ("",))[0] == pair.first}
        right, wrong = len(found[threshold]), len(pairs) - len(found[threshold])
        print(f"{threshold:9.2f}  {right / len(pairs):9.3f}  {right / len(copies):6.3f}  {wrong:11d}")
    for name in COPIES:
        some = [copy for copy, (_, kind) in copies.items() if kind == name]
        print(f"{name}: {sum(copy in found[THRESHOLD] for copy in some)} of {len(some)} at {THRESHOLD:g}")
    for pair in duplicates(tracks, THRESHOLD):
        if copies.get(pair.second, ("",))[0] != pair.first:
            names = (copies.get(path, (path,))[0] for path in (pair.first, pair.second))
            print(f"wrong, {pair.similarity:.4f}:", *names)


if __name__ == "__main__":
    main()
