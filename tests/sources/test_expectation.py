"""The compiled loop beside the same loop in Python, and where its machine code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from scipy import sparse

from kerasrep.sources import expectation
from kerasrep.sources.expectation import compiled_update

ROOT = Path(__file__).parents[2]


def problem(n_topics=5):
    rng = np.random.default_rng(0)
    counts = sparse.random(30, 20, density=0.3, format="csr", random_state=rng, dtype=np.float64)
    rows = rng.dirichlet(np.ones(n_topics), size=30)
    columns = np.ascontiguousarray(rng.dirichlet(np.ones(20), size=n_topics).T)
    return (counts.indptr.astype(np.int64), counts.indices, counts.data, rows, columns)


def run(update, n_updates=1, tolerance=0.0, of_documents=True, columns=None):
    starts, indices, counts, rows, own_columns = problem()
    new_rows = np.full_like(rows, -1)
    columns = own_columns if columns is None else columns
    given = (starts, indices, counts, rows, columns, new_rows)
    return update(2, 28, *given, n_updates, tolerance, of_documents), new_rows


@pytest.mark.parametrize("n_updates", [0, 1, 6])
@pytest.mark.parametrize("of_documents", [True, False])
def test_compiled_and_plain_loop_agree(n_updates, of_documents):
    plain = run(expectation.update_rows, n_updates, 1e-3, of_documents)
    compiled = run(compiled_update("float64"), n_updates, 1e-3, of_documents)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-12)
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-10)
    assert (compiled[1][[0, 1, 28, 29]] == -1).all()  # rows of other blocks are left alone


def test_a_count_of_probability_zero_makes_the_likelihood_minus_infinity():
    assert run(compiled_update("float64"), columns=np.zeros((20, 5)))[0] == -np.inf


def test_weights_too_small_for_products_become_zero():
    columns = problem()[4].copy()
    columns[:, 3] = 1e-200
    new_rows = run(compiled_update("float64"), columns=columns)[1]
    filled = new_rows[2:28][np.diff(problem()[0])[2:28] > 0]
    assert (filled[:, 3] == 0).all() and (filled[:, 0] > 0).all()


def test_without_a_folder_for_machine_code_the_loop_is_compiled_anew(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "below"))
    again = compiled_update.__wrapped__("float64")
    np.testing.assert_array_equal(run(again)[1], run(compiled_update("float64"))[1])


def test_damaged_machine_code_is_compiled_anew(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled_update.__wrapped__("float64")
    for suffix in ("nbc", "nbi"):  # the code, then its index
        (stored,) = tmp_path.rglob(f"*.{suffix}")
        stored.write_bytes(stored.read_bytes()[:40])
        again = compiled_update.__wrapped__("float64")
        np.testing.assert_array_equal(run(again)[1], run(compiled_update("float64"))[1])


def test_importing_the_factor_model_imports_no_numba():
    code = "import sys, kerasrep.sources.targets\nprint({'numba', 'sklearn', 'tqdm'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
