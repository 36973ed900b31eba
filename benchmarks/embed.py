"""Speed and memory of embedding a folder; one JSON line a measurement, ratios last.

    python benchmarks/embed.py                        # 24 files of 3 minutes: mp3, ogg, flac; needs torch
    python benchmarks/embed.py --audio my_music       # a folder of one's own
    python benchmarks/embed.py --memory               # peak memory by number and length of files; 5 minutes
    python benchmarks/embed.py --audio my_music --model exported/starter --peers decoding shards

The peers, in the same run and in turn: `librosa`, which loads one file after another, makes its mels and
runs the same network in PyTorch, as the paper's authors extract; `musicnn`, the published tagger's features
through our own reader; `decoding`, which decodes and resamples alone, a thread a processor; and `shards`,
which writes what training reads (`kerasrep-prepare`). Every measurement is a process of its own. Its clock
starts when models are loaded and have run once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RATE_HZ = 44_100
#: Of the file that is embedded before anything is measured: more segments than a GPU takes at once.
WARM_SECONDS = 360
FORMS = (("mp3", "MP3", "MPEG_LAYER_III"), ("ogg", "OGG", "VORBIS"), ("flac", "FLAC", "PCM_16"))
MIB_OF_KIB = 2**10


def write_audio(path: Path, form: str, subtype: str, seconds: float, seed: int, channels: int = 2) -> None:
    """A chord that changes every second, with noise; written block by block."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(seed)
    time_seconds = np.arange(RATE_HZ) / RATE_HZ
    with soundfile.SoundFile(path, "w", RATE_HZ, channels, subtype, format=form) as file:
        for _ in range(round(seconds)):
            pitches_hz = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
            chord = np.sin(2 * np.pi * np.outer(time_seconds, pitches_hz)).sum(axis=1) / 8
            samples = chord[:, None] + rng.normal(0, 0.02, (RATE_HZ, channels))
            for start in range(0, RATE_HZ, 4096):  # libsndfile's Vorbis writer has no stack for more
                file.write(samples[start : start + 4096])


def write_folder(folder: Path, n_files: int, seconds: float) -> None:
    """Files of all forms in turn."""
    for number in range(n_files):
        suffix, form, subtype = FORMS[number % len(FORMS)]
        write_audio(folder / f"{number:04d}.{suffix}", form, subtype, seconds, number)


def untrained_export(folder: Path) -> Path:
    """An export of `ms-sr@fc` with initial weights: speed does not depend on them."""
    import numpy as np

    from kerasrep.model.restore import TrainedRun, save_scaler, save_weights
    from kerasrep.model.strategies import Scaler, network_of
    from kerasrep.recipe.file import write_recipe
    from kerasrep.recipe.schema import Recipe
    from kerasrep.serving.export import export_run
    from kerasrep.storage.run_directory import RunDirectory

    sources = ("tag", "artist")
    recipe = Recipe.model_validate({"name": "untrained", "strategy": "ms-sr@fc", "sources": sources})
    scaler = Scaler(np.full(128, -30, np.float32), np.full(128, 15, np.float32))
    network = network_of(recipe, dict.fromkeys(sources, 50), scaler)
    run = RunDirectory(folder / "run")
    run.best.parent.mkdir(parents=True)
    write_recipe(run.recipe, recipe)
    save_scaler(run.scaler, scaler)
    save_weights(run.best, network)
    return export_run(TrainedRun(run, recipe, network), folder / "exported", "untrained")


