"""The tables that the command prints: plain text, as wide as the terminal allows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerasrep.evaluation.base import Comparison, Evaluation, ProbeResult
from kerasrep.evaluation.report.overview import (
    Adjusted,
    Overview,
    chance_probe,
    findings,
    overview_of,
    pair_sentences,
    win_sentences,
)
from kerasrep.report.wording import (
    counted,
    decimals_for,
    display_width,
    interval,
    metric_label,
    number,
    p_text,
    printable,
    shorten,
)

GAP = "  "
WIDEST_NAME = 24
MISSING = "-"


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
    parts = [_headline(overview, width)]
    parts += _sentences(win_sentences(overview), width)
    parts += _sentences((finding.sentence for finding in findings(overview)), width)
    if verbose:
        parts += [_probes(overview, width), _metrics(overview, width)]
    parts += _sentences(pair_sentences(overview), width)
    shown = overview.comparisons if verbose else overview.headline_comparisons()
    if shown:
        parts.append(_comparisons(overview, shown, width))
    parts += _sentences([*count_lines(overview), *left_out_lines(overview)], width)
    return "\n\n".join(parts) + "\n"


def count_lines(overview: Overview) -> list[str]:
    """What was found of each data set beside what its authors state; tasks that agree share a line."""
    tasks: dict[str, list[str]] = {}
    for task in overview.tasks:
        for text in dict.fromkeys(_counts(evaluation.counts) for evaluation in overview.of_task(task)):
            tasks.setdefault(text, []).append(printable(task))
    return [f"{', '.join(names)}: {text}" for text, names in tasks.items() if text]


def left_out_lines(overview: Overview) -> list[str]:
    """How many items could not be used, and why the first of them; a line for each set of items."""
    lines = []
    for task in overview.tasks:
        who: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for evaluation in overview.of_task(task):
            if evaluation.left_out:
                who.setdefault(tuple(evaluation.left_out.items()), []).append(evaluation.representation)
        for items, names in who.items():
            everyone = len(names) == len(overview.of_task(task))
            whose = "" if everyone else f" with {', '.join(map(printable, names))}"
            item, reason = (printable(text) for text in items[0])
            more = "" if len(items) == 1 else f"; and {counted(len(items) - 1, 'other')}"
            lines.append(
                f"{printable(task)}: {counted(len(items), 'item')} left out{whose} ({item}: {reason}{more})"
            )
    return lines


def _headline(overview: Overview, width: int) -> str:
    rows = []
    for task in overview.tasks:
        decimals = overview.decimals(task)
        row = [printable(task), metric_label(overview.metric(task)), overview.chance_text(task) or MISSING]
        for name in overview.representations:
            evaluation = overview.cells.get((task, name))
            row.append(MISSING if evaluation is None else _score(evaluation.probes[0], decimals))
        rows.append(row)
    header = ["task", "metric", "chance", *map(printable, overview.representations)]
    title = f"Scores with 95% intervals by bootstrap over what was tested; probe: {overview.headline_text()}"
    return f"{_wrap(title, width)}\n{_blocks(header, rows, 3, width)}"


def _sentences(lines: Iterable[str], width: int) -> list[str]:
    text = "\n".join(_wrap(line, width) for line in lines)
    return [text] if text else []


def _probes(overview: Overview, width: int) -> str:
    """Chance is left out: it stands in the first table."""

    def names(evaluation: Evaluation) -> list[str]:
        return [p.probe for p in evaluation.probes if p is not chance_probe(evaluation)]

    return "Every probe:\n" + _by_kind(overview, names, _probe_score, width)


def _metrics(overview: Overview, width: int) -> str:
    def names(evaluation: Evaluation) -> list[str]:
        return [score.metric for score in evaluation.probes[0].scores]

    title = "Every metric of the first probe, means over folds:\n"
    return title + _by_kind(overview, names, _metric_mean, width, metric_label)


def _by_kind(
    overview: Overview,
    names: Callable[[Evaluation], Sequence[str]],
    cell: Callable[[Evaluation, str], str],
    width: int,
    label: Callable[[str], str] = printable,
) -> str:
    """A table for each kind of task, because kinds have their own probes and metrics."""
    tables = []
    for kind in dict.fromkeys(evaluation.kind for evaluation in overview.cells.values()):
        found = [evaluation for evaluation in overview.cells.values() if evaluation.kind == kind]
        tasks = [task for task in overview.tasks if any(evaluation.task == task for evaluation in found)]
        columns = list(dict.fromkeys(name for evaluation in found for name in names(evaluation)))
        tables.append(_by_task(overview, tasks, columns, cell, width, label))
    return "\n\n".join(tables)


def _by_task(
    overview: Overview,
    tasks: Sequence[str],
    columns: Sequence[str],
    cell: Callable[[Evaluation, str], str],
    width: int,
    label: Callable[[str], str],
) -> str:
    """A row for each task and representation."""
    rows = []
    for task in tasks:
        for place, evaluation in enumerate(overview.of_task(task)):
            row = [printable(task) if place == 0 else "", printable(evaluation.representation)]
            rows.append(row + [cell(evaluation, column) for column in columns])
    return _blocks(["task", "representation", *map(label, columns)], rows, 2, width)


def _probe_score(evaluation: Evaluation, name: str) -> str:
    decimals = decimals_for([evaluation.probes[0].mean])
    found = [probe for probe in evaluation.probes if probe.probe == name]
    return _score(found[0], decimals) if found else MISSING


def _metric_mean(evaluation: Evaluation, name: str) -> str:
    values = [score.value for score in evaluation.probes[0].scores if score.metric == name]
    return number(sum(values) / len(values), decimals_for(values)) if values else MISSING


def _comparisons(overview: Overview, shown: Sequence[Adjusted], width: int) -> str:
    rows = []
    all_headline = all(adjusted.is_headline for adjusted in shown)
    for adjusted in shown:
        seen = adjusted.comparison
        decimals = overview.decimals(seen.task) if seen.task in overview.tasks else 3
        difference = number(seen.difference, decimals)
        rows.append(
            [
                printable(seen.task),
                *([] if all_headline else [printable(seen.probe)]),
                f"{printable(seen.first)} - {printable(seen.second)}",
                f"{'' if difference.startswith('-') else '+'}{difference}",
                interval(seen.low, seen.high, decimals),
                p_text(seen.p_value),
                p_text(adjusted.p_holm) + ("*" if adjusted.significant else " "),
                f"{seen.n_units:,}" + (f" in {seen.n_groups:,}" if seen.n_groups != seen.n_units else ""),
            ]
        )
    probe = [] if all_headline else ["probe"]
    header = ["task", *probe, "compared", "difference", "95%", "p", "p (Holm)", "units"]
    return f"{_wrap(_holm_note(shown), width)}\n{_blocks(header, rows, 2 + len(probe), width)}"


def _holm_note(shown: Sequence[Adjusted]) -> str:
    n_headline = sum(adjusted.is_headline for adjusted in shown)
    others = "" if n_headline == len(shown) else "; other probes, for the comparisons with each of them"
    return (
        f"Paired tests; p (Holm) is corrected for {counted(n_headline, 'comparison')}{others}; * below 0.05:"
    )


def _score(probe: ProbeResult, decimals: int) -> str:
    """`0.712 [.68, .74]`: so short that three representations fit 100 columns."""
    short = interval(probe.low, probe.high, max(0, decimals - 1))
    return f"{number(probe.mean, decimals)} {re.sub(r'(?<![0-9])0[.]', '.', short)}"


def _counts(counts: Mapping[str, Any]) -> str:
    """`930 items found, 930 published: verified`, or `unverified` where a number differs."""
    parts, agree = [], []
    for name, count in counts.items():
        if not isinstance(count, Mapping) or "found" not in count:
            continue
        found, published = count["found"], count.get("published")
        parts.append(f"{found:,} {printable(name)} found, {_published(published)}")
        agree += [] if published is None else [found == published]
    verdict = "" if not agree else ": verified" if all(agree) else ": unverified"
    return "; ".join(parts) + verdict


def _published(count: int | None) -> str:
    return "no published number" if count is None else f"{count:,} published"


def _blocks(header: Sequence[str], rows: Sequence[Sequence[str]], n_fixed: int, width: int) -> str:
    """A table; where it is too wide, several with the same first columns."""
    header = [shorten(cell, WIDEST_NAME) if i >= n_fixed else cell for i, cell in enumerate(header)]
    rows = [[shorten(cell, WIDEST_NAME) if i == 0 else cell for i, cell in enumerate(row)] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(header, *rows, strict=True)]
    fixed = sum(widths[:n_fixed]) + len(GAP) * n_fixed
    blocks: list[list[int]] = [[]]
    used = fixed
    for column in range(n_fixed, len(header)):
        if blocks[-1] and used + widths[column] > width:
            blocks.append([])
            used = fixed
        blocks[-1].append(column)
        used += widths[column] + len(GAP)
    return "\n\n".join(
        "\n".join(_line(cells, [*range(n_fixed), *block], widths) for cells in (header, *rows))
        for block in blocks
    )


def _line(cells: Sequence[str], columns: Sequence[int], widths: Sequence[int]) -> str:
    padded = (cells[i] + " " * (widths[i] - display_width(cells[i])) for i in columns)
    return GAP.join(padded).rstrip()


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False))
