"""Time, memory and likelihood of pLSA beside scikit-learn's KL-NMF; a JSON line a measurement, ratios last.

    python benchmarks/factors.py                    # Last.fm: 505,000 tracks, 522,000 tags, 8.6 M counts
    python benchmarks/factors.py --scale echonest   # 384,500 songs, 1,019,000 users, 48 M counts
    python benchmarks/factors.py --scale small      # seconds

Counts are drawn with a planted group for each document and Zipf popularity of terms. Every measurement runs
in a process of its own, and the two models take turns, so that both meet the same load. Both start from the
same random factors and make the same number of updates. Seconds an iteration are the difference between a
fit of many updates and one of a single update, divided by the difference of updates. Added memory is the peak
of the process beyond what it held with the counts and the libraries in memory; starting factors are added.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

MIB_OF_KIB = 1024
ZIPF_EXPONENT = 1.0
OWN_GROUP_PART = 0.8
CHUNK_DRAWS = 4_000_000


@dataclass(frozen=True)
class Scale:
    """Size of a problem.

    Attributes:
        documents: Rows.
        terms: Columns.
        nonzeros: Distinct pairs, within a thousandth.
        topics: Of both models, and planted.
        counts_dtype: Of the counts of ours; scikit-learn's are float64, as its factors.
        iterations: Updates.
        rounds: How often each is measured.
        with_peer: Whether scikit-learn is measured too.
    """

    documents: int
    terms: int
    nonzeros: int
    topics: int
    counts_dtype: str
    iterations: int
    rounds: int
    with_peer: bool


SCALES = {
    "small": Scale(3_000, 2_000, 60_000, 10, "float64", 6, 1, True),
    "lastfm": Scale(505_000, 522_000, 8_600_000, 50, "float64", 5, 2, True),
    "echonest": Scale(384_500, 1_019_000, 48_000_000, 50, "float32", 4, 1, False),
}


def make_counts(scale: Scale) -> sparse.csr_matrix:
    """Counts with planted groups: most draws of a document come from its group's terms, by Zipf's law."""
    rng = np.random.default_rng(0)
    group_size = -(-scale.terms // scale.topics)
    of_group, of_all = zipf(group_size), zipf(scale.terms)
    shuffled = rng.permutation(scale.terms)
    length = rng.gamma(0.7, size=scale.documents)
    length_sums = np.cumsum(length) / length.sum()
    pairs = np.empty(0, np.int64)
    while len(pairs) < scale.nonzeros * 0.999:
        n_draws = min(CHUNK_DRAWS, int((scale.nonzeros - len(pairs)) * 1.2) + 1)
        document = np.minimum(np.searchsorted(length_sums, rng.random(n_draws)), scale.documents - 1)
        own = np.searchsorted(of_group, rng.random(n_draws)) * scale.topics + document % scale.topics
        anywhere = np.searchsorted(of_all, rng.random(n_draws))
        place = np.where(rng.random(n_draws) < OWN_GROUP_PART, own, anywhere)
        term = shuffled[np.minimum(place, scale.terms - 1)]
        pairs = np.union1d(pairs, document * scale.terms + term)
    starts = np.searchsorted(pairs // scale.terms, np.arange(scale.documents + 1))
    values = rng.geometric(0.4, size=len(pairs)).astype(scale.counts_dtype)
    shape = scale.documents, scale.terms
    return sparse.csr_matrix((values, (pairs % scale.terms).astype(np.int32), starts), shape=shape)


def zipf(n: int) -> Any:
    """Cumulative probabilities of n places."""
    sums = np.cumsum(np.arange(1, n + 1) ** -ZIPF_EXPONENT)
    return sums / sums[-1]


def start(scale: Scale) -> tuple[Any, Any]:
    """P(topic|document) and P(term|topic), as `fit_plsa` draws them with seed 0."""
    rng = np.random.default_rng(0)
    documents = rng.dirichlet(np.ones(scale.topics), size=scale.documents)
    return documents, rng.dirichlet(np.ones(scale.terms), size=scale.topics)


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB_OF_KIB


def held_mib() -> float:
    """The memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB_OF_KIB / 1024


def clocks() -> Any:
    """Elapsed seconds, and processor seconds of all threads together."""
    return np.array([time.perf_counter(), time.process_time()])


def an_iteration(seconds: list[Any], scale: Scale) -> dict[str, float]:
    """Seconds of one update, from a fit of a single one and a fit of `scale.iterations`."""
    elapsed, processor = (seconds[1] - seconds[0]) / (scale.iterations - 1)
    return {
        "seconds_an_iteration": elapsed,
        "cpu_seconds_an_iteration": processor,
        "seconds_in_all": seconds[1][0],
    }


