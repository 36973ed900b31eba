"""Time and memory of the downstream suite on synthetic embeddings; one JSON line a measurement.

    python benchmarks/downstream.py                                # 25,000 items of 4,096 values
    python benchmarks/downstream.py --items 4000 --dimension 512   # a minute or two

Every measurement runs in a process of its own, so that its peak memory is its own. Each probe is measured
with half the items and with all of them: a step quadratic in items takes 4 times as long, a linear one
twice. Last comes the ratio to a peer in the same run: scikit-learn's `SVC(kernel="linear")`, which fills a
matrix of items x items, on as many items as that allows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

N_CLASSES = 16
N_HIDDEN = 30  # what embeddings know of labels
TRAINING_PART = 0.8
N_USERS, N_RECOMMENDED_ITEMS = 12_000, 24_000
DRAWS_A_USER = 400  # about 8% of them are kept
GIB_OF_KIB = 2**20

CLASSIFIERS = ("linear_svm", "logistic", "mlp")
REGRESSORS = ("ridge", "svr", "mlp")


def embeddings_of(hidden: Any, dimension: int, seed: int) -> Any:
    """Rectified mixtures of the hidden values with noise, float32 [items, dimension], made block by block."""
    import numpy as np

    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((hidden.shape[1], dimension), dtype=np.float32)
    embeddings = np.empty((len(hidden), dimension), np.float32)
    for start in range(0, len(hidden), 1000):
        block = hidden[start : start + 1000] @ mixing
        block += 2 * rng.standard_normal(block.shape, dtype=np.float32)
        np.maximum(block, 0, out=embeddings[start : start + 1000])
    return embeddings


def labelled_problem(kind: str, n_items: int, dimension: int) -> tuple[Any, Any]:
    """Data with a fixed split, and its embeddings."""
    import numpy as np

    from kerasrep.evaluation.base import TEST, TRAIN, LabelledData

    rng = np.random.default_rng(0)
    classes = rng.integers(N_CLASSES, size=n_items)
    centres = rng.normal(size=(N_CLASSES, N_HIDDEN)) / 2
    hidden = (centres[classes] + rng.normal(size=(n_items, N_HIDDEN))).astype(np.float32)
    labels = hidden[:, 0] + hidden[:, 1] if kind == "regression" else np.char.mod("class %02d", classes)
    splits = np.where(np.arange(n_items) < TRAINING_PART * n_items, TRAIN, TEST)
    names = tuple(f"item {i}" for i in range(n_items))
    data = LabelledData(names, (Path("none"),) * n_items, labels, splits)
    return data, embeddings_of(hidden, dimension, 1)


def play_problem(n_users: int, n_items: int, dimension: int) -> tuple[Any, Any]:
    """Users who mostly play items of one class, popular ones more often, and the items' embeddings."""
    import numpy as np
    from scipy import sparse

    from kerasrep.evaluation.base import PlayData

    rng = np.random.default_rng(0)
    classes = rng.integers(N_CLASSES, size=n_items)
    centres = rng.normal(size=(N_CLASSES, N_HIDDEN))
    hidden = (centres[classes] + rng.normal(size=(n_items, N_HIDDEN))).astype(np.float32)
    popularity = rng.permutation(1 / np.arange(10, n_items + 10))
    users = np.repeat(np.arange(n_users), DRAWS_A_USER)
    items = rng.choice(n_items, size=len(users), p=popularity / popularity.sum())
    kept = (classes[items] == users % N_CLASSES) | (rng.random(len(users)) < 0.02)
    played = np.ones(int(kept.sum()))
    plays = sparse.csr_matrix((played, (users[kept], items[kept])), shape=(n_users, n_items))
    data = PlayData(
        tuple(f"item {i}" for i in range(n_items)),
        (Path("none"),) * n_items,
        tuple(f"user {i}" for i in range(n_users)),
        plays,
    )
    return data, embeddings_of(hidden, dimension, 1)


def measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Seconds and peak memory of `work`, with what it returns."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    return found | {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3),
        "peak_gib": round(after.ru_maxrss / GIB_OF_KIB, 3),
        "peak_before_gib": round(before.ru_maxrss / GIB_OF_KIB, 3),
    }


def measure_probe(kind: str, probe: str, items: int, dimension: int) -> dict[str, Any]:
    """One probe on the fixed split; the perceptron is fitted five times, as always there."""
    from kerasrep.evaluation.probing.labelled import evaluate_labelled

    data, embeddings = labelled_problem(kind, items, dimension)

    def work() -> dict[str, Any]:
        result = evaluate_labelled(data, embeddings, kind, probes=[probe])[0]
        iterations = result.details.get("iterations")
        return {"score": round(result.mean, 4), "iterations": iterations, "fits": len(set(result.unit_folds))}

    return measured(work)


