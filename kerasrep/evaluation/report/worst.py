"""The items that representations get wrong most, to listen to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from kerasrep.evaluation.base import Evaluation
from kerasrep.evaluation.report.overview import Overview

#: Of each task.
SHOWN = 10


@dataclass(frozen=True)
class WorstItem:
    """An item, and what was said of it.

    Attributes:
        item: Its name.
        truth: Its label.
        predictions: Representation -> what the first probe said.
        address: Of its audio, from the page on; empty where there is none.
    """

    item: str
    truth: str
    predictions: Mapping[str, str]
    address: str


def worst_items(
    overview: Overview, audio: Mapping[str, Mapping[str, Path]], folder: Path
) -> dict[str, list[WorstItem]]:
    """Of each task with labels, the items of the lowest mean score over all representations, the worst first.

    Args:
        overview: Evaluations.
        audio: Task -> item -> file.
        folder: That the page lies in.
    """
    found = {}
    for task in overview.tasks:
        evaluations = [one for one in overview.of_task(task) if one.probes[0].predictions is not None]
        if evaluations and (worst := _worst(evaluations, audio.get(task, {}), folder)):
            found[task] = worst
    return found


def _worst(evaluations: Sequence[Evaluation], audio: Mapping[str, Path], folder: Path) -> list[WorstItem]:
    scores: dict[str, list[float]] = {}
    for evaluation in evaluations:
        probe = evaluation.probes[0]
        for item, score in zip(probe.unit_ids.tolist(), probe.unit_scores.tolist(), strict=True):
            scores.setdefault(item, []).append(score)
    means = {item: float(np.mean(values)) for item, values in scores.items()}
    order = sorted((item for item in means if means[item] < 1), key=lambda item: means[item])[:SHOWN]
    said = {evaluation.representation: _by_item(evaluation) for evaluation in evaluations}
    return [
        WorstItem(
            item,
            next(words[item][0] for words in said.values() if item in words),
            {name: words[item][1] for name, words in said.items() if item in words},
            _address(audio.get(item), folder),
        )
        for item in order
    ]


def _by_item(evaluation: Evaluation) -> dict[str, tuple[str, str]]:
    """Item -> its label, and what was said of it in the first fold that tested it."""
    probe = evaluation.probes[0]
    assert probe.truths is not None and probe.predictions is not None
    found: dict[str, tuple[str, str]] = {}
    for item, truth, said in zip(probe.unit_ids.tolist(), probe.truths, probe.predictions, strict=True):
        found.setdefault(item, (_text(truth), _text(said)))
    return found


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _address(path: Path | None, folder: Path) -> str:
    if path is None or not path.is_file():
        return ""
    return quote(os.path.relpath(path.absolute(), folder.absolute()), errors="surrogateescape")
