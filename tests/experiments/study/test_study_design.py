"""Designs: balance, efficiency, exchange; against counts by hand and brute force."""

import time
from itertools import combinations

import numpy as np
import pytest

from kerasrep import constants
from kerasrep.errors import DataError, RecipeError
from kerasrep.experiments.study.cells import (
    Cell,
    Factors,
    all_cells,
    coordinate_neighbours,
    expand,
    model_matrix,
)
from kerasrep.experiments.study.design import (
    aliasing_of,
    balance_of,
    d_efficiency,
    efficiency_of,
    make_design,
    read_design,
    write_design,
)
from kerasrep.experiments.study.exchange import d_optimal, exchange_ratios, exchanged_inverse, log_determinant
from kerasrep.experiments.study.recipe import MULTI_STRATEGIES, DesignSettings

PAPER = Factors(constants.SOURCES, MULTI_STRATEGIES)
HEADER = "s1,s2,s3,s4,s5,s6,s7,s8,arc,n\n"


def settings(**values) -> DesignSettings:
    return DesignSettings.model_validate(values)


def test_the_paper_has_1235_possible_runs():
    cells = all_cells(PAPER)
    assert len(cells) == len(set(cells)) == 247 * 5 == 1235
    assert min(len(cell.sources) for cell in cells) == 2


def test_neighbours_differ_in_the_strategy_or_in_one_source():
    cells = all_cells(Factors(constants.SOURCES[:4], MULTI_STRATEGIES[:3]))
    for cell, places in zip(
        cells, coordinate_neighbours(cells, Factors(constants.SOURCES[:4], MULTI_STRATEGIES[:3])), strict=True
    ):
        brute = {
            other
            for other in cells
            if (cell.strategy != other.strategy) + len(set(cell.sources) ^ set(other.sources)) == 1
        }
        assert {cells[place] for place in places} == brute


def test_contrasts_of_all_runs_of_free_factors_are_orthogonal():
    factors = Factors(constants.SOURCES[:3], MULTI_STRATEGIES, min_sources=0)
    values = model_matrix(all_cells(factors), factors, ["strategy:sources"]).values
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(values.shape[1]), atol=1e-12)
    assert d_efficiency(values) == pytest.approx(1)


def test_interactions_name_pairs_of_factors_once():
    assert expand(["sources:sources"], "abc") == [("a", "b"), ("a", "c"), ("b", "c")]
    assert expand(["strategy:sources", "strategy:a", "a:b"], "ab") == [
        ("strategy", "a"),
        ("strategy", "b"),
        ("a", "b"),
    ]
    assert expand(["c:sources", "b:a"], "abc") == [("a", "b"), ("a", "c"), ("b", "c")]
    names = model_matrix(all_cells(PAPER), PAPER, ["strategy:sources"]).names
    assert len(names) == len(set(names)) == 1 + 8 + 4 + 32


def test_updates_of_rank_one_equal_determinants_and_inverses_by_brute_force():
    rng = np.random.default_rng(0)
    rows, entering = rng.normal(size=(12, 5)), rng.normal(size=(7, 5))
    inverse, determinant = np.linalg.inv(rows.T @ rows), np.linalg.det(rows.T @ rows)
    ratios = exchange_ratios(inverse, rows[3], entering)
    for number, row in enumerate(entering):
        exchanged = rows.copy()
        exchanged[3] = row
        assert ratios[number] == pytest.approx(np.linalg.det(exchanged.T @ exchanged) / determinant)
        np.testing.assert_allclose(
            exchanged_inverse(inverse, rows[3], row), np.linalg.inv(exchanged.T @ exchanged), rtol=1e-8
        )


def test_exchange_finds_the_best_of_all_designs_where_they_can_be_counted():
    factors = Factors(constants.SOURCES[:3], MULTI_STRATEGIES[:2], min_sources=1)
    cells = all_cells(factors)
    candidates = model_matrix(cells, factors).values
    best = max(log_determinant(candidates[list(rows)]) for rows in combinations(range(len(cells)), 7))
    found = d_optimal(candidates, coordinate_neighbours(cells, factors), 7, 20, seed=0)
    assert found.log_determinant == pytest.approx(best)
    assert len(set(found.rows.tolist())) == 7


@pytest.mark.parametrize(
    ("runs", "interactions"), [(24, []), (60, ["strategy:sources"]), (600, ["strategy:sources"])]
)
def test_a_d_optimal_design_beats_every_random_one_of_its_size(runs, interactions):
    design = make_design(settings(runs=runs, interactions=interactions, starts=3))
    assert len(set(design.cells)) == runs
    assert all(len(cell.sources) >= 2 for cell in design.cells)
    efficiency = efficiency_of(design)
    assert efficiency.interactions == tuple(interactions)
    assert efficiency.design > efficiency.random.max()
    assert f"above {len(efficiency.random)} of them" in efficiency.sentence


def test_the_papers_600_runs_are_nearly_orthogonal_and_found_in_seconds():
    started = time.perf_counter()
    design = make_design(settings(runs=600, interactions=["strategy:sources"], starts=2))
    assert time.perf_counter() - started < 60
    assert design.n_possible == 1235
    balance = balance_of(design.cells, PAPER)
    assert balance.by_strategy.sum() == 600
    assert np.ptp(balance.by_strategy) <= 6
    assert abs(balance.by_source - 60).max() <= 6
    assert abs(np.array([c for *_, c in aliasing_of(design.cells, PAPER).largest()])).max() < 0.05