def measure_comparison(items: int, dimension: int) -> dict[str, Any]:
    """The paired test between two probes' answers to as many test items as there are items."""
    from dataclasses import replace

    import numpy as np

    from kerasrep.evaluation.base import ProbeResult
    from kerasrep.evaluation.significance import compare

    scores = (np.random.default_rng(0).random((2, items)) < 0.6).astype(np.float64)
    names, folds = np.char.mod("item %d", np.arange(items)), np.zeros(items, np.int64)
    first = ProbeResult("linear_svm", "accuracy", 0.6, 0, 1, (), names, folds, scores[0])
    second = replace(first, unit_scores=scores[1])
    return measured(lambda: {"p_value": compare("t", "accuracy", "a", first, "b", second).p_value})


def measure_recommendation(items: int, users: int, dimension: int) -> dict[str, Any]:
    """One repeat of the recommendation task."""
    from kerasrep.evaluation.recommendation.evaluate import evaluate_recommendation

    data, embeddings = play_problem(users, items, dimension)

    def work() -> dict[str, Any]:
        learnt, chance = evaluate_recommendation(data, embeddings, n_repeats=1)
        return {"score": round(learnt.mean, 4), "chance": round(chance.mean, 4), "plays": int(data.plays.nnz)}

    return measured(work)


def measure_peer(items: int, dimension: int) -> dict[str, Any]:
    """A kernel machine on the same problem, at the same regularisation."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from kerasrep.evaluation.base import TRAIN

    data, embeddings = labelled_problem("classification", items, dimension)
    train = data.splits == TRAIN

    def work() -> dict[str, Any]:
        model = make_pipeline(StandardScaler(), SVC(kernel="linear", C=1 / dimension))
        model.fit(embeddings[train], data.labels[train])
        return {"score": round(float(model.score(embeddings[~train], data.labels[~train])), 4)}

    return measured(work)


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": measure_probe,
    "comparison": measure_comparison,
    "recommendation": measure_recommendation,
    "peer": measure_peer,
}


def alone(what: str, **given: Any) -> dict[str, Any]:
    """Run a measurement in a process of its own, print its line and return it."""
    command = [sys.executable, __file__, "--alone", json.dumps({"what": what, "given": given})]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = {"measurement": what} | given | json.loads(done.stdout)
    print(json.dumps(found), flush=True)
    return found


def growth(small: dict[str, Any], large: dict[str, Any]) -> None:
    """Print how many times as long as with half the items it took."""
    ratio = {
        "ratio": "all items to half of them",
        "kind": large.get("kind"),
        "probe": large.get("probe", large["measurement"]),
        "items": [small["items"], large["items"]],
        "cpu_seconds": round(large["cpu_seconds"] / small["cpu_seconds"], 2),
    }
    if large.get("iterations"):
        counts = [sum(found["iterations"]) for found in (small, large)]
        ratio["cpu_seconds_an_iteration"] = round(ratio["cpu_seconds"] * counts[0] / counts[1], 2)
    print(json.dumps(ratio), flush=True)


def run(options: argparse.Namespace) -> None:
    """All measurements, the ratio to the peer last."""
    halves = (options.items // 2, options.items)
    for kind, probes in (("classification", CLASSIFIERS), ("regression", REGRESSORS)):
        for probe in probes:
            if options.probes is None or probe in options.probes:
                given = {"kind": kind, "probe": probe, "dimension": options.dimension}
                growth(*(alone("probe", items=items, **given) for items in halves))
    growth(*(alone("comparison", items=items, dimension=options.dimension) for items in halves))
    if not options.without_recommendation:
        sizes = {"users": options.users, "dimension": options.recommendation_dimension}
        half = options.recommended_items // 2
        growth(
            *(alone("recommendation", items=items, **sizes) for items in (half, options.recommended_items))
        )
    given = {"items": min(options.items, options.peer_items), "dimension": options.dimension}
    ours = alone("probe", kind="classification", probe="linear_svm", **given)
    peer = alone("peer", **given)
    ratio = round(peer["cpu_seconds"] / ours["cpu_seconds"], 2)
    print(
        json.dumps({"ratio": "SVC(kernel='linear') to linear_svm", **given, "cpu_seconds": ratio}), flush=True
    )


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description="Time and memory of the downstream suite.")
    parser.add_argument("--items", type=int, default=25_000)
    parser.add_argument("--dimension", type=int, default=4096)
    parser.add_argument("--probes", nargs="*", help="only these probes")
    parser.add_argument("--users", type=int, default=N_USERS)
    parser.add_argument("--recommended-items", type=int, default=N_RECOMMENDED_ITEMS)
    parser.add_argument("--recommendation-dimension", type=int, default=4096)
    parser.add_argument("--without-recommendation", action="store_true")
    parser.add_argument("--peer-items", type=int, default=5000)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is None:
        run(options)
        return
    asked = json.loads(options.alone)
    print(json.dumps(MEASUREMENTS[asked["what"]](**asked["given"])))


if __name__ == "__main__":
    main()
