"""What the evaluations say together: who is best on which task, and whether the difference is significant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from kerasrep.errors import DataError, one_line
from kerasrep.evaluation.base import Comparison, Evaluation, ProbeResult
from kerasrep.evaluation.significance import holm
from kerasrep.report.wording import (
    SIGNIFICANT,
    counted,
    decimals_for,
    interval,
    listing,
    metric_label,
    number,
    p_equation,
)

#: Width of a 95% interval in standard errors.
INTERVAL_ERRORS = 2 * 1.96
#: A difference of so many standard errors is significant at 5% (1.96) with a power of 80% (0.84).
DETECTABLE_ERRORS = 1.96 + 0.84
#: In the sentence that comes first.
LEADS_SHOWN = 3
#: Kind of task -> what is tested; items where it is not here.
UNITS = {"recommendation": "user"}


@dataclass(frozen=True)
class Adjusted:
    """A comparison with its p value after Holm's correction.

    Attributes:
        comparison: As it was made.
        is_headline: Whether its probe is the one that headlines show for its task.
        p_holm: Corrected for the number of headline comparisons on all tasks; of another probe, for the
            number of comparisons with that probe.
    """

    comparison: Comparison
    is_headline: bool
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p value is below 5%."""
        return self.p_holm < SIGNIFICANT

    def turned(self) -> Adjusted:
        """The same comparison seen from the second representation."""
        c = self.comparison
        seen = replace(c, first=c.second, second=c.first, difference=-c.difference, low=-c.high, high=-c.low)
        return replace(self, comparison=seen)


@dataclass(frozen=True)
class Finding:
    """The best representation on one task.

    Attributes:
        task: Name of the task.
        best: The representation with the highest score; several where they are level.
        behind: The best against the next one, where it was tested.
        tested: The best against the highest one that it was tested with; `behind` where that was.
        sentence: All of it in words.
    """

    task: str
    best: tuple[str, ...]
    behind: Adjusted | None
    tested: Adjusted | None
    sentence: str


@dataclass(frozen=True)
class Overview:
    """Evaluations in order of tasks and representations.

    Attributes:
        tasks: In order of first appearance.
        representations: In order of first appearance.
        cells: (task, representation) -> evaluation; what failed is missing.
        comparisons: As given, with corrected p values.
    """

    tasks: tuple[str, ...]
    representations: tuple[str, ...]
    cells: Mapping[tuple[str, str], Evaluation]
    comparisons: tuple[Adjusted, ...]

    def of_task(self, task: str) -> list[Evaluation]:
        """Evaluations on one task, in order of representations."""
        found = (self.cells.get((task, name)) for name in self.representations)
        return [evaluation for evaluation in found if evaluation is not None]

    def metric(self, task: str) -> str:
        """The metric that is the task's score."""
        return self.of_task(task)[0].metric

    def chance(self, task: str) -> tuple[float, ...]:
        """Scores of the chance probe: one, or several where representations were tested on other items."""
        scores = [probe.mean for probe in map(chance_probe, self.of_task(task)) if probe is not None]
        return tuple(sorted({round(score, 9) for score in scores}))

    def chance_text(self, task: str) -> str:
        """`0.125`, or `0.120 to 0.131`; empty where there is no chance probe."""
        scores = self.chance(task)
        texts = (number(score, self.decimals(task)) for score in (*scores[:1], *scores[-1:]))
        return " to ".join(dict.fromkeys(texts))

    def decimals(self, task: str) -> int:
        """Decimals for scores of one task."""
        return decimals_for([evaluation.probes[0].mean for evaluation in self.of_task(task)])

    def headline_text(self) -> str:
        """Which probes headlines show: `linear_svm for classification, ridge for regression`."""
        probes: dict[str, dict[str, None]] = {}
        for evaluation in self.cells.values():
            probes.setdefault(evaluation.kind, {})[one_line(evaluation.probes[0].probe)] = None
        return ", ".join(f"{listing([*names])} for {kind}" for kind, names in probes.items())

    def headline_comparisons(self) -> tuple[Adjusted, ...]:
        """The comparisons with the probes that headlines show."""
        return tuple(adjusted for adjusted in self.comparisons if adjusted.is_headline)

    def between(self, task: str, first: str, second: str) -> Adjusted | None:
        """The comparison of two representations with the headline probe, seen from `first`."""
        for one in self.headline_comparisons():
            for adjusted in (one, one.turned()):
                seen = adjusted.comparison
                if (seen.task, seen.first, seen.second) == (task, first, second):
                    return adjusted
        return None


