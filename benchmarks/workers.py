"""One process with all devices beside `--workers N`, a process a device: steps a second of one recipe.

    python benchmarks/workers.py recipes/starter.yaml --words batches.size=512 model.trunk=published

Whole trainings by `kerasrep-train` in turn; the first one prepares. The rate is that of the second half of
the epochs but the last one, by the run's `history.csv`: compiling and validation do not count. A batch is
divided among the devices either way. Prints a JSON line a training, and the ratio of the medians last.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from contest import machine

TRAIN = "import sys; from kerasrep.cli.train import entry; sys.exit(entry())"


def steps_per_second(history: Path) -> float:
    """Of the epochs from the middle one to the last but one."""
    with history.open(newline="", encoding="utf-8") as file:
        places = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)]
    (first_step, first_seconds), (last_step, last_seconds) = places[len(places) // 2], places[-2]
    return (last_step - first_step) / (last_seconds - first_seconds)


def main() -> None:
    """Train in turn and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--words", nargs="*", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if (epochs := arguments.epochs) < 4:
        parser.error(f"--epochs {epochs}: is not at least 4")
    keys = ("epochs", "validate_every_epochs", "checkpoint_every_epochs")
    words = [*arguments.words, "export.weights=float32", *(f"training.{key}={epochs}" for key in keys)]
    kinds = {"one process": [], "workers": ["--workers", str(arguments.workers)]}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for kind, options in kinds.items():
                run = Path(folder, f"{kind.split()[0]}-{number}")
                command = [sys.executable, "-c", TRAIN, arguments.recipe, *words, *options]
                command += [f"export.directory={run}-exported", "--run-dir", str(run)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                rates[kind].append(steps_per_second(run / "history.csv"))
                line = {"measurement": kind, "steps_per_second": round(rates[kind][-1], 2)}
                print(json.dumps(line), flush=True)
    one, several = (statistics.median(found) for found in rates.values())
    line = {"machine": machine(), "workers": arguments.workers, "of": "workers / one process"}
    line |= {"ratio": round(several / one, 3)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
