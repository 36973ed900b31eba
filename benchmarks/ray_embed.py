"""A catalogue of short tones on Ray clusters of one-core nodes on this machine; one node killed midway.

    python benchmarks/ray_embed.py                    # needs the extra scale
    python benchmarks/ray_embed.py --files 500 --nodes 1 2

One JSON line a measurement: one process without Ray, clusters of several sizes, and three nodes one of which
is killed, whose table is compared with that of the one process. `parts` is what the list and the rows of a
catalogue cost, measured in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "runtime" / "pool")]
RATE_HZ = 22_050
COMMAND = "import sys; from kerasrep.cli.embed import entry; sys.exit(entry())"


def write_tones(folder: Path, n_files: int) -> None:
    """Write mono tones of 1 to 3 seconds."""
    rng = np.random.default_rng(0)
    for number in range(n_files):
        path = folder / f"d{number % 20}" / f"{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = np.arange(int(rng.uniform(1, 3) * RATE_HZ)) / RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 2000) * seconds)
        soundfile.write(path, tone + 0.01 * rng.normal(size=len(tone)), RATE_HZ)


def start(folder: Path, output: str, *options: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "audio", "-o", output, *options],
        cwd=folder, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def end(process: subprocess.Popen[str], began: float, **what: object) -> None:
    """Wait for the command and print what it took."""
    said = process.communicate()[0].splitlines()
    load = os.getloadavg()[0]
    seconds = round(time.monotonic() - began, 1)
    print(
        json.dumps(
            {**what, "command_s": seconds, "load": load, "said": said[-1], "exit": process.returncode}
        ),
        flush=True,
    )


def killed(folder: Path) -> None:
    """Kill one of three nodes midway, and compare the tables."""
    from ray_nodes import cluster_of

    from kerasrep.embedding import read_embeddings

    with cluster_of(3) as nodes:
        began = time.monotonic()
        process = start(folder, "killed.parquet", "--ray", nodes.address)
        parts = folder / ".killed.parquet.parts"
        while process.poll() is None and len(list(parts.glob("*.parquet"))) < 12:  # of 24 at least
            time.sleep(0.02)
        processes = nodes.kill(1)
        end(process, began, measurement="three nodes, one killed", killed_processes=processes)
    found, expected = (read_embeddings(folder / name) for name in ("killed.parquet", "alone.parquet"))
    difference = float(np.abs(found.embeddings - expected.embeddings).max())
    print(
        json.dumps(
            {
                "measurement": "compared",
                "rows": len(found.paths),
                "same_paths_in_order": found.paths == expected.paths,
                "largest_difference": difference,
            }
        ),
        flush=True,
    )


def parts(folder: Path, entries: int) -> None:
    """What the list of a large catalogue and its parts cost."""
    from kerasrep.embedding.catalogue.layout import About
    from kerasrep.embedding.catalogue.listing import Listing
    from kerasrep.embedding.catalogue.parts import PartWriter, parts_in

    about = About("m", "f", ("shared",), ("shared",), "mean-std", 2.5, 2.5, RATE_HZ, "soundfile", "0")
    rows = np.random.default_rng(0).normal(size=(1000, 1, 512)).astype(np.float32)
    place, before = folder / "parts", resident_bytes()
    place.mkdir()
    paths = (Path(f"/music/artist-{n // 100:07d}/track-{n:09d}.mp3") for n in range(entries))
    began = time.process_time()
    listing = Listing(paths, place, about)
    listed = time.process_time() - began
    writer = PartWriter(place, about.to_json(), 512, listing.take)
    began = time.process_time()
    for number, file in enumerate(listing.waiting()):
        writer.add(file, rows[number % len(rows)])
        writer.end(file, 200.0)
    writer.publish()
    kept = time.process_time() - began
    began = time.process_time()
    assert sum(map(len, listing.rows(2.5))) == entries
    read = time.process_time() - began
    size = sum(path.stat().st_size for path in parts_in(place))
    print(
        json.dumps(
            {
                "measurement": "parts",
                "entries": entries,
                "list_us": round(listed / entries * 1e6, 1),
                "memory_bytes": (resident_bytes() - before) // entries,
                "keep_us": round(kept / entries * 1e6, 1),
                "read_us": round(read / entries * 1e6, 1),
                "bytes_with_512_values": size // entries,
            }
        ),
        flush=True,
    )


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2400)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--entries", type=int, default=200_000)
    arguments = parser.parse_args()
    from ray_nodes import cluster_of

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts(folder, arguments.entries)
        write_tones(folder / "audio", arguments.files)
        began = time.monotonic()
        end(start(folder, "alone.parquet"), began, measurement="one process, no Ray, two cores")
        killed(folder)
        for n_nodes in arguments.nodes:
            with cluster_of(n_nodes) as nodes:
                began = time.monotonic()
                process = start(folder, f"{n_nodes}.parquet", "--ray", nodes.address)
                end(process, began, measurement="one-core nodes", nodes=n_nodes)


if __name__ == "__main__":
    main()
