"""Everything that a host with one GPU or two is measured by, one block after the other, beside its targets.

    python benchmarks/gpu_host.py --audio my_music --out results
    python benchmarks/gpu_host.py --audio my_music --out results --blocks embed overlap serving

A block is a command of this folder; what it prints is kept as OUT/NAME.jsonl, below the command and the date.
A block that the same command has made is not measured again, so that the work can be done in pieces. Writes
OUT/table.md: each ratio, its target, and whether it is met; or that it is missing. Nothing else should run on
the host. `--rounds 2 --seconds 0.1 --gpus 0` tries it on a CPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contest import machine

HERE = Path(__file__).parent
WORKERS_RECIPE = HERE.parent / "recipes" / "ms-sr-fc.yaml"
#: Of a line, those that tell one ratio of a block from another.
FACTS = ("strategy", "schedule", "precision", "batch", "batch a replica")


@dataclass(frozen=True)
class Block:
    """One command and what it is held to.

    Attributes:
        name: Of its file.
        words: Script of this folder and its options.
        targets: Pattern of a ratio's name -> the least that it should be; others are not in the table.
        gpus: How many it needs.
    """

    name: str
    words: tuple[str, ...]
    targets: Mapping[str, float]
    gpus: int = 1


def blocks(options: argparse.Namespace, n_gpus: int) -> tuple[Block, ...]:
    """All blocks, in the order of how many people wait for them."""
    on = ("--gpus", str(min(1, n_gpus)), "--rounds", str(options.rounds), "--seconds", str(options.seconds))
    files = ("embed.py", "--audio", str(options.audio), "--rounds", str(max(1, options.rounds - 1)))
    files += ("--model", str(options.model))
    overlapping = ("--hop-seconds", "0.5", "--layers", "all", "--peers", "decoding")
    decoding = {"kerasrep to decoding": 0.85, "shards to decoding": 0.85}
    step = {
        "kerasrep waveforms / PyTorch eager": 2.5,
        "kerasrep waveforms / PyTorch compiled": 1.5,
        "kerasrep waveforms bfloat16 / PyTorch eager": 3.0,
    }
    batch = ("--batch", str(options.batch))
    served = ("serving.py", str(options.model), "--seconds", str(4 * options.seconds))
    parts = ("workers.py", str(options.recipe), "--epochs", str(options.epochs), "--words", *options.words)
    return (
        Block("embed", (*files, "--peers", "decoding", "shards"), decoding, 0),
        Block("overlap", (*files, *overlapping), {"kerasrep to decoding": 0.8}, 0),
        Block("serving", (*served, "--clients", str(options.clients)), {"served / alone": 0.7}, 0),
        Block(
            "strategies",
            ("training.py", "strategies", *batch, *on),
            {".*from shards / constant batch": 0.9},
            0,
        ),
        Block("augment", ("training.py", "augment", *batch, *on), {".*neither": 0.85}, 0),
        Block("step", ("training.py", "step", *batch, *on), step),
        Block(
            "replicas",
            ("training.py", "replicas", *batch, *on),
            {"float32.*two GPUs / one GPU": 1.6, ".*bfloat16.*two GPUs / one GPU": 1.5},
            2,
        ),
        Block("workers", parts, {"workers / one process": 0.9}, 2),
    )


def ratios(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Name and value of each ratio that a block's lines hold."""
    for line in lines:
        facts = " ".join(str(line[fact]) for fact in FACTS if fact in line)
        if "ratios" in line:
            yield from line["ratios"].items()
        elif isinstance(line.get("ratio"), str):
            yield f"{facts} {line['ratio']}".strip(), float(line["value"])
        elif "ratio" in line:
            yield line["of"], float(line["ratio"])


def rows(block: Block, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of the table: those ratios that have a target, and targets that have no ratio."""
    date = next((line["date"] for line in lines if "date" in line), "")
    for pattern, least in block.targets.items():
        found = [(name, value) for name, value in ratios(lines) if re.search(f"(?:^|\\d ){pattern}$", name)]
        for name, value in found:
            met = "met" if value >= least else "missed"
            yield f"| {block.name} | {date} | {name} | {value:.2f} | {least:.2f} | {met} |"
        if not found:
            yield f"| {block.name} | {date} | {pattern} | | {least:.2f} | not measured |"


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of a block's file, what was measured with first; none where it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "{"]


def measure(block: Block, out: Path) -> list[dict[str, Any]]:
    """Run a block's command, where its file is not of the same command; what it prints becomes that file.

    Raises:
        subprocess.CalledProcessError: It failed; its own message stands above.
    """
    path = out / f"{block.name}.jsonl"
    if (there := read(path)) and there[0].get("command") == list(block.words):
        return there
    print(f"{block.name}: {' '.join(block.words)}", flush=True)
    script, *words = block.words
    partial = path.with_suffix(".part")
    today = f"{datetime.datetime.now().astimezone():%Y-%m-%d}"
    with partial.open("w", encoding="utf-8") as file:
        print(json.dumps({"command": block.words, "date": today}), file=file, flush=True)
        subprocess.run([sys.executable, str(HERE / script), *words], check=True, stdout=file)
    partial.replace(path)
    return read(path)


def main() -> int:
    """Measure what is not there, and write the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, required=True, help="a flat folder of audio, ten hours or more")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=HERE.parent / "exported" / "starter")
    parser.add_argument("--blocks", nargs="+", help="of them (default: all that the host can)")
    parser.add_argument("--gpus", type=int, help="of the host (default: those that nvidia-smi lists)")
    parser.add_argument("--recipe", type=Path, default=WORKERS_RECIPE, help="of workers")
    parser.add_argument("--words", nargs="*", default=["batches.size=256"], help="KEY=VALUE of that recipe")
    parser.add_argument("--epochs", type=int, default=200, help="of workers")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4, help="of each measurement; the first does not count")
    parser.add_argument("--seconds", type=float, default=1.5, help="about, of one measurement")
    options = parser.parse_args()
    n_gpus = options.gpus
    if n_gpus is None:
        listed = shutil.which("nvidia-smi") and subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False
        )
        n_gpus = listed.stdout.count("GPU ") if listed else 0
    everything = blocks(options, n_gpus)
    if unknown := set(options.blocks or ()) - {block.name for block in everything}:
        parser.error(f"--blocks: {', '.join(sorted(unknown))}: not in {[block.name for block in everything]}")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    failed = 0
    table = [f"{machine()}; GPUs: {n_gpus}", ""]
    table += ["| block | date | ratio | measured | at least | |", "|---|---|---|---|---|---|"]
    for block in everything:
        if options.blocks and block.name not in options.blocks:
            continue
        if block.gpus > n_gpus:
            print(f"{block.name}: needs GPUs: {block.gpus}, there are {n_gpus}", flush=True)
            continue
        try:
            table += rows(block, measure(block, options.out))
        except subprocess.CalledProcessError as error:
            print(f"{block.name}: failed with {error.returncode}", flush=True)
            failed += 1
    (options.out / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    print("\n".join(table))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
