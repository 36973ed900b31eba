"""The tables of an evaluation, which terminal and page both show, lines about its data, and what is printed.

What is printed is plain text, as wide as the terminal allows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kerasrep.errors import one_line
from kerasrep.evaluation.base import Comparison, Evaluation, ProbeResult
from kerasrep.evaluation.report.overview import (
    Adjusted,
    Overview,
    chance_probe,
    findings,
    overview_of,
    pair_sentences,
    seen_of,
    sensitivity_sentences,
    win_sentences,
)
from kerasrep.report.table import MISSING, Cell, Estimate, Table
from kerasrep.report.wording import (
    counted,
    decimals_for,
    interval,
    metric_label,
    number,
    p_starred,
    p_text,
)


def score_table(overview: Overview) -> Table:
    """The scores of the headline probe: one row per task, one column per representation."""
    best = {finding.task: finding.best for finding in findings(overview)}
    rows = []
    seen = {task: text for task in overview.tasks if (text := _seen_text(overview, task))}
    for task in overview.tasks:
        several = len(overview.of_task(task)) > 1
        row: list[Cell] = [task, metric_label(overview.metric(task)), overview.chance_text(task) or MISSING]
        row += [seen.get(task, MISSING)] if seen else []
        for name in overview.representations:
            found, is_best = overview.cells.get((task, name)), several and name in best[task]
            row.append(_estimate(overview, task, found.probes[0], is_best) if found else MISSING)
        rows.append(row)
    caption = (
        f"Scores with 95% intervals by bootstrap over what was tested; probe: {overview.headline_text()}"
    )
    names = ["task", "metric", "chance", *(["in training"] if seen else [])]
    return Table([*names, *overview.representations], rows, len(names), caption)


def _seen_text(overview: Overview, task: str) -> str:
    """How many items a model was trained on, and whether they count."""
    found = next((seen for one in overview.of_task(task) if (seen := seen_of(one))), None)
    if found is None:
        return ""
    return f"{found.n_scored:,} scored" if found.n_scored else f"{found.n_items:,} left out"


def detail_tables(overview: Overview) -> dict[str, list[Table]]:
    """Kind of task -> its scores by probe, and all metrics of the first probe; chance is left out."""
    tables: dict[str, list[Table]] = {}
    for kind in dict.fromkeys(evaluation.kind for evaluation in overview.cells.values()):
        found = [e for task in overview.tasks for e in overview.of_task(task) if e.kind == kind]
        probes = [
            {p.probe: _estimate(overview, e.task, p) for p in e.probes if p is not chance_probe(e)}
            for e in found
        ]
        metrics = [_metric_means(evaluation.probes[0]) for evaluation in found]
        tables[kind] = [
            _detail_table(f"Every probe on {kind} tasks", found, probes),
            _detail_table(
                f"Every metric of the first probe on {kind} tasks, means over folds", found, metrics
            ),
        ]
    return tables


def class_table(evaluation: Evaluation) -> Table | None:
    """Scores of each class with the headline probe, where it has them."""
    per_class = evaluation.probes[0].per_class
    if not per_class:
        return None
    columns = list(dict.fromkeys(name for scores in per_class.values() for name in scores))
    rows = [
        [name, *(_class_score(column, scores.get(column)) for column in columns)]
        for name, scores in per_class.items()
    ]
    return Table(["class", *columns], rows)


def comparison_table(overview: Overview, shown: Sequence[Adjusted]) -> Table:
    """Paired tests, with their probe where one is not the headline's."""
    n_headline = sum(adjusted.is_headline for adjusted in shown)
    all_headline = n_headline == len(shown)
    rows = []
    for adjusted in shown:
        seen = adjusted.comparison
        decimals = overview.decimals(seen.task) if seen.task in overview.tasks else 3
        difference = number(seen.difference, decimals)
        rows.append(
            [
                seen.task,
                *([] if all_headline else [seen.probe]),
                f"{seen.first} - {seen.second}",
                f"{'' if difference.startswith('-') else '+'}{difference}",
                interval(seen.low, seen.high, decimals),
                p_text(seen.p_value),
                p_starred(adjusted.p_holm),
                f"{seen.n_units:,}" + (f" in {seen.n_groups:,}" if seen.n_groups != seen.n_units else ""),
            ]
        )
    probe = [] if all_headline else ["probe"]
    others = "" if all_headline else "; other probes, for the comparisons with each of them"
    corrected = f"p (Holm) is corrected for {counted(n_headline, 'comparison')}{others}"
    header = ["task", *probe, "compared", "difference", "95%", "p", "p (Holm)", "units"]
    return Table(header, rows, 2 + len(probe), f"Paired tests; {corrected}; * below 0.05")


