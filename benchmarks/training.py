"""Training and embedding beside PyTorch; a JSON line a measurement, ratios last.

    python benchmarks/training.py step            # a training step, from ready mels and from waveforms
    python benchmarks/training.py embed           # the trained network, batch norm folded
    python benchmarks/training.py frontend        # the front end beside Kapre's own chain
    python benchmarks/training.py shards          # end to end from shards, beside a constant batch
    python benchmarks/training.py strategies      # the same with eight sources, each strategy and schedule
    python benchmarks/training.py settings        # settings of the training step beside the defaults
    python benchmarks/training.py augment         # augmentation and contrast beside neither
    python benchmarks/training.py growth          # cost against sources and branches
    python benchmarks/training.py memory          # peak memory against tracks, to a million
    python benchmarks/training.py replicas        # two GPUs beside one

Every contestant is a process of its own; they take turns, so that all meet the same load; medians of rounds.
The network is that of one source (Kim et al. 2018), the peer the same network in PyTorch. Put an allocator
where `--allocator` finds it (Debian: libjemalloc2); without one PyTorch's tuned peer runs on glibc's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contest import Contestant, compete, machine, ratios, serve

ALLOCATORS = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
STEADY = {"MALLOC_CONF": "background_thread:true,dirty_decay_ms:-1,muzzy_decay_ms:-1,metadata_thp:auto"}
#: Thresholds of glibc above every tensor, so that nothing is given back to the kernel.
KEPT = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=2147483647"}
STRATEGIES = ("ss-r", "mss-cr", "ms-cr@2", "ms-cr@4", "ms-cr@6", "ms-sr@fc")
SOURCES = ("self", "bpm", "year", "taste", "tag", "lyrics", "cdr_tag", "artist")


def worker(options: dict[str, Any]) -> None:
    """Run one contestant."""
    kind = options["kind"]
    if kind.startswith("torch"):
        import torch
        import torch_peer

        made = {"torch_step": torch_peer.trainer, "torch_embed": torch_peer.embedder}[kind](options)
        return serve({"torch": torch.__version__, "threads": torch.get_num_threads()}, made)
    importlib.import_module("kerasrep")  # before TensorFlow, which reads once what kerasrep sets
    import ours

    if kind == "prepare":
        paths = Path(options["prepared"]), Path(options["corpus"])
        return ours.made_up_prepared(*paths, options["tracks"], options["sources"], options["timed"])
    makers: dict[str, Callable[..., Callable[[int], float]]] = {
        "step": ours.trainer,
        "shards": ours.from_shards,
        "prepared": ours.from_prepared,
        "batches": ours.batches_alone,
        "embed": ours.embedder,
        "frontend": ours.front_end,
    }
    measure = makers[kind](options)
    serve(ours.facts(), measure)
    return None


def step(arguments: argparse.Namespace) -> None:
    """Training steps from ready mels and from waveforms."""
    for batch in arguments.batch:
        common = {"batch": batch}
        gpu = arguments.gpus > 0
        mels = [] if gpu else [("kerasrep", {"kind": "step", "mels": True}, {})]
        contestants = [
            *mels,
            ("kerasrep waveforms", {"kind": "step", "precision": "float32"}, {}),
            ("PyTorch eager", {"kind": "torch_step"}, {}),
        ]
        if gpu:
            graphs = {"kind": "torch_step", "compile": True, "fused": True, "mode": "reduce-overhead"}
            strongest = graphs | {"bfloat16": True, "layout": "channels_last"}
            contestants += [
                ("kerasrep waveforms bfloat16", {"kind": "step", "precision": "mixed_bfloat16"}, {}),
                ("PyTorch eager waveforms", {"kind": "torch_step", "mels": True}, {}),
                ("PyTorch compiled", {"kind": "torch_step", "compile": True, "fused": True}, {}),
                ("PyTorch CUDA graphs", graphs, {}),
                ("PyTorch CUDA graphs, waveforms", graphs | {"mels": True}, {}),
                ("PyTorch CUDA graphs, bfloat16, channels last", strongest, {}),
                ("PyTorch CUDA graphs, bfloat16, channels last, waveforms", strongest | {"mels": True}, {}),
            ]
        else:
            tuned = {"kind": "torch_step", "layout": "channels_last", "fused": True}
            contestants += [
                ("PyTorch tuned", tuned, _allocator(arguments)),
                ("PyTorch tuned compiled", tuned | {"compile": True}, _allocator(arguments)),
            ]
        made = [Contestant(name, common | options, env, batch) for name, options, env in contestants]
        ran = _compete(arguments, made, measure="training step", batch=batch)
        names = [one.name for one in ran]
        pairs = [(a, b) for a in names if a.startswith("kerasrep") for b in names if b.startswith("PyTorch")]
        ratios(ran, pairs, measure="training step", batch=batch)


def embed(arguments: argparse.Namespace) -> None:
    """The trained network on ready mels."""
    for batch in arguments.batch:
        contestants = [
            ("kerasrep", {"kind": "embed", "mels": True, "fold": True}, {}),
            ("kerasrep not folded", {"kind": "embed", "mels": True}, {}),
            ("kerasrep waveforms", {"kind": "embed", "fold": True}, {}),
            ("PyTorch eager", {"kind": "torch_embed"}, {}),
            ("PyTorch tuned", {"kind": "torch_embed", "layout": "channels_last"}, _allocator(arguments)),
            (
                "PyTorch tuned, folded",
                {"kind": "torch_embed", "layout": "channels_last", "fold": True},
                _allocator(arguments),
            ),
            (
                "PyTorch tuned, compiled",
                {"kind": "torch_embed", "layout": "channels_last", "fold": True, "compile": True},
                _allocator(arguments),
            ),
        ]
        made = [Contestant(n, {"batch": batch} | o, env, batch) for n, o, env in contestants]
        ran = _compete(arguments, made, measure="embedding", batch=batch)
        ratios(ran, [("kerasrep", b.name) for b in ran[1:]], measure="embedding", batch=batch)


def frontend(arguments: argparse.Namespace) -> None:
    """The front end alone; its rate is also given in times real time."""
    for batch in arguments.batch:
        made = [
            Contestant(name, {"kind": "frontend", "chain": chain, "batch": batch}, {}, batch)
            for name, chain in (
                ("kerasrep", "ours"),
                ("kerasrep as training uses it", "training"),
                ("Kapre chain", "kapre"),
            )
        ]
        ran = _compete(arguments, made, measure="front end", batch=batch)
        pairs = [(one.name, "Kapre chain") for one in ran if one.name != "Kapre chain"]
        ratios(ran, pairs, measure="front end", batch=batch)
        for one in ran:
            line = {"measure": "front end", "contestant": one.name, "times_real_time": round(2.5 * one.rate)}
            print(json.dumps(line), flush=True)


def shards(arguments: argparse.Namespace) -> None:
    """End to end from shards on disk, the same step on a constant batch, and batches alone."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or folder
        for batch in arguments.batch:
            options = {"batch": batch, "corpus": str(corpus)}
            made = [
                Contestant(name, options | {"kind": kind}, {}, batch)
                for name, kind in (
                    ("from shards", "shards"),
                    ("constant batch", "step"),
                    ("alone", "batches"),
                )
            ]
            ran = _compete(arguments, made, measure="end to end", batch=batch)
            ratios(ran, [("from shards", "constant batch")], measure="end to end", batch=batch)


