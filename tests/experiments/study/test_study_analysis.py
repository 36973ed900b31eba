"""The analysis on scores that were made with known effects, and against statsmodels' own tables."""

import warnings
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow
import pytest
from scipy import stats

from kerasrep import constants
from kerasrep.errors import DataError
from kerasrep.experiments.study import mixed
from kerasrep.experiments.study.analysis import analyse, anova, effect_interval, shortcomings, term_blocks
from kerasrep.experiments.study.design import make_design
from kerasrep.experiments.study.effects import number_effects, presence_effects, source_by_task
from kerasrep.experiments.study.mixed import LEAST_SQUARES, fit
from kerasrep.experiments.study.recipe import MULTI_STRATEGIES, DesignSettings
from kerasrep.experiments.study.scores import RunFacts, ScoreTable, cell_means, pareto_front, standardise
from kerasrep.experiments.study.terms import number_terms, presence_terms

SOURCES = constants.SOURCES


def facts(n_runs=32, **design):
    cells = make_design(DesignSettings.model_validate({"runs": n_runs, "starts": 2} | design)).cells
    return [
        RunFacts(f"r{i}", "multi", cell.strategy, cell.sources, dimension=512 * len(cell.sources))
        for i, cell in enumerate(cells)
    ]


def simulate(runs, rng, n_tasks=5, effects=None, by_strategy=None, slope_sd=0.0, run_sd=0.4, noise_sd=0.7):
    """Scores with an effect of having a source, and of a strategy, that vary between tasks."""
    scores = rng.normal(0, run_sd, (len(runs), 1)) + rng.normal(0, noise_sd, (len(runs), n_tasks))
    for source in SOURCES:
        slopes = (effects or {}).get(source, 0.0) + rng.normal(0, slope_sd, n_tasks)
        scores += np.outer([source in run.sources for run in runs], slopes)
    for strategy in MULTI_STRATEGIES:
        slopes = (by_strategy or {}).get(strategy, 0.0) + rng.normal(0, slope_sd / 2, n_tasks)
        scores += np.outer([run.strategy == strategy for run in runs], slopes)
    return scores


def table_of(runs, values):
    tasks = tuple(f"task{i}" for i in range(values.shape[1]))
    return ScoreTable(tuple(runs), tasks, ("accuracy",) * len(tasks), values)


@pytest.fixture(scope="module")
def runs():
    return facts()


@pytest.fixture(scope="module")
def planted(runs):
    """A study in which `tag` helps, `bpm` harms, and sharing everything is worse."""
    rng = np.random.default_rng(5)
    values = simulate(
        runs, rng, effects={"tag": 1.2, "bpm": -1.2}, by_strategy={"ms-sr@fc": -1.5}, run_sd=0.3, noise_sd=0.5
    )
    return analyse(table_of(runs, values), MULTI_STRATEGIES, SOURCES)


def test_planted_effects_are_found_with_the_right_sign(planted):
    sources = {effect.name: effect for effect in planted.presence.family("source")}
    assert sources["tag"].low > 0 and sources["tag"].significant
    assert sources["bpm"].high < 0 and sources["bpm"].significant
    assert not any(sources[name].significant for name in SOURCES if name not in {"tag", "bpm"})
    strategies = {effect.name: effect for effect in planted.number.family("strategy")}
    assert strategies["ms-sr@fc"].significant and strategies["ms-sr@fc"].high < 0
    pairs = {effect.name: effect for effect in planted.number.family("strategy pairs")}
    assert len(pairs) == 10
    assert pairs["mss-cr - ms-sr@fc"].value > 0


def test_the_anova_finds_the_same(planted):
    rows = {row.term: row for row in planted.presence.anova}
    assert {name for name, row in rows.items() if row.p_holm < 0.05} == {"tag", "bpm", "strategy"}
    assert rows["tag"].low < rows["tag"].omega < rows["tag"].high
    assert 0.5 < planted.presence.residuals.r_squared < 1
    assert "explains" in planted.presence.residuals.sentence


def test_where_all_tasks_are_there_the_estimates_are_those_of_least_squares(runs):
    rng = np.random.default_rng(0)
    for terms in (number_terms(runs, MULTI_STRATEGIES), presence_terms(runs, MULTI_STRATEGIES, SOURCES)):
        scores = simulate(runs, rng, slope_sd=0.3)
        found = fit(terms, scores)
        assert found.how.startswith("mixed model: runs, slopes of strategy")
        expected = np.linalg.lstsq(terms.values, scores.mean(axis=1), rcond=None)[0]
        np.testing.assert_allclose(found.estimates, expected, atol=1e-6)