def measure_kerasrep(
    audio: str, model: str, hop_seconds: float | None = None, layers: str = "last"
) -> dict[str, Any]:
    """The whole catalogue, table written."""
    from kerasrep.embedding.catalogue.job import Settings, embed_catalogue

    with tempfile.TemporaryDirectory() as folder:
        warm, settings = Path(folder) / "warm.flac", Settings(hop_seconds=hop_seconds, layers=layers)
        write_audio(warm, "FLAC", "PCM_16", WARM_SECONDS, 0)
        find = _preloaded(Path(model))
        embed_catalogue(find, [warm], Path(folder) / "warm.parquet", settings)  # a full batch
        loaded_mib = peak_mib()
        start = time.perf_counter()
        summary = embed_catalogue(find, [Path(audio)], Path(folder) / "x.parquet", settings)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "audio_seconds": sum(_durations(audio)),
        "embedding_seconds": round(summary.elapsed_seconds, 2),  # the rest lists files and writes the table
        "files": summary.files,
        "loaded_mib": loaded_mib,
    }


def _preloaded(model: Path) -> Path:
    """Load the model; the catalogue gets the loaded one."""
    from kerasrep.embedding import named

    load, found = named.find_model(model)
    loaded = load(found)
    named.find_model = lambda path: (lambda _: loaded, found)
    return found


def measure_librosa(audio: str, model: str) -> dict[str, Any]:
    """One file after another: librosa's loading and mels of the whole track, PyTorch's network."""
    import librosa
    import numpy as np
    import torch
    from torch_peer import Network

    network = Network(head=False).eval()

    def embed(path: str) -> Any:
        waveform, _ = librosa.load(path, sr=22_050, mono=False)
        stereo = np.broadcast_to(waveform, (2, waveform.shape[-1]))
        padded = np.pad(stereo, ((0, 0), (0, -stereo.shape[1] % 55_125)))
        mel = librosa.feature.melspectrogram(y=padded, sr=22_050, n_fft=1024, hop_length=256, n_mels=128)
        decibels = (librosa.power_to_db(mel, ref=1.0, top_db=80.0) + 30) / 15
        n = padded.shape[1] // 55_125
        frames = [decibels[:, :, k * 215 : k * 215 + 216] for k in range(n)]
        with torch.inference_mode():
            features = network(torch.from_numpy(np.stack(frames).transpose(0, 1, 3, 2).astype(np.float32)))
        return np.concatenate([features.mean(0).numpy(), features.std(0, correction=0).numpy()])

    paths = sorted(str(path) for path in Path(audio).iterdir())
    embed(paths[0])
    start = time.perf_counter()
    vectors = [embed(path) for path in paths]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "audio_seconds": sum(_durations(audio)), "files": len(vectors)}


def measure_musicnn(audio: str, model: str) -> dict[str, Any]:
    """The features of the published tagger, several files at once."""
    from kerasrep.embedding.baselines.musicnn import Musicnn

    tagger, paths = Musicnn(), sorted(Path(audio).iterdir())
    list(tagger.embed_files(paths[:1]))
    start = time.perf_counter()
    results = list(tagger.embed_files(paths))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "audio_seconds": sum(_durations(audio)), "files": len(results)}


def measure_decoding(audio: str, model: str) -> dict[str, Any]:
    """Decoding by libsndfile and resampling by soxr, whole files, a thread a processor."""
    from concurrent.futures import ThreadPoolExecutor

    import soundfile
    import soxr

    def decode(path: Path) -> int:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return len(soxr.resample(samples, rate_hz, 22_050))

    paths = sorted(Path(audio).iterdir(), key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        start = time.perf_counter()
        lengths = list(pool.map(decode, paths))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "audio_seconds": sum(lengths) / 22_050, "files": len(paths)}


def measure_shards(audio: str, model: str) -> dict[str, Any]:
    """What `kerasrep-prepare` does with the audio."""
    from kerasrep.data.shard_decoding import AudioItem
    from kerasrep.data.shard_writer import write_shards
    from kerasrep.recipe.network import AudioSettings
    from kerasrep.storage.run_directory import PreparedDirectory

    items = [AudioItem(path.name, path, "train") for path in sorted(Path(audio).iterdir())]
    with tempfile.TemporaryDirectory(dir=Path(audio).parent) as folder:
        start = time.perf_counter()
        written = write_shards(PreparedDirectory(Path(folder)), items, AudioSettings(), progress=False)
        seconds = time.perf_counter() - start
    audio_seconds = float(written.index.samples.sum()) / written.index.sample_rate_hz
    return {"seconds": seconds, "audio_seconds": audio_seconds, "files": len(written.index.track_ids)}