def strategies(arguments: argparse.Namespace) -> None:
    """Eight sources (`ss-r`: one) from shards on disk, beside the same strategy on a constant batch.

    The constant batch of the alternating schedule is one of `bpm`. Segments through the trunk are
    counted: from shards an eighth of the steps is of `self`, with two a pair.
    """
    with tempfile.TemporaryDirectory() as folder:
        common = {"batch": arguments.batch[0], "corpus": str(arguments.corpus or folder)}
        for strategy in arguments.strategies:
            sources, schedules = (*SOURCES[1:], SOURCES[0]), ("alternating", "joint")
            if strategy == "ss-r":
                sources, schedules = (SOURCES[-1:], ("alternating",))
            for schedule in schedules:
                options = common | {"strategy": strategy, "sources": sources, "schedule": schedule}
                a_step = common["batch"]
                if schedule == "alternating" and len(sources) > 1:  # a step of `self` has pairs
                    a_step *= 1 + 1 / len(sources)
                made = [
                    Contestant("from shards", options | {"kind": "shards"}, {}, a_step),
                    Contestant("constant batch", options | {"kind": "step"}, {}, common["batch"]),
                ]
                facts = {"measure": "strategies", "strategy": strategy, "schedule": schedule}
                ratios(_compete(arguments, made, **facts), [("from shards", "constant batch")], **facts)