@pytest.mark.slow
def test_variances_that_made_the_scores_are_recovered():
    runs, rng = facts(120), np.random.default_rng(1)
    terms = presence_terms(runs, MULTI_STRATEGIES, SOURCES)
    names = ("run", "presence", "residual")
    made = [simulate(runs, rng, n_tasks=8, slope_sd=0.5, run_sd=0.8, noise_sd=0.5) for _ in range(20)]
    found = np.array([[fit(terms, scores).variances[name] for name in names] for scores in made])
    np.testing.assert_allclose(found.mean(axis=0), [0.64, 0.25, 0.25], rtol=0.1)


@pytest.mark.parametrize("slope_sd", [0.0, 0.6])
def test_the_mixed_model_is_that_of_statsmodels(runs, slope_sd):
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    terms = number_terms(runs, MULTI_STRATEGIES)
    scores = simulate(runs, np.random.default_rng(11), n_tasks=4, slope_sd=slope_sd)
    n_runs, n_tasks = scores.shape
    task = np.tile(np.arange(n_tasks), n_runs)
    levels = (task[:, None] == np.arange(n_tasks)).astype(float)  # in place of the intercept
    x = np.column_stack([np.repeat(terms.values, n_tasks, axis=0), levels[:, 1:]])
    blocks = {"run": np.repeat(np.eye(n_runs), n_tasks, axis=0)}
    for name, columns in terms.slopes.items():
        blocks[name] = np.column_stack([x[:, [c]] * (task[:, None] == np.arange(n_tasks)) for c in columns])
    names = [[[f"{name}{i}" for i in range(block.shape[1])]] for name, block in blocks.items()]
    model = MixedLM(
        scores.ravel(),
        x,
        np.zeros(len(x)),
        exog_vc=VCSpec(list(blocks), names, [[b] for b in blocks.values()]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = model.fit(reml=True, method=["powell", "lbfgs"])
    ours = fit(terms, scores)
    assert ours.how.endswith("slopes of number of sources by task")
    effects = slice(1, len(terms.names))
    np.testing.assert_allclose(ours.estimates[effects], other.fe_params[effects], atol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance))[effects], other.bse_fe[effects], rtol=0.02)
    expected = dict(zip(blocks, other.vcomp, strict=True)) | {"residual": other.scale}
    for name, variance in ours.variances.items():
        assert variance == pytest.approx(expected[name], abs=0.02)


def test_effects_that_differ_between_tasks_get_wider_intervals_with_fewer_degrees_of_freedom(runs):
    terms = presence_terms(runs, MULTI_STRATEGIES, SOURCES)
    same, differing = (
        fit(terms, simulate(runs, np.random.default_rng(3), slope_sd=slope_sd)) for slope_sd in (0.0, 1.5)
    )
    contrast = terms.contrast("tag")
    assert differing.estimate(contrast)[1] > 1.5 * same.estimate(contrast)[1]
    far = fit(terms, simulate(runs, np.random.default_rng(3), slope_sd=50.0))
    assert far.estimate(contrast)[2] == pytest.approx(8 * 4, abs=1)  # 8 sources, 5 tasks


def test_differences_of_strategies_do_not_depend_on_which_one_is_coded_last(runs):
    scores = simulate(runs, np.random.default_rng(4), by_strategy={"mss-cr": 1.0})
    orders = (MULTI_STRATEGIES, MULTI_STRATEGIES[::-1])
    found = [
        {
            e.name: e.value
            for e in number_effects(fit(number_terms(runs, order), scores))
            if e.family == "strategy"
        }
        for order in orders
    ]
    for name in MULTI_STRATEGIES:
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-6)
    assert sum(found[0].values()) == pytest.approx(0, abs=1e-9)


