"""Peers that take turns: every contestant is a process of its own, and only one of them works at a time."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Contestant:
    """A process that measures on request.

    Attributes:
        name: For the report.
        options: What `worker` of the script is called with.
        environment: Variables added to those of this process.
        segments: Segments of one step.
        seconds: Of each measurement, a step.
        python: Interpreter.
    """

    name: str
    options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    segments: float = 1
    seconds: list[float] = field(default_factory=list)
    python: str = sys.executable

    def start(self, script: Path) -> None:
        """Start the process and wait until it is warm."""
        self.process = subprocess.Popen(
            [self.python, str(script), "--worker", json.dumps(dict(self.options))],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended with {self.process.wait()}")
        return json.loads(line)  # type: ignore[no-any-return]

    def ask(self, steps: int) -> dict[str, Any]:
        """Make steps; what the process answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._answer()

    def memory_mib(self) -> dict[str, int]:
        """Peak of the memory that the process has held, and what it holds that no file has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if "kB" in line}
        return {"peak_mib": kib["VmHWM"] // 1024, "not_of_files_mib": kib["RssAnon"] // 1024}

    def stop(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    @property
    def rate(self) -> float:
        """Median segments a second."""
        return self.segments / statistics.median(self.seconds)


def serve(facts: Mapping[str, Any], measure: Callable[[int], float]) -> None:
    """Answer the requests of the starting process, a number of steps in, seconds out, and end the process."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    measure(1)
    print(json.dumps(dict(facts)), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": measure(int(line))}), file=out, flush=True)
    os._exit(0)  # an input pipeline that is still reading ahead would keep the process alive


def compete(
    script: Path, contestants: Sequence[Contestant], rounds: int, seconds: float, **facts: Any
) -> list[Contestant]:
    """Let contestants take turns, and print one JSON line for each.

    Args:
        script: Understands `--worker OPTIONS`.
        contestants: Those that fail to start are reported and left out.
        rounds: Measurements of each; the first is thrown away.
        seconds: About how long one measurement takes.
        facts: Added to every line.

    Returns:
        Those that ran.
    """
    running = []
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) // 4)) as starters:
        started = [starters.submit(one.start, script) for one in contestants]
    for one, start in zip(contestants, started, strict=True):
        if error := start.exception():
            print(json.dumps({**facts, "contestant": one.name, "failed": str(error)}), flush=True)
        else:
            running.append(one)
    steps = {}
    for one in running:
        one.ask(2)
        steps[one.name] = max(1, round(seconds / (one.ask(2)["seconds"] / 2)))
    for number in range(rounds):
        for one in running:
            taken = one.ask(steps[one.name])["seconds"] / steps[one.name]
            if number:
                one.seconds.append(taken)
    for one in running:
        one.stop()
        line = {
            **facts,
            "contestant": one.name,
            "segments_per_second": round(one.rate, 1),
            "ms_per_segment": round(1e3 / one.rate, 4),
            "spread": [round(one.segments / s, 1) for s in (max(one.seconds), min(one.seconds))],
            **one.facts,
        }
        print(json.dumps(line), flush=True)
    return running


def ratios(contestants: Sequence[Contestant], pairs: Sequence[tuple[str, str]], **facts: Any) -> None:
    """Print the ratio of rates of each pair whose members ran."""
    rates = {one.name: one.rate for one in contestants}
    for mine, peer in pairs:
        if mine in rates and peer in rates:
            line = {**facts, "ratio": f"{mine} / {peer}", "value": round(rates[mine] / rates[peer], 3)}
            print(json.dumps(line), flush=True)


def machine() -> str:
    """Processor and cores of this machine."""
    name = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":")[1] for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0].strip() if names else name
    return f"{len(os.sched_getaffinity(0))} cores {name}"
