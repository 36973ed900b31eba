"""A SavedModel behind a batcher: clients that each send a clip and wait, beside the network alone.

    python benchmarks/serving.py                       # the trunk that comes with kerasrep
    python benchmarks/serving.py exported/mss --clients 16 --clip-seconds 10

The batcher is TensorFlow's own (`BatchFunction`), the one that TensorFlow Serving uses; settings are those of
the export's `batching_parameters.txt`. Nothing goes over a network, so that what REST or gRPC cost comes on
top. The network alone gets batches of the largest size from memory, one after the other. Prints a JSON line:
clips a second of both, their ratio, and the time that a client waits (median, 99th percentile).
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contest import machine

from kerasrep.storage.export_directory import EMBED_TRACK, default_model, find_version, read_card

importlib.import_module("kerasrep")  # before TensorFlow, which reads once what kerasrep sets
import tensorflow as tf  # noqa: E402

Serve = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def batching(path: Path) -> dict[str, int]:
    """Numbers of a file of batching parameters."""
    found = re.findall(r"^(\w+) \{ value: (\d+) \}", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(value) for name, value in found}


def compiled(function: Serve) -> Serve:
    """As a graph, for clips of all lengths."""
    spec = [tf.TensorSpec((None, None, 2), tf.float32), tf.TensorSpec((None,), tf.int32)]
    return tf.function(function, input_signature=spec, autograph=False)


def batched(embed: Serve, parameters: dict[str, int]) -> Serve:
    """The same for single clips, which are put together to batches of 1, 2, 4 ... of them."""
    largest = parameters["max_batch_size"]
    sizes = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    in_batches = tf.nondifferentiable_batch_function(
        num_batch_threads=parameters["num_batch_threads"],
        max_batch_size=largest,
        batch_timeout_micros=parameters["batch_timeout_micros"],
        allowed_batch_sizes=[*sizes, largest],
        max_enqueued_batches=parameters["max_enqueued_batches"],
    )(compiled(embed))
    return compiled(in_batches)


def alone(embed: Serve, size: int, clip: np.ndarray, seconds: float) -> float:
    """Clips a second of batches that follow each other."""
    clips, lengths = np.repeat(clip[None], size, 0), np.full(size, len(clip), np.int32)
    for _ in range(2):  # the first ones compile and plan
        embed(tf.constant(clips), tf.constant(lengths)).numpy()
    batches, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not batches:
        embed(tf.constant(clips), tf.constant(lengths)).numpy()
        batches += 1
    return batches * size / passed


def served(serve: Serve, clients: int, clip: np.ndarray, seconds: float) -> tuple[float, np.ndarray]:
    """Clips a second of all clients, and how long each clip took, once all sizes of batches were seen."""
    length = tf.constant([len(clip)], tf.int32)
    serve(tf.constant(clip[None]), length)  # one thread traces it
    waited: list[float] = []
    begin, end = threading.Event(), threading.Event()

    def work() -> None:
        while not end.is_set():
            started = time.perf_counter()
            serve(tf.constant(clip[None]), length).numpy()
            if begin.is_set():
                waited.append(time.perf_counter() - started)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    begin.set()
    started = time.perf_counter()
    time.sleep(seconds)
    done, passed = len(waited), time.perf_counter() - started
    end.set()
    for thread in threads:
        thread.join()
    return done / passed, np.asarray(waited)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", help="by default the trunk that comes with kerasrep")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--clip-seconds", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--batch", type=int, help="largest batch; by default the export's")
    arguments = parser.parse_args()
    version = find_version(arguments.model or default_model())
    assert version is not None
    rate_hz = read_card(version).sample_rate_hz
    parameters = batching(version.parent / "batching_parameters.txt")
    parameters["max_batch_size"] = arguments.batch or parameters["max_batch_size"]
    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures[EMBED_TRACK]

    def embed(waveform: tf.Tensor, length_samples: tf.Tensor) -> tf.Tensor:
        return signature(waveform=waveform, length_samples=length_samples)["embedding"]

    clip = np.random.default_rng(0).normal(0, 0.1, (round(arguments.clip_seconds * rate_hz), 2))
    clip = clip.astype(np.float32)
    network = alone(compiled(embed), parameters["max_batch_size"], clip, arguments.seconds)
    rate, waited = served(batched(embed, parameters), arguments.clients, clip, arguments.seconds)
    line = {"machine": machine(), "devices": [gpu.name for gpu in tf.config.list_physical_devices("GPU")]}
    line |= {"clients": arguments.clients, "clip_seconds": arguments.clip_seconds, **parameters}
    line |= {"alone_clips_per_second": round(network, 1), "served_clips_per_second": round(rate, 1)}
    line |= {"of": "served / alone", "ratio": round(rate / network, 3)}
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        line[name] = round(1000 * float(np.quantile(waited, share)), 1)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
