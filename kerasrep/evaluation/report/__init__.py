"""What people read after an evaluation: tables, files, figures, a page, TensorBoard.

Reading order: `overview` (what the evaluations say together) -> `wording` (how numbers are written) ->
`table` (terminal), `files` (JSON, CSV), `drawing`, `bars`, `confusion` (figures), `markup`, `style`, `page`
(HTML), `event_files` (TensorBoard).
"""

from __future__ import annotations

from kerasrep.evaluation.report.table import terminal_report
from kerasrep.evaluation.report.writing import write_report

__all__ = ["terminal_report", "write_report"]
