"""Commands as processes that are killed, and file systems that run full."""

import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from kerasrep.storage.run_directory import LOG_NAME

ROOT = Path(__file__).parents[2]


def start(command, arguments, log, before="", **environment):
    """Start a console command; what it prints goes to `log`, the word `ready` first, after the imports."""
    code = f"import sys\n{before}\nprint('ready', flush=True)\n"
    code += f"from kerasrep.cli.{command} import entry\nsys.exit(entry())"
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | {k: str(v) for k, v in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def run(command, arguments, log, before="", **environment):
    """Run a console command to its end; its exit code and what it printed."""
    process = start(command, arguments, log, before, **environment)
    code = process.wait(timeout=900)
    return code, log.read_text()


def content_of(path):
    """What is in a file; of a log, which has times and earlier sessions, how the last one ended."""
    if not path.name.endswith(LOG_NAME):
        return path.read_bytes()
    return json.loads(path.read_text().splitlines()[-1])["ended"].encode()


def wait_until_ready(process, log):
    while process.poll() is None and b"ready\n" not in log.read_bytes():
        time.sleep(0.02)


def told_in_one_line(command, code, said, *words):
    """The command failed as it should: one line, without a traceback; returns that line."""
    assert code == 1, said
    assert "Traceback" not in said, said
    lines = [line for line in said.splitlines() if line.startswith(f"kerasrep-{command}: error: ")]
    assert len(lines) == 1, said
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


@dataclasses.dataclass
class Outcome:
    """One row of the table."""

    fault: str
    tried: int
    survived: int
    recovery_seconds: list[float]

    def line(self):
        times = self.recovery_seconds
        median = f"{statistics.median(times):8.1f} {max(times):8.1f}" if times else f"{'-':>8} {'-':>8}"
        return f"{self.fault:<58}{self.tried:6}{self.survived:10}{self.tried - self.survived:6} {median}"


def kill_again_and_again(begin, go_on, check, span_seconds, kills, seed, log):
    """Kill -9 at random moments until there were `kills`; what ends by itself is checked and begun anew.

    Args:
        begin: Gives a place where nothing was done.
        go_on: Starts or continues the command there; returns the process.
        check: Fails where the result is not that of an unbroken run.
        span_seconds: Kills fall into this time after the imports, evenly.
        kills: How many.
        seed: Of the moments.
        log: What the process prints.

    Returns:
        Seconds from the restart after the last kill to the end of the work, one a place.
    """
    rng, done, place, seconds = random.Random(seed), 0, begin(), []
    began_seconds = None
    while done < kills:
        began_seconds = time.perf_counter()
        process = go_on(place)
        wait_until_ready(process, log)
        try:
            process.wait(timeout=rng.uniform(0, span_seconds))
        except subprocess.TimeoutExpired:
            process.kill()
        code = process.wait()
        if code == -signal.SIGKILL:
            done += 1
            continue
        assert code == 0, log.read_text()
        check(place)
        seconds.append(time.perf_counter() - began_seconds)
        place = begin()
    began_seconds = time.perf_counter()
    process = go_on(place)
    assert process.wait(timeout=900) == 0, log.read_text()
    check(place)
    return [*seconds, time.perf_counter() - began_seconds]