def data_lines(overview: Overview) -> list[str]:
    """What was found of each data set, and what could not be used."""
    return [*_count_lines(overview), *_left_out_lines(overview)]


def _estimate(overview: Overview, task: str, probe: ProbeResult, is_best: bool = False) -> Estimate:
    return Estimate(probe.mean, probe.low, probe.high, overview.decimals(task), is_best)


def _metric_means(probe: ProbeResult) -> dict[str, Cell]:
    values: dict[str, list[float]] = {}
    for score in probe.scores:
        values.setdefault(metric_label(score.metric), []).append(score.value)
    return {name: number(sum(found) / len(found), decimals_for(found)) for name, found in values.items()}


def _detail_table(
    caption: str, evaluations: Sequence[Evaluation], cells: Sequence[Mapping[str, Cell]]
) -> Table:
    columns = list(dict.fromkeys(name for row in cells for name in row))
    rows = [
        [evaluation.task, evaluation.representation, *(row.get(name, MISSING) for name in columns)]
        for evaluation, row in zip(evaluations, cells, strict=True)
    ]
    return Table(["task", "representation", *columns], rows, 2, caption)


def _class_score(column: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if column == "support" else number(value, 3)


def _count_lines(overview: Overview) -> list[str]:
    """What was found of each data set beside what its authors state; tasks that agree share a line."""
    tasks: dict[str, list[str]] = {}
    for task in overview.tasks:
        for text in dict.fromkeys(_counts(evaluation.counts) for evaluation in overview.of_task(task)):
            tasks.setdefault(text, []).append(one_line(task))
    return [f"{', '.join(names)}: {text}" for text, names in tasks.items() if text]


def _counts(counts: Mapping[str, Any]) -> str:
    """`930 items found, 930 published: verified`, or `unverified` where a number differs."""
    parts, agree = [], []
    for name, count in counts.items():
        if not isinstance(count, Mapping) or "found" not in count:
            continue
        found, published = count["found"], count.get("published")
        stated = "" if published is None else f", {published:,} published"
        parts.append(f"{found:,} {one_line(name)} found{stated}")
        agree += [] if published is None else [found == published]
    verdict = "" if not agree else ": verified" if all(agree) else ": unverified"
    return "; ".join(parts) + verdict


def _left_out_lines(overview: Overview) -> Iterator[str]:
    """How many items could not be used, and why the first of them; a line for each set of items."""
    for task in overview.tasks:
        who: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for evaluation in overview.of_task(task):
            if evaluation.left_out:
                who.setdefault(tuple(evaluation.left_out.items()), []).append(evaluation.representation)
        for items, names in who.items():
            everyone = len(names) == len(overview.of_task(task))
            whose = "" if everyone else f" with {', '.join(map(one_line, names))}"
            item, reason = (one_line(text) for text in items[0])
            more = "" if len(items) == 1 else f"; and {counted(len(items) - 1, 'other')}"
            what = f"{counted(len(items), 'item')} left out{whose}"
            yield f"{one_line(task)}: {what} ({item}: {reason}{more})"


def terminal_report(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison] = (),
    verbose: bool = False,
    width: int = 100,
) -> str:
    """Everything the command prints at its end.

    Args:
        evaluations: What was found; tasks and representations stand in order of first appearance.
        comparisons: Of pairs of representations; p values are corrected here.
        verbose: Show every probe and every metric, and the comparisons with every probe.
        width: Columns of the terminal. Tables that are wider are cut into blocks of whole columns.

    Returns:
        Lines of text; ends with a new line.

    Raises:
        DataError: Where nothing was evaluated, or one representation stands twice for a task.
    """
    overview = overview_of(evaluations, comparisons)
    parts = [_table(score_table(overview), width)]
    parts += _sentences(win_sentences(overview), width)
    parts += _sentences((finding.sentence for finding in findings(overview)), width)
    parts += _sentences(sensitivity_sentences(overview), width)
    if verbose:
        parts += [_table(table, width) for tables in detail_tables(overview).values() for table in tables]
    parts += _sentences(pair_sentences(overview), width)
    shown = overview.comparisons if verbose else overview.headline_comparisons()
    if shown:
        parts.append(_table(comparison_table(overview, shown), width))
    parts += _sentences(data_lines(overview), width)
    return "\n\n".join(parts) + "\n"


def _table(table: Table, width: int) -> str:
    return f"{_wrap(f'{table.caption}:', width)}\n{table.as_text(width)}"


def _sentences(lines: Iterable[str], width: int) -> list[str]:
    text = "\n".join(_wrap(line, width) for line in lines)
    return [text] if text else []


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False))