def overview_of(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> Overview:
    """Put evaluations in order and correct the p values.

    Raises:
        DataError: Where nothing was evaluated, one representation stands twice for a task, or a score is not
            finite.
    """
    if not evaluations:
        raise DataError("nothing was evaluated, so there is nothing to report")
    cells: dict[tuple[str, str], Evaluation] = {}
    for evaluation in evaluations:
        place = (evaluation.task, evaluation.representation)
        what = f"{one_line(evaluation.representation)} on {one_line(evaluation.task)}"
        if place in cells:
            raise DataError(f"{what} was evaluated twice; give every representation a name of its own")
        for probe in evaluation.probes:
            values = (probe.mean, probe.low, probe.high, *(score.value for score in probe.scores))
            if not all(map(math.isfinite, values)):
                raise DataError(f"{what}: a score of the probe {one_line(probe.probe)} is not finite")
        cells[place] = evaluation
    return Overview(
        tuple(dict.fromkeys(task for task, _ in cells)),
        tuple(dict.fromkeys(representation for _, representation in cells)),
        cells,
        _adjusted(cells, comparisons),
    )


@dataclass(frozen=True)
class SeenItems:
    """Items of a task that a compared model was trained on.

    Attributes:
        n_items: How many.
        n_scored: How many of them count in the scores.
    """

    n_items: int
    n_scored: int


def seen_of(evaluation: Evaluation) -> SeenItems | None:
    """What `copies.Seen.counts` says of an evaluation, where a model has seen any item."""
    seen = evaluation.counts.get("seen")
    if not seen:
        return None
    return SeenItems(seen["items"], 0 if seen["removed"] else seen["items"])


def chance_probe(evaluation: Evaluation) -> ProbeResult | None:
    """The probe that knows nothing of the embedding; the last one, where there are several."""
    return evaluation.probes[-1] if len(evaluation.probes) > 1 else None


def findings(overview: Overview) -> list[Finding]:
    """Who is best on each task, in order of tasks."""
    return [_finding(overview, task) for task in overview.tasks]


def win_sentences(overview: Overview) -> Iterator[str]:
    """On how many tasks each representation is best, and by how much; in words.

    Of a single task its finding says so already.
    """
    compared = [f for f in findings(overview) if len(overview.of_task(f.task)) > 1]
    for name in overview.representations if len(compared) > 1 else ():
        won = [finding for finding in compared if finding.best == (name,)]
        if won:
            of = counted(len(compared), "task")
            leads = _leads(overview, won, of)
            yield f"{one_line(name)} {leads}; its score is the highest on {len(won)} of {of}."


def _leads(overview: Overview, won: Sequence[Finding], of: str) -> str:
    """What the tests say of a representation on the tasks that it is best on, `of` so many."""
    tested = [finding.behind for finding in won if finding.behind is not None]
    clear = [behind.comparison for behind in tested if behind.significant]
    if not tested:
        return "was not tested against the next one"
    some = "" if len(tested) == len(won) else f" ({len(tested)} tested)"
    if not clear:
        return f"has a significant lead over the next one on none of {of}{some}"
    leads = []
    for seen in clear[:LEADS_SHOWN]:
        decimals = overview.decimals(seen.task)
        by = f"{number(seen.difference, decimals)} {interval(seen.low, seen.high, decimals)}"
        leads.append(f"{one_line(seen.task)} by {by}")
    leads += [f"{len(clear) - LEADS_SHOWN} more"] if len(clear) > LEADS_SHOWN else []
    return f"is significantly ahead of the next one on {len(clear)} of {of}{some}: {listing(leads)}"


def sensitivity_sentences(overview: Overview) -> Iterator[str]:
    """What difference a test that found none could have found, and how many units it would need; in words.

    The standard error is that of the interval of the paired difference, the power that of a test at 5% before
    any correction.
    """
    for finding in findings(overview):
        if finding.tested is None or finding.tested.significant:
            continue
        seen = finding.tested.comparison
        smallest = DETECTABLE_ERRORS * (seen.high - seen.low) / INTERVAL_ERRORS
        if not smallest:
            continue
        decimals, units = overview.decimals(seen.task), UNITS.get(overview.of_task(seen.task)[0].kind, "item")
        tested = counted(seen.n_units, units)
        tested += "" if seen.n_groups == seen.n_units else f" in {counted(seen.n_groups, 'group')}"
        sentence = (
            f"{one_line(seen.task)}: with {tested}, a difference of {number(smallest, decimals)} between "
            f"{one_line(seen.first)} and {one_line(seen.second)} would be found significant in four "
            "of five cases"
        )
        if 0 < abs(seen.difference) < smallest:
            needed = math.ceil(seen.n_units * (smallest / abs(seen.difference)) ** 2)
            of_groups = "" if seen.n_groups == seen.n_units else ", in proportionally more groups"
            sentence += (
                f"; for the {number(abs(seen.difference), decimals)} found here, about "
                f"{counted(_two_digits(needed), units)} would be needed{of_groups}"
            )
        yield sentence + "."


def _two_digits(count: int) -> int:
    """A count rounded up to two digits: more are not known of it."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def pair_sentences(overview: Overview) -> Iterator[str]:
    """On how many tasks each pair that was tested differs; in words."""
    for first, second in combinations(overview.representations, 2):
        common = [t for t in overview.tasks if (t, first) in overview.cells and (t, second) in overview.cells]
        means = [[overview.cells[t, name].probes[0].mean for name in (first, second)] for t in common]
        tested = [a for t in common if (a := overview.between(t, first, second)) is not None]
        if not tested:
            continue
        above = sum(a > b for a, b in means)
        better = sum(a.significant and a.comparison.difference > 0 for a in tested)
        worse = sum(a.significant and a.comparison.difference < 0 for a in tested)
        names = f"{one_line(first)} scores above {one_line(second)}"
        verdict = f"significantly better on {better}, significantly worse on {worse}"
        yield f"{names} on {above} of {counted(len(common), 'task')}: {verdict}."


def _adjusted(
    cells: Mapping[tuple[str, str], Evaluation], comparisons: Sequence[Comparison]
) -> tuple[Adjusted, ...]:
    headlines = {(task, evaluation.probes[0].probe) for (task, _), evaluation in cells.items()}
    is_headline = [(comparison.task, comparison.probe) in headlines for comparison in comparisons]
    families: dict[str | None, list[int]] = {}
    for i, comparison in enumerate(comparisons):
        families.setdefault(None if is_headline[i] else comparison.probe, []).append(i)
    corrected: dict[int, float] = {}
    for rows in families.values():
        corrected |= zip(rows, holm([comparisons[i].p_value for i in rows]).tolist(), strict=True)
    return tuple(Adjusted(c, is_headline[i], corrected[i]) for i, c in enumerate(comparisons))


def _finding(overview: Overview, task: str) -> Finding:
    ranked = sorted(overview.of_task(task), key=lambda evaluation: -evaluation.probes[0].mean)
    decimals = overview.decimals(task)
    shown = [number(evaluation.probes[0].mean, decimals) for evaluation in ranked]
    best = ranked[: shown.count(shown[0])]
    names = tuple(evaluation.representation for evaluation in best)
    others = ranked[len(best) :]
    behind = tested = None
    said = _achievement(overview, task, best, len(ranked))
    if len(best) == 1 and others:
        tests = [overview.between(task, names[0], other.representation) for other in others]
        behind, tested = tests[0], next((test for test in tests if test is not None), None)
        if behind is None:
            lead = number(best[0].probes[0].mean - others[0].probes[0].mean, decimals)
            said += f"; its lead of {lead} over {one_line(others[0].representation)} was not tested"
        said = said if tested is None else f"{_tested(tested, decimals)}; {said}"
    seen = seen_of(best[0])
    mark = " (seen in training)" if seen and seen.n_scored else ""
    sentence = f"{one_line(task)}{mark}: {said}{_beside_chance(best[0])}."
    return Finding(task, names, behind, tested, sentence)


def _achievement(overview: Overview, task: str, best: Sequence[Evaluation], n_compared: int) -> str:
    probe, decimals = best[0].probes[0], overview.decimals(task)
    score = f"{metric_label(best[0].metric)} {number(probe.mean, decimals)}"
    score += f" {interval(probe.low, probe.high, decimals)}"
    chance = overview.chance_text(task)
    score += f", chance {chance}" if chance else ""
    names = listing([one_line(evaluation.representation) for evaluation in best])
    if n_compared == 1:
        return f"{names} alone was evaluated ({score})"
    return (
        f"{names} are level at the top ({score})"
        if len(best) > 1
        else f"{names} has the highest score ({score})"
    )


def _tested(test: Adjusted, decimals: int) -> str:
    """What a test says, in words."""
    seen = test.comparison
    difference = f"{number(seen.difference, decimals)} {interval(seen.low, seen.high, decimals)}"
    found = "a significant difference" if test.significant else "no significant difference"
    names = f"{one_line(seen.first)} and {one_line(seen.second)}"
    return f"{found} between {names}, {difference} ({p_equation(test.p_holm)})"


def _beside_chance(best: Evaluation) -> str:
    chance = chance_probe(best)
    if chance is not None and best.probes[0].low <= chance.mean:
        return "; its interval includes chance"
    return ""
