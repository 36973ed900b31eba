"""What people read after an evaluation: tables, files, figures, a page, TensorBoard.

Reading order: `overview` (what the evaluations say together) -> `tables` (also as the terminal shows them) ->
`figures` -> `files` (JSON, CSV, TensorBoard) -> `writing` (all of it, and the page).
"""

from __future__ import annotations

from kerasrep.evaluation.report.tables import terminal_report
from kerasrep.evaluation.report.writing import write_report

__all__ = ["terminal_report", "write_report"]