def measure_ours(scale: Scale, counts: sparse.csr_matrix) -> dict[str, Any]:
    """Fits by kerasrep; the likelihood is its own."""
    from kerasrep.sources.plsa import fit_plsa

    fit_plsa(sparse.csr_matrix(np.ones((2, 2), scale.counts_dtype)), 1)  # compiles
    before = held_mib()
    seconds = []
    fitted = None
    for n_iterations in (1, scale.iterations):
        del fitted
        begin = clocks()
        fitted = fit_plsa(counts, scale.topics, n_iterations, tolerance=0)
        seconds.append(clocks() - begin)
    return an_iteration(seconds, scale) | {
        "added_mib": peak_mib() - before,
        "log_likelihood": fitted.log_likelihoods[-1],
    }


def measure_sklearn(scale: Scale, counts: sparse.csr_matrix) -> dict[str, Any]:
    """Fits by scikit-learn; the likelihood is that of its factors, rows scaled to sum to 1."""
    import warnings

    from sklearn.decomposition import NMF

    warnings.filterwarnings("ignore", message="Maximum number of iterations")
    counts = counts.astype(np.float64)
    before = held_mib()
    seconds = []
    documents = terms = loadings = model = None
    for n_iterations in (1, scale.iterations):
        del documents, terms, loadings, model
        documents, terms = start(scale)
        documents *= np.asarray(counts.sum(axis=1))
        model = NMF(
            scale.topics,
            solver="mu",
            beta_loss="kullback-leibler",
            init="custom",
            tol=0,
            max_iter=n_iterations,
        )
        begin = clocks()
        loadings = model.fit_transform(counts, W=documents, H=terms)
        seconds.append(clocks() - begin)
        added = peak_mib() - before
    loadings *= model.components_.sum(axis=1)
    filled = loadings.sum(axis=1) > 0
    loadings[filled] /= loadings[filled].sum(axis=1, keepdims=True)
    columns = np.ascontiguousarray((model.components_ / model.components_.sum(axis=1, keepdims=True)).T)
    return an_iteration(seconds, scale) | {
        "added_mib": added,
        "log_likelihood": likelihood(counts, loadings, columns),
    }


def likelihood(counts: sparse.csr_matrix, documents: Any, terms: Any) -> float:
    """Sum of n(d,w) ln P(w|d), by NumPy."""
    total = 0.0
    for first in range(0, counts.shape[0], 2000):
        block = counts[first : first + 2000].tocoo()
        predicted = np.einsum("nk,nk->n", documents[first + block.row], terms[block.col])
        total += float(block.data @ np.log(predicted))
    return total


COSTS = ("seconds_an_iteration", "cpu_seconds_an_iteration", "added_mib")
MEASURES = {"kerasrep": measure_ours, "scikit-learn": measure_sklearn}


def measure(scale_name: str, iterations: int, who: str, counts_path: Path) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--scale", scale_name, "--iterations", str(iterations)]
    command += ["--only", who, "--counts", str(counts_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"scale": scale_name, "model": who, "failed": last[0], "exit_status": done.returncode}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ratios(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of scikit-learn's over medians of ours; of likelihoods the relative difference."""
    medians = {
        (who, key): float(np.median([line[key] for line in found if line["model"] == who]))
        for who in MEASURES
        for key in (*COSTS, "log_likelihood")
    }
    ours, theirs = (medians[who, "log_likelihood"] for who in MEASURES)
    return {
        f"{key}_ratio": round(medians["scikit-learn", key] / medians["kerasrep", key], 2) for key in COSTS
    } | {"log_likelihood_gain_over_scikit_learn": round((ours - theirs) / abs(theirs), 6)}


def main() -> None:
    """Measure in turns, or once where `--only` says what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="lastfm")
    parser.add_argument("--rounds", type=int, help="how often each model is measured")
    parser.add_argument("--iterations", type=int, help="how many updates, at least 2")
    parser.add_argument(
        "--with-peer", action="store_true", help="scikit-learn also at the scale of Echo Nest"
    )
    parser.add_argument("--only", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    scale = replace(scale, iterations=arguments.iterations or scale.iterations)
    if arguments.only:
        counts = sparse.load_npz(arguments.counts)
        found = MEASURES[arguments.only](scale, counts)
        rounded = {key: round(value, 5) for key, value in found.items()}
        about = {"scale": arguments.scale, "model": arguments.only, "nonzeros": counts.nnz}
        print(json.dumps(about | {"iterations": scale.iterations} | rounded), flush=True)
        return
    models = list(MEASURES) if scale.with_peer or arguments.with_peer else ["kerasrep"]
    with tempfile.TemporaryDirectory() as folder:
        counts_path = Path(folder) / "counts.npz"
        sparse.save_npz(counts_path, make_counts(scale), compressed=False)
        lines = []
        for _ in range(arguments.rounds or scale.rounds):
            for who in models:
                lines.append(measure(arguments.scale, scale.iterations, who, counts_path))
                print(json.dumps(lines[-1]), flush=True)
    if len(models) > 1 and not any("failed" in line for line in lines):
        print(json.dumps({"scale": arguments.scale} | ratios(lines)))


if __name__ == "__main__":
    main()