def test_the_same_seed_gives_the_same_design_and_another_one_another():
    one, same, other = (make_design(settings(runs=20, seed=seed)).cells for seed in (1, 1, 2))
    assert one == same
    assert set(one) != set(other)


def test_full_and_random_designs():
    full = make_design(settings(kind="full", sources=["tag", "year", "bpm"], strategies=["ms-sr@fc"]))
    assert sorted(cell.sources for cell in full.cells) == sorted(
        [("year", "tag"), ("bpm", "tag"), ("bpm", "year"), ("bpm", "year", "tag")]
    )
    drawn = make_design(settings(kind="random", runs=50, min_sources=4))
    assert len(set(drawn.cells)) == 50
    assert min(len(cell.sources) for cell in drawn.cells) >= 4


def test_a_design_that_cannot_estimate_its_model_is_refused():
    with pytest.raises(RecipeError, match=r"design\.runs: 24, but the model has 45 terms"):
        make_design(settings(runs=24, interactions=["strategy:sources"]))
    with pytest.raises(RecipeError, match=r"4, but 1 runs are possible"):
        make_design(settings(kind="random", runs=4, sources=["tag", "year"], strategies=["mss-cr"]))


def test_efficiency_of_a_design_too_small_for_its_interactions_is_that_of_main_effects(tmp_path):
    cells = make_design(settings(runs=14)).cells
    write_design(tmp_path / "d.csv", cells)
    design = make_design(
        settings(kind="file", file=str(tmp_path / "d.csv"), interactions=["strategy:sources"])
    )
    assert efficiency_of(design).n_terms == 13


# The authors' form

HAND = """s1,s2,s3,s4,s5,s6,s7,s8,arc,n
1,1,0,0,0,0,0,0,1,2
1,0,1,0,0,0,0,0,1,2
1,1,1,0,0,0,0,0,2,3
0,0,0,0,0,0,1,1,5,2
0,0,0,1,1,1,0,0,5,3
1,1,1,1,1,1,1,1,3,8
"""


@pytest.fixture
def write_table(tmp_path):
    def write(text):
        path = tmp_path / "design.csv"
        path.write_text(text)
        return path

    return write


def test_the_balance_of_the_authors_form_equals_a_count_by_hand(write_table):
    cells = read_design(write_table(HAND))
    assert cells[3] == Cell("ms-sr@fc", ("cdr_tag", "artist"))
    balance = balance_of(cells, PAPER)
    assert balance.by_strategy.tolist() == [2, 1, 1, 0, 2]
    assert balance.by_source.tolist() == [
        [2, 1, 1, 0, 0],  # self
        [1, 1, 1, 0, 0],  # bpm
        [1, 1, 1, 0, 0],  # year
        [0, 0, 1, 0, 1],  # taste
        [0, 0, 1, 0, 1],  # tag
        [0, 0, 1, 0, 1],  # lyrics
        [0, 0, 1, 0, 1],  # cdr_tag
        [0, 0, 1, 0, 1],  # artist
    ]
    assert {n: row.tolist() for n, row in enumerate(balance.by_number) if row.any()} == {
        2: [2, 0, 0, 0, 1],
        3: [0, 1, 0, 0, 1],
        8: [0, 0, 1, 0, 0],
    }
    assert balance.pairs[0].tolist() == [4, 3, 3, 1, 1, 1, 1, 1]


def test_a_design_is_read_as_it_was_written(tmp_path):
    cells = list(make_design(settings(runs=30)).cells)
    write_design(tmp_path / "d.csv", cells)
    assert read_design(tmp_path / "d.csv") == cells


def test_other_columns_are_ignored_and_single_sources_passed_over(write_table):
    text = "id," + HEADER + "a,1,0,0,0,0,0,0,0,1,1\nb,1,1,0,0,0,0,0,0,4,2\n"
    assert read_design(write_table(text)) == [Cell("ms-cr@6", ("self", "bpm"))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "1,1,0,0,0,0,0,0,1,3\n", "line 2: column 'n' has '3', but 2 of s1 to s8 are 1"),
        (HEADER + "1,1,0,0,0,0,0,0,6,2\n", "line 2: column 'arc' has '6'"),
        (HEADER + "1,1,0,0,0,0,0,0,²,2\n", "line 2: column 'arc'"),
        (HEADER + "1,2,0,0,0,0,0,0,1,2\n", "line 2: column 's2' has '2', 0 or 1"),
        (HEADER + "0,0,0,0,0,0,0,0,1,0\n", "line 2: has no source"),
        (HEADER + "1,1,0,0,0,0,0,0,1,2\n1,1,0,0,0,0,0,0,1,2\n", "line 3: is the same run as .*line 2"),
        (HEADER + "1,1,0,0,0,0,0,0,1\n", "line 2: has 9 fields"),
        ("s1,s2,arc,n\n1,1,1,2\n", "line 1: lacks the column 's3'"),
        (HEADER, "holds no run of two sources"),
    ],
)
def test_faults_of_a_design_file_are_told_by_line(write_table, text, words):
    path = write_table(text)
    with pytest.raises(DataError, match=words) as raised:
        read_design(path)
    assert str(raised.value).startswith(str(path))


def test_a_design_file_with_what_the_design_leaves_out_is_refused(write_table):
    path = write_table(HAND)
    with pytest.raises(DataError, match=r"design\.sources or design\.strategies leave that out"):
        make_design(settings(kind="file", file=str(path), strategies=["mss-cr", "ms-cr@2"]))
