"""What the command prints: sentences and tables as plain text, as wide as the terminal allows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from kerasrep.evaluation.base import Comparison, Evaluation
from kerasrep.evaluation.report.overview import (
    findings,
    overview_of,
    pair_sentences,
    sensitivity_sentences,
    win_sentences,
)
from kerasrep.evaluation.report.tables import comparison_table, data_lines, detail_tables, score_table
from kerasrep.report.table import Table


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