def settings(arguments: argparse.Namespace) -> None:
    """What each setting costs on this machine, from ready mels."""
    tried: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "defaults": ({}, {}),
        "not deterministic": ({"deterministic": False}, {}),
        "glibc keeps freed memory": ({}, KEPT),
        "jemalloc": ({}, _allocator(arguments)),
        "bfloat16": ({"precision": "mixed_bfloat16"}, {}),
        "bfloat16, not deterministic": ({"precision": "mixed_bfloat16", "deterministic": False}, {}),
        "oneDNN off": ({}, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        "inter-op 1": ({}, {"TF_NUM_INTEROP_THREADS": "1"}),
        "compiled": ({"xla": True}, {}),
    }
    for batch in arguments.batch:
        made = [
            Contestant(name, {"kind": "step", "mels": True, "batch": batch, **options}, env, batch)
            for name, (options, env) in tried.items()
        ]
        ran = _compete(arguments, made, measure="settings", batch=batch)
        ratios(ran, [(one.name, "defaults") for one in ran[1:]], measure="settings", batch=batch)


#: What the recipe of the shipped trunk does to its crops.
AUGMENT = {"gain_db": [-15, 6], "mix": 0.25, "swap": 0.5, "mono": 0.2, "equaliser": 0.5}
EVERYTHING = {**AUGMENT, "noise": 0.5, "band_limit": 0.5, "masks": 2}


def augment(arguments: argparse.Namespace) -> None:
    """Augmentation and contrast beside neither, in segments through the trunk a second."""
    for batch in arguments.batch:
        made = []
        for trunk in arguments.trunks:
            common = {"kind": "step", "batch": batch, "trunk": trunk, "schedule": "joint"}
            common |= {"sources": ("self", "tag"), "strategy": "ms-sr@fc"}
            for name, options in (
                ("neither", {}),
                ("contrast", {"self": "contrast"}),
                ("augmented", {"augment": AUGMENT}),
                ("everything", {"augment": EVERYTHING, "self": "contrast"}),
            ):
                made.append(Contestant(f"{trunk}, {name}", {**common, **options}, {}, batch))
        ran = _compete(arguments, made, measure="augment", batch=batch)
        pairs = [
            (one.name, f"{one.name.split(',')[0]}, neither") for one in made if "neither" not in one.name
        ]
        ratios(ran, pairs, measure="augment", batch=batch)


def growth(arguments: argparse.Namespace) -> None:
    """Cost of a step against sources and what they share, in both schedules."""
    batch = arguments.batch[0]
    for strategy in ("mss-cr", "ms-cr@4", "ms-sr@fc"):
        for schedule in ("alternating", "joint"):
            made = []
            for n in (2, 4, 8):
                options = {"kind": "step", "strategy": strategy, "schedule": schedule, "batch": batch}
                options |= {"sources": SOURCES[-n:], "mels": arguments.gpus == 0}
                made.append(Contestant(f"{n} sources", options, {}, batch))
            if schedule == "joint" and strategy != "ms-sr@fc":
                for name, together in (("apart", False), ("together", True)):
                    chosen = options | {"together": together}
                    made.append(Contestant(f"{n} sources, branches {name}", chosen, {}, batch))
            _compete(arguments, made, measure="growth", strategy=strategy, schedule=schedule, batch=batch)


