"""Targets: what every source's raw labels become.

Counts and values become points on a simplex, topics of pLSA and posteriors of a Gaussian mixture. Classes,
labels, numbers and vectors stay what they are; numbers are standardised. `self` needs no targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.recipe.base import TargetKind, in_order
from kerasrep.recipe.schema import TargetSettings
from kerasrep.sources.labels import CountLabels, RawLabels, StretchLabels, ValueLabels, say_the_same
from kerasrep.sources.mixture import fit_mixture
from kerasrep.sources.plsa import Plsa, fit_plsa, fold_in
from kerasrep.sources.stretches import Stretches

FloatArray = NDArray[np.float64]

TOP_TERMS = 20
START_ITERATIONS = 20  # enough to tell good starts from bad ones; 10 were not


@dataclass(frozen=True)
class SourceTargets:
    """Targets of one source.

    Attributes:
        track_ids: str [n], each once.
        target: float32 [n, size], rows sum to 1; without rows where there are `stretches`.
        kind: What they are.
        stretches: Rows of the n tracks: classes, labels, numbers or vectors.
    """

    track_ids: NDArray[np.str_]
    target: NDArray[np.float32]
    kind: TargetKind = "topics"
    stretches: Stretches | None = None

    @classmethod
    def of_stretches(cls, track_ids: Sequence[str] | NDArray[np.str_], stretches: Stretches) -> SourceTargets:
        """Targets that are looked up crop by crop."""
        empty = np.zeros((0, stretches.size), np.float32)
        return cls(np.asarray(track_ids, dtype=np.str_), empty, stretches.kind, stretches)


@dataclass(frozen=True)
class TargetSet:
    """Targets of all sources that have labels.

    Attributes:
        sources: Source name -> targets, in the order of `recipe.base.in_order`.
        report: Source name -> plain data for people: topics, components, sizes, what was left out.
    """

    sources: Mapping[str, SourceTargets]
    report: Mapping[str, Mapping[str, Any]]


def build_targets(
    labels: Mapping[str, RawLabels],
    fit_track_ids: Collection[str],
    settings: TargetSettings,
    seed: int,
    progress: bool = False,
) -> TargetSet:
    """Fit each source's model on the training tracks and give every labelled track its target.

    A document is fitted where one of its tracks is in training; the others are folded in with the topics
    fixed. Tempi and years of 0 or less say that nothing is known: their tracks get no target and are counted.
    A source without any training document or value is left out, and its report says so, as it does where all
    training tracks have the same label.

    Args:
        labels: Source name -> raw labels.
        fit_track_ids: The training tracks.
        settings: Sizes and limits of the fit.
        seed: Of all random starts; each source has its own stream.
        progress: Show a bar for each source that is factorised.

    Raises:
        DataError: Where the labels of a source hold negative or non-finite values; names the source.
    """
    fit_ids = frozenset(fit_track_ids)
    sources: dict[str, SourceTargets] = {}
    report: dict[str, dict[str, Any]] = {}
    for source in in_order(labels):
        raw, unknown = _without_unknown(source, labels[source])
        in_fit = np.fromiter((track in fit_ids for track in raw.track_ids), bool, len(raw.track_ids))
        if not in_fit.any():
            report[source] = {"left_out": "no training track has a label", **unknown}
            continue
        same = {"all_alike": True} if say_the_same(raw, in_fit) else {}
        if isinstance(raw, StretchLabels):
            sources[source], about = _stretch_targets(raw, in_fit)
            report[source] = about | same
            continue
        source_seed = int(np.random.SeedSequence([seed, _number(source)]).generate_state(1)[0])
        size = settings.size_of(source)
        target: FloatArray | None
        try:
            if isinstance(raw, ValueLabels):
                target, about = _value_targets(raw, in_fit, size, source_seed)
            else:
                bar = f"topics of {source}" if progress else None
                target, about = _count_targets(raw, in_fit, size, settings, source_seed, bar)
        except DataError as error:
            raise DataError(f"source '{source}': {error}") from error
        report[source] = {"requested_size": size, **about, **unknown, **same}
        if target is not None:
            kind: TargetKind = "mixture" if isinstance(raw, ValueLabels) else "topics"
            ids = np.asarray(raw.track_ids, dtype=np.str_)
            # They sum to 1 before they are rounded to float32, so that they still do within 1e-6.
            rows = (target / target.sum(axis=1, keepdims=True)).astype(np.float32)
            sources[source] = SourceTargets(ids, rows, kind)
    return TargetSet(sources, report)


def restrict_labels(labels: Mapping[str, RawLabels], track_ids: Collection[str]) -> dict[str, RawLabels]:
    """The labels of `track_ids` alone; documents that lose all their tracks are dropped."""
    wanted = frozenset(track_ids)
    restricted: dict[str, RawLabels] = {}
    for source, raw in labels.items():
        rows = np.array([row for row, track in enumerate(raw.track_ids) if track in wanted], dtype=np.int64)
        kept = [raw.track_ids[row] for row in rows]
        if isinstance(raw, ValueLabels):
            restricted[source] = ValueLabels(kept, raw.values[rows])
        elif isinstance(raw, StretchLabels):
            restricted[source] = replace(raw, track_ids=kept, stretches=raw.stretches.take(rows))
        else:
            documents, positions = np.unique(raw.documents[rows], return_inverse=True)
            restricted[source] = CountLabels(raw.counts[documents], raw.terms, kept, positions)
    return restricted


def _number(source: str) -> int:
    """Number of a source's random stream: its place among the paper's eight, or a digest of its name."""
    if source in constants.SOURCES:
        return constants.SOURCES.index(source)
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") + len(constants.SOURCES)


def _stretch_targets(raw: StretchLabels, in_fit: NDArray[np.bool_]) -> tuple[SourceTargets, dict[str, Any]]:
    """Targets and their report; standardised by the values of the training tracks, weighted by time."""
    stretches = raw.stretches
    about: dict[str, Any] = {
        "model": stretches.kind,
        "size": stretches.size,
        "requested_size": stretches.size,
        "rows": len(stretches.values),
        **raw.left_out,
    }
    if raw.terms:
        about["terms"] = list(raw.terms)
    if raw.standardised:
        training = stretches.take(np.flatnonzero(in_fit))
        values, seconds = training.values.astype(np.float64), training.durations()
        mean = np.average(values, axis=0, weights=seconds)
        deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=seconds))
        standardised = (stretches.values - mean) / np.where(deviation > 0, deviation, 1.0)
        stretches = replace(stretches, values=standardised.astype(np.float32))
        if stretches.kind == "number":
            about |= {"mean": float(mean[0]), "deviation": float(deviation[0])}
    return SourceTargets.of_stretches(raw.track_ids, stretches), about


def _without_unknown(source: str, raw: RawLabels) -> tuple[RawLabels, dict[str, int]]:
    """Labels without tempi and years of 0 or less, and how many those were, where there were any."""
    if not isinstance(raw, ValueLabels) or source not in constants.VALUE_SOURCES:
        return raw, {}
    unknown = np.asarray(raw.values) <= 0
    if not unknown.any():
        return raw, {}
    rows = np.flatnonzero(~unknown)
    known = ValueLabels([raw.track_ids[row] for row in rows], raw.values[rows])
    return known, {"values_not_above_0": int(unknown.sum())}


def _value_targets(
    raw: ValueLabels, in_fit: NDArray[np.bool_], size: int, seed: int
) -> tuple[FloatArray, dict[str, Any]]:
    mixture = fit_mixture(raw.values[in_fit], size, seed)
    return mixture.posterior(raw.values), {
        "model": "Gaussian mixture",
        "size": len(mixture.means),
        "training_values": int(in_fit.sum()),
        "distinct_values": mixture.n_distinct_values,
        "outliers": mixture.n_outliers,
        "converged": mixture.converged,
        "log_likelihood": mixture.log_likelihood,
        "components": [
            {"mean": float(mean), "deviation": float(deviation), "weight": float(weight)}
            for mean, deviation, weight in zip(
                mixture.means, mixture.deviations, mixture.weights, strict=True
            )
        ],
    }


def _best_start(
    counts: sparse.csr_matrix, size: int, settings: TargetSettings, seed: int, bar: str | None
) -> tuple[FloatArray, FloatArray] | None:
    """The likeliest of several random starts after a few iterations; `None` where there is one start only.

    EM climbs to a local optimum only: from one start in five or so, planted topics are found merged.
    """
    if settings.plsa_starts == 1:
        return None
    limits = min(START_ITERATIONS, settings.plsa_iterations), 0.0
    best: Plsa | None = None
    for number in range(settings.plsa_starts):
        label = f"{bar}, start {number + 1} of {settings.plsa_starts}" if bar else "pLSA"
        model = fit_plsa(counts, size, *limits, seed + number, progress=bar is not None, label=label)
        if best is None or model.log_likelihoods[-1] > best.log_likelihoods[-1]:
            best = model
        del model  # before the next start needs its memory
    assert best is not None
    return best.doc_topic, best.term_topic


def _count_targets(
    raw: CountLabels,
    in_fit: NDArray[np.bool_],
    size: int,
    settings: TargetSettings,
    seed: int,
    bar: str | None,
) -> tuple[FloatArray | None, dict[str, Any]]:
    """Targets [tracks, size] and their report; no targets where the training documents are all empty."""
    counts = sparse.csr_matrix(raw.counts)
    if (counts.data == 0).any():
        counts = counts.copy()
        counts.eliminate_zeros()
    n_documents = counts.shape[0]
    fit_documents = np.unique(raw.documents[in_fit])
    others = np.setdiff1d(np.arange(n_documents), fit_documents)
    fit_counts = counts[fit_documents] if len(others) else counts
    n_filled = int(np.count_nonzero(fit_counts.getnnz(axis=1)))
    n_terms = int(np.count_nonzero(fit_counts.getnnz(axis=0)))
    size = min(size, n_filled, n_terms)
    about = {"model": "pLSA", "size": size, "training_documents": len(fit_documents), "terms": n_terms}
    if size == 0:
        return None, about | {"left_out": "no training document has a term"}
    limits = settings.plsa_iterations, settings.plsa_tolerance
    shown = bar is not None
    initial = _best_start(fit_counts, size, settings, seed, bar)
    model = fit_plsa(fit_counts, size, *limits, seed, initial, progress=shown, label=bar or "pLSA")
    doc_topic, unknown = model.doc_topic, 0
    if len(others):
        doc_topic = np.empty((n_documents, size))
        doc_topic[fit_documents] = model.doc_topic
        doc_topic[others], without = fold_in(
            counts[others],
            model.term_topic,
            *limits,
            default=model.mean_topic,
            progress=shown,
            label=f"{bar}, other documents",
        )
        unknown = int(without.sum())
    return doc_topic[raw.documents], about | {
        "folded_in_documents": len(others),
        "empty_documents": model.n_empty_documents + unknown,
        "iterations": len(model.log_likelihoods) - 1,
        "converged": len(model.log_likelihoods) <= settings.plsa_iterations,
        "log_likelihood": model.log_likelihoods[-1],
        "log_likelihoods": model.log_likelihoods,
        "topics": _describe_topics(model, raw.terms),
    }


def _describe_topics(model: Plsa, terms: Sequence[str]) -> list[dict[str, Any]]:
    """Share of the documents and most probable terms of each topic, likeliest first."""
    topics = []
    for topic, share in enumerate(model.mean_topic):
        column = model.term_topic[:, topic]
        top = np.argsort(-column, kind="stable")[:TOP_TERMS]
        probable = [{"term": str(terms[t]), "probability": float(column[t])} for t in top if column[t] > 0]
        topics.append({"share": float(share), "terms": probable})
    return topics
