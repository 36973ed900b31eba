"""Where a training step's time goes on a GPU: kernels by time, and how long the GPU waits.

    python benchmarks/timeline.py --batch 128 --precision float32
    XLA_FLAGS="$XLA_FLAGS --xla_gpu_enable_command_buffer=" python benchmarks/timeline.py
    python benchmarks/timeline.py --devices 2     # two GPUs: also how long both work at once
    python benchmarks/timeline.py --strategy ms-sr@fc --sources bpm tag self --corpus made-up  # shards

Prints JSON lines for what the host does, for each GPU's longest waits and for the kernels that take most, and
one for the step. CUDA graphs hide their kernels from the profiler; the second command turns them off.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One kernel or copy: device, name, operation that it belongs to, start and end in ms."""

    device: str
    name: str
    operation: str
    start: float
    end: float


def events(folder: Path) -> Iterator[Event]:
    """All that ran on the GPU's streams during a profile."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if not plane.name.startswith("/device:GPU"):
                continue
            stats = {number: value.name for number, value in plane.stat_metadata.items()}
            for line in plane.lines:
                if not line.name.startswith("Stream"):
                    continue
                for one in line.events:
                    values = {stats.get(stat.metadata_id, ""): stat for stat in one.stats}
                    start = line.timestamp_ns / 1e6 + one.offset_ps / 1e9
                    yield Event(
                        plane.name,
                        plane.event_metadata[one.metadata_id].name,
                        _text(values.get("hlo_op"), stats) or _text(values.get("tf_op"), stats),
                        start,
                        start + one.duration_ps / 1e9,
                    )


def waits(found: list[Event], steps: int, top: int) -> list[dict[str, Any]]:
    """Where the GPU waits longest: what ran before and after; ms a step."""
    found = sorted(found, key=lambda event: event.start)
    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    end = found[0].end if found else 0.0
    last = found[0] if found else None
    for event in found[1:]:
        if event.start > end:
            sums[_short(last), _short(event)].append(event.start - end)
        if event.end > end:
            end, last = event.end, event
    return [
        {"wait after": a, "before": b, "times": round(len(w) / steps, 2), "ms": round(sum(w) / steps, 4)}
        for (a, b), w in sorted(sums.items(), key=lambda item: -sum(item[1]))[:top]
    ]


def _short(event: Event | None) -> str:
    return "" if event is None else (event.operation[-40:] or event.name[:40])


def host_calls(folder: Path, steps: int, top: int) -> list[dict[str, Any]]:
    """What the host's threads spend their time in, nested calls counted in each; ms a step."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    sums: dict[str, list[float]] = defaultdict(list)
    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if plane.name.startswith("/host:CPU"):
                for line in plane.lines:
                    for one in line.events:
                        sums[plane.event_metadata[one.metadata_id].name[:80]].append(one.duration_ps / 1e9)
    return [
        {"host": name, "calls": round(len(times) / steps, 2), "ms": round(sum(times) / steps, 4)}
        for name, times in sorted(sums.items(), key=lambda item: -sum(item[1]))[:top]
    ]


def _text(stat: Any, names: dict[int, str]) -> str:
    if stat is None:
        return ""
    return str(stat.str_value or names.get(stat.ref_value, ""))


def busy_together(found: list[Event]) -> dict[str, float]:
    """Milliseconds with one device at work, with two, and so on."""
    changes = []
    for device in {event.device for event in found}:
        end = float("-inf")
        for event in sorted((e for e in found if e.device == device), key=lambda e: e.start):
            begin = max(event.start, end)
            if event.end > begin:
                changes += [(begin, 1), (event.end, -1)]
                end = event.end
    sums: dict[int, float] = defaultdict(float)
    at_work, before = 0, 0.0
    for when, change in sorted(changes):
        sums[at_work] += when - before
        at_work, before = at_work + change, when
    return {f"{n} at work": ms for n, ms in sorted(sums.items()) if n}


def summarise(found: list[Event], steps: int, top: int) -> list[dict[str, Any]]:
    """Lines to print; times are ms a step."""
    found = sorted(found, key=lambda event: event.start)
    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    busy, end = 0.0, 0.0
    for event in found:
        sums[event.name, event.operation].append(event.end - event.start)
        busy += max(0.0, event.end - max(event.start, end))
        end = max(end, event.end)
    lines = [
        {
            "kernel": re.sub(r"\s+", " ", name)[:110],
            "operation": operation[-60:],
            "calls": round(len(times) / steps, 2),
            "ms": round(sum(times) / steps, 4),
        }
        for (name, operation), times in sorted(sums.items(), key=lambda item: -sum(item[1]))[:top]
    ]
    span = found[-1].end - found[0].start if found else 0.0
    total = {
        "kernels": round(len(found) / steps, 1),
        "span_ms": round(span / steps, 4),
        "busy_ms": round(busy / steps, 4),
        "idle_share": round(1 - busy / span, 3) if span else None,
    }
    return [*lines, total]


def main() -> None:
    """Profile what the command line asks for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--mels", action="store_true", help="from ready mels")
    parser.add_argument("--corpus", help="from shards, which are made up there; a constant batch by default")
    parser.add_argument("--strategy", default="ss-r")
    parser.add_argument("--sources", nargs="+", default=["tag"])
    parser.add_argument("--schedule", default="alternating")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--top", type=int, default=30)
    arguments = parser.parse_args()
    import ours
    import tensorflow as tf

    options = {key: value for key, value in vars(arguments).items() if key not in ("steps", "top")}
    measure = ours.from_shards(options) if arguments.corpus else ours.trainer(options)
    measure(arguments.steps)
    unwatched = measure(arguments.steps) / arguments.steps
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        measure(arguments.steps)
        tf.profiler.experimental.stop()
        found = list(events(Path(folder)))
        lines = host_calls(Path(folder), arguments.steps, arguments.top)
        for device in sorted({event.device for event in found}):
            own = [event for event in found if event.device == device]
            lines += waits(own, arguments.steps, arguments.top)
            lines += [{"device": device} | line for line in summarise(own, arguments.steps, arguments.top)]
        lines.append({name: round(ms / arguments.steps, 4) for name, ms in busy_together(found).items()})
    for line in lines:
        print(json.dumps(line), flush=True)
    print(json.dumps({**ours.facts(), **vars(arguments), "step_ms": round(1e3 * unwatched, 4)}), flush=True)


if __name__ == "__main__":
    main()