def test_slopes_of_the_number_of_sources_are_told_by_strategy():
    """`ms-sr@fc` loses by every source more, the others gain by each; nothing else differs."""
    runs, planted = facts(90), dict.fromkeys(MULTI_STRATEGIES, 0.3) | {"ms-sr@fc": -0.5, "ms-cr@4": 0.0}
    values = simulate(runs, np.random.default_rng(0), run_sd=0.1, noise_sd=0.2)
    values += np.array([[planted[run.strategy] * len(run.sources)] for run in runs])
    effects = number_effects(fit(number_terms(runs, MULTI_STRATEGIES), values))
    found = {e.name: e for e in effects if e.family == "number of sources by strategy"}
    for name, slope in planted.items():
        assert found[name].value == pytest.approx(slope, abs=0.1)
        assert found[name].high - found[name].low < 0.2
        assert found[name].significant == (slope != 0)
    average = next(e for e in effects if e.family == "number of sources")
    assert average.value == pytest.approx(np.mean(list(planted.values())), abs=0.05)


def test_effects_on_single_tasks_have_the_sign_and_place_that_was_planted(runs):
    planted = np.zeros((len(SOURCES), 3))
    planted[SOURCES.index("tag")] = (1.0, 0.0, -1.0)
    planted[SOURCES.index("bpm"), 1] = -2.0
    there = np.array([[source in run.sources for source in SOURCES] for run in runs], float)
    values = there @ planted + np.random.default_rng(0).normal(0, 0.05, (len(runs), 3))
    found = source_by_task(fit(presence_terms(runs, MULTI_STRATEGIES, SOURCES), values), values, SOURCES)
    np.testing.assert_allclose(found, planted, atol=0.1)


def test_a_source_that_is_always_there_has_no_effect_on_single_tasks(runs):
    always = [replace(run, sources=tuple(dict.fromkeys((*run.sources, "tag")))) for run in runs]
    values = simulate(always, np.random.default_rng(0), n_tasks=2)
    found = source_by_task(fit(presence_terms(always, MULTI_STRATEGIES, SOURCES), values), values, SOURCES)
    assert np.isnan(found[SOURCES.index("tag")]).all() and np.isfinite(found).sum() == 7 * 2


def test_what_the_models_will_not_tell_is_known_before_the_runs():
    def told(runs, *interactions):
        return shortcomings(runs, MULTI_STRATEGIES, SOURCES, interactions)

    repeats = [replace(run, seed=seed) for run in facts(40) for seed in (0, 1, 2)]
    assert told(facts(60, interactions=["strategy:sources"]), "strategy:sources") == []
    assert told(repeats) == [
        "strategy × presence of each source: The interactions of the strategy are left out: 40 runs cannot "
        "tell 45 terms apart with 10 runs to spare."
    ]
    few = facts(20, interactions=["strategy:tag"])
    assert any("source: All interactions are left out: 20 runs" in text for text in told(few, "strategy:tag"))
    assert len(told(facts(13)[:5])) == 2
    always = [replace(run, sources=tuple(dict.fromkeys((*run.sources, "tag")))) for run in facts(60)]
    assert told(always, "bpm:tag", "strategy:bpm") == [
        "strategy × presence of each source: bpm:tag cannot be estimated, as one of the two is the same in "
        "all runs."
    ]


def test_interactions_enter_where_there_are_runs_enough():
    few, many = facts(32), facts(90, interactions=["strategy:sources"])
    assert "left out" in presence_terms(few, MULTI_STRATEGIES, SOURCES).left_out
    terms = presence_terms(many, MULTI_STRATEGIES, SOURCES)
    assert terms.left_out == "" and len(terms.names) == 45
    planted = np.array([1.5 * ("tag" in r.sources and r.strategy == "ms-cr@2") for r in many])
    scores = simulate(many, np.random.default_rng(0), n_tasks=1, run_sd=0.2, noise_sd=0.2) + planted[:, None]
    found = {
        e.name: e for e in presence_effects(fit(terms, scores), SOURCES) if e.family == "source by strategy"
    }
    assert len(found) == 40
    assert found["tag in ms-cr@2"].significant
    assert found["tag in ms-cr@2"].value == pytest.approx(1.5, abs=0.3)
    assert abs(found["tag in mss-cr"].value) < 0.4


