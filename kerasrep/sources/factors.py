"""Probabilistic latent semantic analysis of sparse counts, fitted by EM.

A document d draws each of its terms w from a mixture of topics z:
P(w|d) = sum_z P(z|d) P(w|z) (Hofmann 1999, "Probabilistic latent semantic indexing"; Kim et al. 2018,
section 3.1). With counts n(d, w), one EM update is

    P(z|d,w)  proportional to  P(z|d) P(w|z)
    P(w|z)    proportional to  sum_d n(d,w) P(z|d,w)
    P(z|d)    proportional to  sum_w n(d,w) P(z|d,w)

Both sums need P(z|d,w) only at the nonzero counts, and factorise: with R(d,w) = n(d,w) / P(w|d), they are
P(w|z) (R' P(z|d)) and P(z|d) (R P(w|z)). Documents are visited in blocks, so that memory holds the
factors and one block, never nonzeros x topics. All sums are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from kerasrep.errors import DataError

FloatArray = NDArray[np.float64]

BLOCK_VALUES = 1 << 22  # of the [nonzeros, topics] products held at once: 32 MiB
TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Plsa:
    """A fitted model.

    Attributes:
        doc_topic: P(topic|document), float64 [documents, topics]; rows sum to 1. Documents without
            counts have the mean of the others.
        term_topic: P(term|topic), float64 [terms, topics]; columns sum to 1.
        log_likelihoods: sum of n(d,w) ln P(w|d) in nats, before each update and once at the end.
        n_empty_documents: Documents without counts.
    """

    doc_topic: FloatArray
    term_topic: FloatArray
    log_likelihoods: list[float]
    n_empty_documents: int

    @property
    def mean_topic(self) -> FloatArray:
        """Mean of P(topic|document) over documents, float64 [topics]."""
        mean: FloatArray = self.doc_topic.mean(axis=0)
        return mean


def fit_plsa(
    counts: sparse.spmatrix | ArrayLike,
    n_topics: int,
    n_iterations: int = 100,
    tolerance: float = 1e-6,
    seed: int = 0,
    initial: tuple[ArrayLike, ArrayLike] | None = None,
) -> Plsa:
    """Fit pLSA by EM.

    Args:
        counts: [documents, terms], non-negative, at least one positive.
        n_topics: 1 or more.
        n_iterations: Upper limit of EM updates.
        tolerance: EM stops when an update gains less than this part of the log-likelihood; 0 never
            stops early.
        seed: Of the random start.
        initial: Start instead from this pair: P(topic|document) [documents, topics] and P(term|topic)
            laid out [terms, topics]; normalised here.

    Returns:
        The model; same arguments, same result.

    Raises:
        DataError: Where counts are negative, not finite, or all zero.
        ValueError: Where `n_topics`, `n_iterations` or the shapes of `initial` are impossible.
    """
    if n_topics < 1 or n_iterations < 0 or not tolerance >= 0:
        raise ValueError("n_topics must be at least 1, n_iterations and tolerance at least 0")
    matrix = _checked(counts)
    if matrix.nnz == 0:
        raise DataError("counts hold no positive value: there is nothing to factorise")
    doc_topic, term_topic = _start(matrix.shape, n_topics, seed, initial)
    log_likelihoods: list[float] = []
    for _ in range(n_iterations):
        likelihood, new_doc, new_term = _update(matrix, doc_topic, term_topic)
        log_likelihoods.append(likelihood)
        if _converged(log_likelihoods, tolerance):
            break
        doc_topic, term_topic = new_doc, new_term
    else:
        log_likelihoods.append(_log_likelihood(matrix, doc_topic, term_topic))
    empty = np.diff(matrix.indptr) == 0
    doc_topic[empty] = doc_topic[~empty].mean(axis=0)
    return Plsa(doc_topic, term_topic, log_likelihoods, int(empty.sum()))


def fold_in(
    counts: sparse.spmatrix | ArrayLike,
    term_topic: FloatArray,
    n_iterations: int = 100,
    tolerance: float = 1e-6,
    default: FloatArray | None = None,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """P(topic|document) of new documents, with the topics fixed.

    The likelihood is concave in P(topic|document), so the uniform start loses nothing. Terms that no
    topic knows are ignored.

    Args:
        counts: [documents, terms], non-negative.
        term_topic: P(term|topic), [terms, topics].
        n_iterations: Upper limit of EM updates.
        tolerance: As in `fit_plsa`.
        default: [topics], for documents without a known term; uniform if `None`.

    Returns:
        float64 [documents, topics], rows sum to 1; and bool [documents], True where a document had no
        known term.

    Raises:
        DataError: Where counts are negative or not finite.
    """
    matrix = _checked(counts)
    known = term_topic.sum(axis=1) > 0
    matrix = _checked(matrix.multiply(known[np.newaxis, :]))
    n_topics = term_topic.shape[1]
    doc_topic = np.full((matrix.shape[0], n_topics), 1 / n_topics)
    log_likelihoods: list[float] = []
    for _ in range(n_iterations):
        likelihood, new_doc, _ = _update(matrix, doc_topic, term_topic, topics_fixed=True)
        log_likelihoods.append(likelihood)
        if _converged(log_likelihoods, tolerance):
            break
        doc_topic = new_doc
    empty = np.diff(matrix.indptr) == 0
    doc_topic[empty] = 1 / n_topics if default is None else default
    return doc_topic, empty


def _checked(counts: sparse.spmatrix | ArrayLike) -> sparse.csr_matrix:
    """A float64 CSR copy without stored zeros or duplicates."""
    matrix = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise DataError("counts hold negative or non-finite values; weights must be 0 or more")
    matrix.eliminate_zeros()
    return matrix


def _start(
    shape: tuple[int, int], n_topics: int, seed: int, initial: tuple[ArrayLike, ArrayLike] | None
) -> tuple[FloatArray, FloatArray]:
    n_documents, n_terms = shape
    if initial is None:
        rng = np.random.default_rng(seed)
        return (
            rng.dirichlet(np.ones(n_topics), size=n_documents),
            np.ascontiguousarray(rng.dirichlet(np.ones(n_terms), size=n_topics).T),
        )
    doc_topic, term_topic = (np.array(part, dtype=np.float64) for part in initial)
    expected = (n_documents, n_topics), (n_terms, n_topics)
    if (doc_topic.shape, term_topic.shape) != expected:
        raise ValueError(f"initial has shapes {doc_topic.shape} and {term_topic.shape}, not {expected}")
    if not all(np.isfinite(part).all() and (part >= 0).all() for part in (doc_topic, term_topic)):
        raise ValueError("initial holds negative or non-finite values")
    return _normalised(doc_topic, axis=1), _normalised(term_topic, axis=0)


def _blocks(matrix: sparse.csr_matrix, n_topics: int) -> Iterator[slice]:
    """Consecutive documents with at most `BLOCK_VALUES` / topics nonzeros, one document at least."""
    limit = max(1, BLOCK_VALUES // n_topics)
    start, n_documents = 0, matrix.shape[0]
    while start < n_documents:
        stop = int(np.searchsorted(matrix.indptr, matrix.indptr[start] + limit, side="right")) - 1
        stop = min(max(stop, start + 1), n_documents)
        yield slice(start, stop)
        start = stop


def _predicted(block: sparse.csr_matrix, doc_topic: FloatArray, term_topic: FloatArray) -> FloatArray:
    """P(w|d) at the nonzeros of a block, float64 [nonzeros]."""
    documents = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    predicted: FloatArray = np.einsum("nk,nk->n", doc_topic[documents], term_topic[block.indices])
    np.maximum(predicted, TINY, out=predicted)
    return predicted


def _update(
    matrix: sparse.csr_matrix, doc_topic: FloatArray, term_topic: FloatArray, topics_fixed: bool = False
) -> tuple[float, FloatArray, FloatArray]:
    """Log-likelihood of the given factors, and the factors after one EM update."""
    likelihood = 0.0
    new_doc = np.empty_like(doc_topic)
    term_sum = np.zeros_like(term_topic)
    for rows in _blocks(matrix, doc_topic.shape[1]):
        block = matrix[rows]
        predicted = _predicted(block, doc_topic[rows], term_topic)
        likelihood += float(block.data @ np.log(predicted))
        ratio = sparse.csr_matrix((block.data / predicted, block.indices, block.indptr), shape=block.shape)
        new_doc[rows] = doc_topic[rows] * (ratio @ term_topic)
        if not topics_fixed:
            term_sum += ratio.T @ doc_topic[rows]
    new_term = term_topic if topics_fixed else _normalised(term_topic * term_sum, axis=0)
    return likelihood, _normalised(new_doc, axis=1), new_term


def _log_likelihood(matrix: sparse.csr_matrix, doc_topic: FloatArray, term_topic: FloatArray) -> float:
    total = 0.0
    for rows in _blocks(matrix, doc_topic.shape[1]):
        block = matrix[rows]
        total += float(block.data @ np.log(_predicted(block, doc_topic[rows], term_topic)))
    return total


def _normalised(values: FloatArray, axis: int) -> FloatArray:
    """Values that sum to 1 along `axis`; uniform where all are 0 (a topic or document without mass)."""
    sums = values.sum(axis=axis, keepdims=True)
    normalised: FloatArray = np.where(sums > 0, values / np.maximum(sums, TINY), 1 / values.shape[axis])
    return normalised


def _converged(log_likelihoods: list[float], tolerance: float) -> bool:
    if tolerance == 0 or len(log_likelihoods) < 2:
        return False
    before, now = log_likelihoods[-2:]
    return now - before <= tolerance * abs(before)