def peak_mib() -> float:
    """Highest resident memory of this process so far; what `getrusage` says counts the parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return round(int(found[1]) / MIB_OF_KIB, 1) if found else float("nan")


def _durations(audio: str) -> list[float]:
    import soundfile

    return [soundfile.info(path).duration for path in sorted(Path(audio).iterdir())]


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "kerasrep": measure_kerasrep,
    "librosa": measure_librosa,
    "musicnn": measure_musicnn,
    "decoding": measure_decoding,
    "shards": measure_shards,
}


def alone(what: str, note: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """Run a measurement in a process of its own, print its line and return it."""
    command = [sys.executable, __file__, "--alone", json.dumps({"what": what, "given": given})]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = {"measurement": what} | (note or {}) | json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def compare(audio: Path, model: Path, peers: list[str], rounds: int, **of_ours: Any) -> None:
    """Ours and the peers in turn; the ratios of the medians last."""
    speeds: dict[str, list[float]] = {what: [] for what in ("kerasrep", *peers)}
    for _ in range(rounds):
        for what, found in speeds.items():
            settings = of_ours if what == "kerasrep" else {}
            found.append(alone(what, audio=str(audio), model=str(model), **settings)["times_real_time"])
    medians = {what: statistics.median(found) for what, found in speeds.items()}
    ratios = {f"kerasrep to {peer}": round(medians["kerasrep"] / medians[peer], 2) for peer in peers}
    if {"shards", "decoding"} <= set(peers):
        ratios["shards to decoding"] = round(medians["shards"] / medians["decoding"], 2)
    print(json.dumps({"medians": medians, "ratios": ratios}), flush=True)


def memory(folder: Path, model: Path) -> None:
    """Peak memory with more files, and with longer ones."""
    for n_files in (100, 1000, 10_000):
        audio = folder / f"files-{n_files}"
        audio.mkdir()
        write_audio(folder / "one.flac", "FLAC", "PCM_16", 2, 0)
        for number in range(n_files):
            (audio / f"{number:05d}.flac").hardlink_to(folder / "one.flac")
        alone("kerasrep", {"files_of_2_s": n_files}, audio=str(audio), model=str(model))
    for minutes in (6, 60, 600):
        audio = folder / f"minutes-{minutes}"
        audio.mkdir()
        write_audio(audio / "long.flac", "FLAC", "PCM_16", 60 * minutes, 0, channels=1)
        alone("kerasrep", {"minutes": minutes}, audio=str(audio), model=str(model))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="Speed and memory of embedding a folder.")
    parser.add_argument("--audio", type=Path, help="a flat folder of audio")
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=[*MEASUREMENTS][1:], default=["librosa", "musicnn"])
    parser.add_argument("--hop-seconds", type=float, help="of ours")
    parser.add_argument("--layers", default="last", help="of ours")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        asked = json.loads(options.alone)
        before = os.times()
        found = MEASUREMENTS[asked["what"]](**asked["given"])
        after = os.times()
        found["user_seconds"] = round(after.user - before.user, 1)  # of all cores, loading included
        found["system_seconds"] = round(after.system - before.system, 1)
        found["times_real_time"] = round(found["audio_seconds"] / found["seconds"], 1)
        found["peak_mib"] = peak_mib()
        print(json.dumps(found | {"seconds": round(found["seconds"], 2)}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model or untrained_export(folder)
        if options.memory:
            memory(folder, model)
            return
        audio = options.audio
        if audio is None:
            audio = folder / "audio"
            audio.mkdir()
            write_folder(audio, options.files, options.seconds)
        of_ours = {"hop_seconds": options.hop_seconds, "layers": options.layers}
        compare(audio, model, options.peers, options.rounds, **of_ours)


if __name__ == "__main__":
    main()