def test_interactions_that_the_design_names_are_estimated_where_all_cannot_be():
    """`bpm` and `tag` are worth 1 together, half of which each seems to be worth alone."""
    named = ["bpm:tag", "strategy:year"]
    runs = facts(40, interactions=named)
    together = np.array([1.0 * ({"bpm", "tag"} <= set(run.sources)) for run in runs])
    values = simulate(runs, np.random.default_rng(0), run_sd=0.1, noise_sd=0.2) + together[:, None]
    terms = presence_terms(runs, MULTI_STRATEGIES, SOURCES, named)
    assert len(terms.names) == 13 + 1 + 4
    assert "that the design does not name are left out: 40 runs cannot tell 46 terms" in terms.left_out
    found = {(e.family, e.name): e for e in presence_effects(fit(terms, values), SOURCES)}
    pair = found["pair of sources", "bpm with tag"]
    assert pair.significant and pair.value == pytest.approx(1.0, abs=0.2)
    assert found["source", "tag"].value == pytest.approx(0.5, abs=0.1)
    by_strategy = [name for family, name in found if family == "source by strategy"]
    assert by_strategy == [f"year in {strategy}" for strategy in MULTI_STRATEGIES]
    rows = {row.term: row for row in anova(terms, values)[0]}
    assert (rows["bpm × tag"].df, rows["strategy × year"].df) == (1, 4)
    assert rows["bpm × tag"].p_holm < 0.001
    whole = presence_terms(facts(90), MULTI_STRATEGIES, SOURCES, named)
    assert (len(whole.names), whole.left_out) == (46, "")
    few = presence_terms(runs[:20], MULTI_STRATEGIES, SOURCES, named)
    assert len(few.names) == 13 and "source: All interactions are left out: 20 runs" in few.left_out


def test_the_anova_equals_that_of_statsmodels():
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    runs = facts(60)
    scores = simulate(runs, np.random.default_rng(2), effects={"tag": 0.5})
    columns = {"y": scores.mean(axis=1), "s": [r.strategy for r in runs], "n": [len(r.sources) for r in runs]}
    expected = anova_lm(ols("y ~ C(s, Sum) * n", pyarrow.table(columns).to_pandas()).fit(), typ=2)
    rows, residuals = anova(number_terms(runs, MULTI_STRATEGIES), scores)
    assert [row.term for row in rows] == ["strategy", "number of sources", "strategy × number of sources"]
    for row, (_, other) in zip(rows, expected.iterrows(), strict=False):
        assert (row.df, row.f, row.p_value) == pytest.approx((other["df"], other["F"], other["PR(>F)"]))
        noise = expected["sum_sq"]["Residual"] / expected["df"]["Residual"]
        gain = other["sum_sq"] - other["df"] * noise
        assert row.omega == pytest.approx(max(0, gain / (gain + len(runs) * noise)))
    assert residuals.normality_p > 0.001


def test_the_interval_of_omega_squared_inverts_the_noncentral_f():
    low, high = effect_interval(6.0, 2, 40, 43)
    for eta, probability in ((low, 0.95), (high, 0.05)):
        noncentrality = eta / (1 - eta) * 43
        assert stats.ncf.cdf(6.0, 2, 40, noncentrality) == pytest.approx(probability, abs=1e-6)
    assert effect_interval(0.2, 2, 40, 43)[0] == 0.0


def omega_coverage(n_repeats):
    """Part of intervals that hold the effect of the strategy, whose variance is a fifth of the residual's."""
    runs, rng = facts(29), np.random.default_rng(3)
    terms = presence_terms(runs, MULTI_STRATEGIES, SOURCES)
    columns = term_blocks(terms)["strategy"]
    others = [c for c in range(terms.values.shape[1]) if c not in columns]
    signal = terms.values[:, columns] @ [1.0, -0.5, 0.3, 0.0]
    rest = terms.values[:, others]
    signal -= rest @ np.linalg.lstsq(rest, signal, rcond=None)[0]  # what the other terms cannot explain
    signal *= np.sqrt(0.2 / (signal @ signal / len(runs)))
    held = []
    for _ in range(n_repeats):
        y = signal + rng.normal(0, 1, len(runs))
        row = next(row for row in anova(terms, y[:, None])[0] if row.term == "strategy")
        held.append(row.low <= 0.2 / 1.2 <= row.high)
    return np.mean(held)


@pytest.mark.slow
def test_90_percent_of_the_intervals_of_omega_squared_hold_the_truth():
    """800 intervals, whose binomial deviation is 1.1%."""
    assert 0.87 <= omega_coverage(800) <= 0.93


