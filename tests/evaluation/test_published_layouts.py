"""`kerasrep-evaluate` on a miniature of every published data set, end to end."""

import csv

import numpy as np
from miniatures import write_all

from kerasrep.cli import command, evaluate


def test_every_published_layout_is_evaluated_end_to_end(tmp_path, capsys):
    write_all(tmp_path / "data")
    where = ["--data", str(tmp_path / "data"), "-o", str(tmp_path / "out")]
    probes = ["--probes", "linear_svm", "ridge", "wmf_features"]
    assert command.run(evaluate.main, "evaluate", ["mfcc", "--tasks", "paper", *where, *probes]) == 0
    out = capsys.readouterr().out
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    by_task = {}
    for row in found:
        by_task.setdefault(row["task"], {}).setdefault(row["metric"], {}).setdefault(row["probe"], []).append(
            float(row["value"])
        )
    assert list(by_task) == [
        *("fma", "gtzan", "ext_ballroom", "irmas", "emotion_arousal", "emotion_valence", "jam", "lastfm1k")
    ]
    for task, metrics in by_task.items():  # each class has a pitch of its own, so MFCC find it
        values = next(iter(metrics.values()))
        probe = next(iter(values))
        assert np.mean(values[probe]) > np.mean(values["chance"]) + 0.05, task
    assert "25,000 published" in out and "unverified" in out
