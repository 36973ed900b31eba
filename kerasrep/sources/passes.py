"""Passes over sparse counts that update the factors of pLSA, in fixed blocks of rows on several threads.

Every row is computed by one thread from factors that no thread changes meanwhile, and what is summed over
rows is summed in fixed blocks. So the result has the same bits for any number of threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.runtime.threads import core_count

FloatArray = NDArray[np.float64]

BLOCK_NONZEROS = 1 << 15
MAX_BLOCKS = 512
MAX_THREADS = 16

Map = Callable[[Callable[[int], Any], Any], Any]


class RowUpdates:
    """EM updates of all rows of compressed counts.

    Attributes:
        n_blocks: Fixed ranges of rows with about equally many nonzeros.
    """

    def __init__(self, counts: sparse.csr_matrix | sparse.csc_matrix, run: Map) -> None:
        """Prepare updates of the rows of CSR counts, or of the columns of CSC counts.

        Args:
            counts: float32 or float64, positive, without duplicates; kept, not copied.
            run: A map that may use threads (see `threads`).
        """
        from kerasrep.sources.expectation import compiled_update  # imports numba

        self._starts = counts.indptr.astype(np.int64)
        self._indices = counts.indices.astype(np.int32, copy=False)
        self._counts = counts.data
        self._kernel = compiled_update(self._counts.dtype.name)
        self._run = run
        n_blocks = min(MAX_BLOCKS, 1 + len(self._counts) // BLOCK_NONZEROS)
        targets = np.linspace(0, len(self._counts), n_blocks + 1)[1:-1]
        bounds = [0, *np.searchsorted(self._starts, targets).tolist(), len(self._starts) - 1]
        self._blocks = list(itertools.pairwise(bounds))
        self.n_blocks = len(self._blocks)

    def documents(
        self,
        doc_topic: FloatArray,
        term_topic: FloatArray,
        new_doc_topic: FloatArray,
        n_updates: int = 1,
        tolerance: float = 0.0,
        finished: Callable[[], object] = lambda: None,
    ) -> float:
        """Update P(topic|document), with the topics fixed.

        Args:
            doc_topic: [documents, topics].
            term_topic: [terms, topics].
            new_doc_topic: Where the rows go, normalised; those without counts stay as they are.
            n_updates: Of each row; with 0 only the likelihood is computed.
            tolerance: A row is left early where an update gains at most this part of its own
                log-likelihood; 0 never.
            finished: Called after each block.

        Returns:
            Log-likelihood of the factors given, in nats; -inf where a count has probability 0.
        """

        def work(block: int) -> float:
            return self._kernel(
                *self._blocks[block],
                *(self._starts, self._indices, self._counts),
                *(doc_topic, term_topic, new_doc_topic, n_updates, tolerance, True),
            )

        likelihoods = []
        for likelihood in self._run(work, range(self.n_blocks)):
            likelihoods.append(likelihood)
            finished()
        return math.fsum(likelihoods)

    def terms(self, term_topic: FloatArray, doc_topic: FloatArray) -> None:
        """Update P(term|topic) in place, normalised; a topic that has lost all weight becomes uniform.

        Args:
            term_topic: [terms, topics].
            doc_topic: [documents, topics], the one that the documents' update was computed from.
        """

        def update(block: int) -> FloatArray:
            first, last = self._blocks[block]
            self._kernel(
                *(first, last, self._starts, self._indices, self._counts),
                *(term_topic, doc_topic, term_topic, 1, 0.0, False),
            )
            total: FloatArray = term_topic[first:last].sum(axis=0)
            return total

        def normalise(block: int) -> None:
            first, last = self._blocks[block]
            term_topic[first:last] *= scale

        totals = np.sum(list(self._run(update, range(self.n_blocks))), axis=0)
        lost = totals == 0
        scale = 1 / np.where(lost, 1.0, totals)
        list(self._run(normalise, range(self.n_blocks)))
        if lost.any():
            term_topic[:, lost] = 1 / len(term_topic)


@contextmanager
def threads(n_threads: int | None, n_nonzeros: int) -> Iterator[Map]:
    """A map over blocks on `n_threads` threads; `None`: one a core, fewer for few nonzeros."""
    if n_threads is None:
        n_threads = min(core_count(), MAX_THREADS, 1 + n_nonzeros // BLOCK_NONZEROS)
    if n_threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(n_threads, thread_name_prefix="plsa") as pool:
            yield pool.map