def replicas(arguments: argparse.Namespace) -> None:
    """Two GPUs beside one of them, on a constant batch a replica and from shards on disk."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = str(arguments.corpus or folder)
        for batch in arguments.batch:
            for precision in arguments.precision:
                made = []
                for kind, name in (("step", ""), ("shards", " from shards")):
                    options = {"kind": kind, "batch": batch, "precision": precision, "corpus": corpus}
                    first = {"CUDA_VISIBLE_DEVICES": "0"}
                    made.append(Contestant(f"one GPU{name}", options, first, batch))
                    made.append(Contestant(f"two GPUs{name}", options | {"devices": 2}, {}, 2 * batch))
                facts = {"measure": "replicas", "precision": precision, "batch a replica": batch}
                pairs = [(two.name, one.name) for one, two in zip(made[::2], made[1::2], strict=True)]
                pairs.append(("two GPUs from shards", "two GPUs"))
                ratios(_compete(arguments, made, **facts), pairs, **facts)


def memory(arguments: argparse.Namespace) -> None:
    """Peak memory of a training against the tracks of its corpus: eight sources, or timed labels of one."""
    batch = arguments.batch[0]
    sources, strategy = (("self", "tag"), "ms-sr@fc") if arguments.timed else (SOURCES, "ms-cr@4")
    with tempfile.TemporaryDirectory() as folder:
        for tracks in arguments.tracks:
            root = Path(folder) / str(tracks)
            options = {"strategy": strategy, "sources": sources, "batch": batch, "timed": arguments.timed}
            made = {"kind": "prepare", "prepared": str(root), "corpus": folder, "tracks": tracks}
            subprocess.run([sys.executable, __file__, "--worker", json.dumps(options | made)], check=True)
            one = Contestant(f"{tracks} tracks", options | {"kind": "prepared", "prepared": str(root)})
            one.start(Path(__file__))
            seconds = [one.ask(8)["seconds"] / 8 for _ in range(3)]
            line = {"measure": "memory", "tracks": tracks, "timed": arguments.timed, "batch": batch}
            line |= one.memory_mib()
            one.stop()
            on_disk = sum((root / name).stat().st_size for name in ("index.npz", "targets.npz"))
            line |= {"index_and_targets_mib": round(on_disk / 2**20), "step_seconds": round(min(seconds), 3)}
            print(json.dumps(line), flush=True)
            shutil.rmtree(root)


def _compete(arguments: argparse.Namespace, made: list[Contestant], **facts: Any) -> list[Contestant]:
    for one in made:
        if one.options["kind"].startswith("torch") and arguments.peer_python:
            one.python = arguments.peer_python
    return compete(Path(__file__), made, arguments.rounds, arguments.seconds, machine=machine(), **facts)


def _allocator(arguments: argparse.Namespace) -> dict[str, str]:
    path = Path(arguments.allocator)
    return {"LD_PRELOAD": str(path), **STEADY} if path.is_file() else {}


def main() -> None:
    """Measure what the command line asks for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "--worker" in sys.argv:
        worker(json.loads(sys.argv[sys.argv.index("--worker") + 1]))
        return
    measures = {
        f.__name__: f
        for f in (step, embed, frontend, shards, strategies, settings, augment, growth, memory, replicas)
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", nargs="+", choices=sorted(measures))
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, help="of strategies")
    parser.add_argument("--trunks", nargs="+", default=["published", "residual"], help="of augment")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="about, of one measurement")
    parser.add_argument("--peer-python", help="interpreter that has PyTorch, where it is another one")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--precision", nargs="+", default=["float32", "mixed_bfloat16"], help="of replicas")
    parser.add_argument("--tracks", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--timed", type=int, default=0, help="timed labels a track, of memory")
    parser.add_argument("--corpus", type=Path, help="where the made-up shards are kept")
    parser.add_argument("--allocator", default=ALLOCATORS, help="preloaded for the tuned peer")
    arguments = parser.parse_args()
    for name in arguments.measure:
        measures[name](arguments)


if __name__ == "__main__":
    main()
