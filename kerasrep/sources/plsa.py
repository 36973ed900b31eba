"""Probabilistic latent semantic analysis of sparse counts, fitted by EM.

A document d draws each of its terms w from a mixture of topics z:
P(w|d) = sum_z P(z|d) P(w|z) (Hofmann 1999, "Probabilistic latent semantic indexing"; Kim et al. 2018,
section 3.1). With counts n(d, w), one EM update is

    P(z|d,w)  proportional to  P(z|d) P(w|z)
    P(w|z)    proportional to  sum_d n(d,w) P(z|d,w)
    P(z|d)    proportional to  sum_w n(d,w) P(z|d,w)

P(z|d,w) is never kept: `expectation` goes over the counts once by documents and once by terms. In memory
are two copies of P(z|d), one of P(w|z), both float64, and the counts a second time in the order of terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.runtime.console import Progress
from kerasrep.sources.passes import RowUpdates, threads

FloatArray = NDArray[np.float64]

#: Counts beyond these would leave the range of float64 in the course of EM.
SMALLEST_COUNT, LARGEST_TOTAL = 1e-60, 1e60
EXACT_IN_FLOAT32 = 1 << 24
UNKNOWN_TERM = 1e-150  # sum of P(term|topic) over topics that counts as none


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
    progress: bool = False,
    label: str = "pLSA",
    n_threads: int | None = None,
) -> Plsa:
    """Fit pLSA by EM.

    Args:
        counts: [documents, terms], non-negative, at least one positive. CSR matrices of float32 or
            float64 without duplicates or stored zeros are used as they are; others are copied.
        n_topics: 1 or more.
        n_iterations: Upper limit of EM updates.
        tolerance: EM stops when an update gains at most this part of the log-likelihood; 0 never
            stops early.
        seed: Of the random start.
        initial: Start instead from this pair: P(topic|document) [documents, topics] and P(term|topic)
            laid out [terms, topics]; normalised here.
        progress: Show a bar.
        label: Of the bar.
        n_threads: `None` uses every core that the process may use. The result has the same bits for any
            number.

    Returns:
        The model; same arguments, same result.

    Raises:
        DataError: Where counts are negative, not finite, out of range, or all zero.
        ValueError: Where `n_topics`, `n_iterations`, `n_threads` or `initial` are impossible, or counts
            complex.
    """
    _check_limits(n_iterations, tolerance, n_threads)
    if n_topics < 1:
        raise ValueError("n_topics must be at least 1")
    matrix = _checked(counts)
    if matrix.nnz == 0:
        raise DataError("counts hold no positive value: there is nothing to factorise")
    doc_topic, term_topic = _start(matrix.shape, n_topics, seed, initial)
    with threads(n_threads, matrix.nnz) as run:
        updates = RowUpdates(matrix, run), RowUpdates(matrix.tocsc(), run)
        doc_topic, log_likelihoods = _iterate(
            *updates, doc_topic, term_topic, n_iterations, tolerance, _bar(n_iterations, label, progress)
        )
    empty = np.diff(matrix.indptr) == 0
    doc_topic[empty] = 0
    doc_topic[empty] = doc_topic.sum(axis=0) / (len(empty) - empty.sum())
    return Plsa(doc_topic, term_topic, log_likelihoods, int(empty.sum()))


def fold_in(
    counts: sparse.spmatrix | ArrayLike,
    term_topic: FloatArray,
    n_iterations: int = 100,
    tolerance: float = 1e-6,
    default: FloatArray | None = None,
    progress: bool = False,
    label: str = "pLSA, folding in",
    n_threads: int | None = None,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """P(topic|document) of new documents, with the topics fixed.

    The likelihood is concave in P(topic|document), so the uniform start loses nothing. Terms that no
    topic knows are ignored. What a document gets does not depend on the other documents.

    Args:
        counts: As for `fit_plsa`, but may be all zero.
        term_topic: P(term|topic), [terms, topics].
        n_iterations: Upper limit of EM updates.
        tolerance: A document is left when an update gains at most this part of its own
            log-likelihood; 0 never stops early.
        default: [topics], for documents without a known term; uniform if `None`.
        progress: Show a bar.
        label: Of the bar.
        n_threads: As for `fit_plsa`.

    Returns:
        float64 [documents, topics], rows sum to 1; and bool [documents], True where a document had no
        known term.

    Raises:
        DataError: Where counts are negative, not finite, or out of range.
        ValueError: Where the limits or shapes are impossible.
    """
    _check_limits(n_iterations, tolerance, n_threads)
    term_topic = np.ascontiguousarray(term_topic, dtype=np.float64)
    matrix = _checked(counts)
    if matrix.shape[1] != len(term_topic):
        raise ValueError(f"counts have {matrix.shape[1]} terms, term_topic has {len(term_topic)}")
    matrix = _without_terms(matrix, term_topic.sum(axis=1) <= UNKNOWN_TERM)
    n_topics = term_topic.shape[1]
    doc_topic = np.full((matrix.shape[0], n_topics), 1 / n_topics)
    with threads(n_threads, matrix.nnz) as run:
        documents = RowUpdates(matrix, run)
        with _bar(documents.n_blocks, label, progress) as bar:
            documents.documents(doc_topic, term_topic, doc_topic, n_iterations, tolerance, bar.update)
    empty = np.diff(matrix.indptr) == 0
    doc_topic[empty] = 1 / n_topics if default is None else default
    return doc_topic, empty


def _iterate(
    documents: RowUpdates,
    terms: RowUpdates,
    doc_topic: FloatArray,
    term_topic: FloatArray,
    n_iterations: int,
    tolerance: float,
    bar: Any,
) -> tuple[FloatArray, list[float]]:
    """EM updates until a limit: the last P(topic|document), `term_topic` in place, all likelihoods."""
    new_doc_topic = doc_topic.copy()
    log_likelihoods: list[float] = []
    with bar:
        for _ in range(n_iterations):
            log_likelihoods.append(documents.documents(doc_topic, term_topic, new_doc_topic))
            if log_likelihoods[0] == -np.inf:
                raise ValueError("initial gives probability 0 to a term that a document has")
            if _converged(log_likelihoods, tolerance):
                break
            terms.terms(term_topic, doc_topic)
            doc_topic, new_doc_topic = new_doc_topic, doc_topic
            bar.set_postfix(f"log-likelihood {log_likelihoods[-1]:.6g}")
            bar.update()
        else:
            log_likelihoods.append(documents.documents(doc_topic, term_topic, new_doc_topic, n_updates=0))
    return doc_topic, log_likelihoods


def _bar(total: int, label: str, progress: bool) -> Progress:
    return Progress(total, label, "update", progress)


def _check_limits(n_iterations: int, tolerance: float, n_threads: int | None) -> None:
    if n_iterations < 0 or not tolerance >= 0:
        raise ValueError("n_iterations and tolerance must be at least 0")
    if n_threads is not None and n_threads < 1:
        raise ValueError("n_threads must be at least 1")


def _checked(counts: sparse.spmatrix | ArrayLike) -> sparse.csr_matrix:
    """CSR counts of float32 or float64, all positive, each once; the given matrix where it is that."""
    if np.iscomplexobj(counts):
        raise ValueError("counts must be real numbers")
    is_csr = getattr(counts, "format", None) == "csr"
    matrix = sparse.csr_matrix(counts) if is_csr else sparse.csr_matrix(counts, dtype=np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.astype(np.float64, copy=True)
        matrix.sum_duplicates()
    matrix = matrix.astype(_dtype_for(matrix.data), copy=False)
    if matrix.nnz == 0:
        return matrix
    low, high = matrix.data.min(), matrix.data.max()
    if not (low >= 0 and high < np.inf):
        raise DataError("counts hold negative or non-finite values; weights must be 0 or more")
    if low == 0:
        matrix = matrix.copy()
        matrix.eliminate_zeros()
        low = matrix.data.min(initial=high)
    with np.errstate(over="ignore"):
        total = matrix.data.sum(dtype=np.float64)
    if total > LARGEST_TOTAL or 0 < low < SMALLEST_COUNT:
        limits = f"positive ones at least {SMALLEST_COUNT:g}, all together at most {LARGEST_TOTAL:g}"
        raise DataError(f"counts lie between {low:g} and {high:g}; rescale them: {limits}")
    return matrix


def _dtype_for(values: NDArray[Any]) -> type[np.float32 | np.float64]:
    """float32 for what it holds exactly and cheaply: its own values, and small whole numbers."""
    if values.dtype.kind in "bui" and (not len(values) or values.max() <= EXACT_IN_FLOAT32):
        return np.float32
    return np.float32 if values.dtype == np.float32 else np.float64


def _without_terms(matrix: sparse.csr_matrix, unknown: NDArray[np.bool_]) -> sparse.csr_matrix:
    if not unknown.any():
        return matrix
    matrix = matrix.copy()
    matrix.data[unknown[matrix.indices]] = 0
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
    doc_topic, term_topic = (np.array(part, dtype=np.float64, order="C") for part in initial)
    expected = (n_documents, n_topics), (n_terms, n_topics)
    if (doc_topic.shape, term_topic.shape) != expected:
        raise ValueError(f"initial has shapes {doc_topic.shape} and {term_topic.shape}, not {expected}")
    if not all(np.isfinite(part).all() and (part >= 0).all() for part in (doc_topic, term_topic)):
        raise ValueError("initial holds negative or non-finite values")
    return _normalised(doc_topic, axis=1), _normalised(term_topic, axis=0)


def _normalised(values: FloatArray, axis: int) -> FloatArray:
    """The array itself, scaled to sums of 1 along `axis`; uniform where all are 0."""
    sums = values.sum(axis=axis, keepdims=True)
    np.divide(values, sums, out=values, where=sums > 0)
    np.copyto(values, 1 / values.shape[axis], where=sums == 0)
    return values


def _converged(log_likelihoods: list[float], tolerance: float) -> bool:
    if tolerance == 0 or len(log_likelihoods) < 2:
        return False
    before, now = log_likelihoods[-2:]
    return now - before <= tolerance * abs(before)
