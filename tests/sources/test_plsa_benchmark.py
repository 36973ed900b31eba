"""The benchmark of the factor models runs and compares what it says it compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_small_benchmark_measures_both_models_and_ends_with_ratios():
    done = subprocess.run(
        [sys.executable, "benchmarks/factors.py", "--scale", "small", "--iterations", "150"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    ours, theirs, ratios = (json.loads(line) for line in done.stdout.splitlines())
    assert (ours["model"], theirs["model"]) == ("kerasrep", "scikit-learn")
    assert ours["nonzeros"] == theirs["nonzeros"] > 59_000
    assert ratios["seconds_an_iteration_ratio"] > 0 and ratios["added_mib_ratio"] > 0
    assert abs(ratios["log_likelihood_gain_over_scikit_learn"]) < 0.01  # the same optimum, nearly