def test_what_does_not_converge_falls_back_in_order_and_says_so(runs, monkeypatch):
    scores = simulate(runs, np.random.default_rng(0))
    terms = number_terms(runs, MULTI_STRATEGIES)
    tried = []

    def never(terms, scores, chosen):
        tried.append(tuple(chosen))
        return "did not converge"

    monkeypatch.setattr(mixed, "_mixed", never)
    found = fit(terms, scores)
    assert tried == [("strategy", "number of sources"), ("number of sources",), ()]
    assert found.how == LEAST_SQUARES and len(found.failures) == 3
    assert "did not converge" in found.failures[0]
    import statsmodels.api as sm

    ols = sm.OLS(scores.mean(axis=1), terms.values).fit()
    low, high = ols.conf_int()[1]
    assert found.interval(np.eye(len(terms.names))[1])[1:3] == pytest.approx((low, high))


def test_one_task_needs_no_mixed_model(runs):
    found = fit(number_terms(runs, MULTI_STRATEGIES), simulate(runs, np.random.default_rng(0), n_tasks=1))
    assert (found.how, found.failures) == (LEAST_SQUARES, ())


# Standardising


def test_scores_are_standardised_by_the_multi_source_runs_of_each_task(runs):
    single = RunFacts("s", "single", "ss-r", ("tag",))
    values = np.random.default_rng(0).normal(3, 2, (len(runs) + 1, 3))
    values[:, 2] = 0.5
    values[0, 1] = np.nan
    found = standardise(table_of([*runs, single], values))
    assert (found.left_out, found.constant) == (("r0",), ("task2",))
    multi = found.multi.values
    np.testing.assert_allclose(multi.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(multi.std(axis=0, ddof=1), 1)
    np.testing.assert_allclose(found.table.values[-1] * found.sd + found.mean, values[-1, :2])


def test_too_little_to_analyse_is_one_line(runs):
    with pytest.raises(DataError, match="2 multi-source runs have scores on all tasks"):
        standardise(table_of(runs[:2], np.ones((2, 2))))
    with pytest.raises(DataError, match="equal scores on every task"):
        standardise(table_of(runs, np.ones((len(runs), 2))))
    few = analyse(table_of(runs[:5], np.random.default_rng(0).normal(size=(5, 2))), MULTI_STRATEGIES, SOURCES)
    assert few.number is None and "is not fitted: 5 runs" in few.notes[0]


def test_sources_that_always_go_together_are_named_and_their_model_is_not_fitted(runs):
    """`bpm` and `year`: least squares would give any numbers whose sum is right."""
    rng = np.random.default_rng(0)
    joined = []
    for run in runs:
        rest = tuple(s for s in run.sources if s not in {"bpm", "year"})
        joined.append(
            RunFacts(run.run_id, "multi", run.strategy, (*rest, *(("bpm", "year") * ("bpm" in run.sources))))
        )
    found = analyse(table_of(joined, rng.normal(size=(len(joined), 4))), MULTI_STRATEGIES, SOURCES)
    assert found.presence is None and found.number is not None
    note = next(note for note in found.notes if "presence of each source" in note)
    assert "is not fitted: in these runs bpm and year vary together" in note


def test_a_source_that_goes_with_the_strategy_is_named_and_its_model_is_not_fitted():
    """`tag` is there under one strategy alone; then the number of sources differs by strategy as well."""
    strategies, others = MULTI_STRATEGIES[:2], [s for s in SOURCES if s != "tag"]

    def analysed(sizes):
        sets = [chosen for size in sizes for chosen in combinations(others, size)]
        made = [(strategies[0], ("tag", *chosen)) for chosen in sets] + [(strategies[1], c) for c in sets]
        runs = [RunFacts(f"r{i}", "multi", s, sources) for i, (s, sources) in enumerate(made)]
        values = np.random.default_rng(0).normal(size=(len(runs), 3))
        return analyse(table_of(runs, values), strategies, SOURCES)

    found = analysed((2, 3))
    assert found.number is not None and found.presence is None
    assert any("in these runs the strategy and tag vary together" in note for note in found.notes)
    found = analysed((2,))
    assert (found.number, found.presence) == (None, None)
    assert "in these runs the strategy and the number of sources vary together" in found.notes[0]


# Compactness


def test_the_front_is_what_no_run_beats():
    rng = np.random.default_rng(0)
    costs, scores = rng.integers(1, 6, 40).astype(float), rng.normal(size=40)
    brute = {
        i
        for i in range(40)
        if not any(
            (costs[j] <= costs[i] and scores[j] > scores[i])
            or (costs[j] < costs[i] and scores[j] >= scores[i])
            for j in range(40)
        )
    }
    assert set(pareto_front(costs, scores)) == brute


# Repeats


def repeated(runs, rng, n_seeds, cell_sd):
    """`n_seeds` runs of each cell, which share a deviation of the cell; scores have no effect at all."""
    table = [replace(run, run_id=f"{run.run_id}.s{s}", seed=s) for s in range(n_seeds) for run in runs]
    cells = rng.normal(0, cell_sd, (len(runs), 1))
    return table_of(table, np.tile(cells, (n_seeds, 1)) + simulate(table, rng))


def test_repeats_with_the_same_scores_change_nothing(runs):
    values = simulate(runs, np.random.default_rng(0), effects={"tag": 0.8})
    seeds = [replace(run, seed=seed) for seed in (0, 1, 2) for run in runs]
    once = analyse(table_of(runs, values), MULTI_STRATEGIES, SOURCES)
    thrice = analyse(table_of(seeds, np.tile(values, (3, 1))), MULTI_STRATEGIES, SOURCES)
    for one, other in ((once.number, thrice.number), (once.presence, thrice.presence)):
        for effect, same in zip(one.effects, other.effects, strict=True):
            assert (same.df, same.p_holm) == pytest.approx((effect.df, effect.p_holm), rel=1e-3)
        assert [row.p_value for row in other.anova] == pytest.approx([row.p_value for row in one.anova])
    assert "the 96 multi-source runs are 32 in the models" in thrice.notes[0]
    assert not any("differ in the seed" in note for note in once.notes)


def test_a_cell_is_the_mean_of_its_seeds_and_one_that_lacks_a_seed_is_not_lost(runs):
    table = repeated(runs[:4], np.random.default_rng(0), 2, 0.0)
    cells = cell_means(table.keep(range(7)))
    assert [run.sources for run in cells.runs] == [run.sources for run in runs[:4]]
    np.testing.assert_allclose(cells.values[0], (table.values[0] + table.values[4]) / 2)
    np.testing.assert_allclose(cells.values[3], table.values[3])


def repeated_coverage(n_repeats, n_seeds):
    """Part of intervals of an analysis that hold the truth, 0, where cells have deviations of their own."""
    runs, rng = facts(29), np.random.default_rng(8)
    held = []
    for _ in range(n_repeats):
        cells = cell_means(repeated(runs, rng, n_seeds, 0.6))
        found = presence_effects(
            fit(presence_terms(cells.runs, MULTI_STRATEGIES, SOURCES), cells.values), SOURCES
        )
        held.append([e.low <= 0 <= e.high for e in found if e.family == "source"])
    return np.mean(held)


def test_intervals_hold_the_truth_with_two_seeds():
    """800 intervals, whose binomial deviation is 0.8%; with each seed as a run of its own 86% hold it."""
    assert 0.93 <= repeated_coverage(100, 2) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [2, 3])
def test_over_many_repeats_95_percent_of_intervals_hold_the_truth_with_seeds(n_seeds):
    assert 0.94 <= repeated_coverage(2000, n_seeds) <= 0.96


def coverage(n_repeats, n_runs, n_tasks, slope_sd):
    """Part of intervals that hold the truth, and of null effects that are called significant."""
    runs, rng = facts(n_runs), np.random.default_rng(7)
    terms = presence_terms(runs, MULTI_STRATEGIES, SOURCES)
    held, called = [], []
    for _ in range(n_repeats):
        scores = simulate(runs, rng, n_tasks, effects={"tag": 0.5}, slope_sd=slope_sd)
        found = {e.name: e for e in presence_effects(fit(terms, scores), SOURCES) if e.family == "source"}
        held.append([e.low <= (0.5 if name == "tag" else 0.0) <= e.high for name, e in found.items()])
        called.append([e.p_value < 0.05 for name, e in found.items() if name != "tag"])
    return np.mean(held), np.mean(called)


def test_intervals_hold_the_truth_and_nothing_is_found_where_nothing_is():
    """1,600 intervals, whose binomial deviation is 0.5%."""
    held, called = coverage(200, 29, 6, 0.3)
    assert 0.93 <= held <= 0.97
    assert 0.03 <= called <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize(("n_runs", "n_tasks", "slope_sd"), [(29, 6, 0.0), (29, 6, 0.4), (60, 6, 0.2)])
def test_over_many_repeats_95_percent_of_intervals_hold_the_truth(n_runs, n_tasks, slope_sd):
    held, called = coverage(3000, n_runs, n_tasks, slope_sd)
    assert 0.94 <= held <= 0.96
    assert 0.04 <= called <= 0.06
