"""What people read after an evaluation: tables, files, figures, a page, TensorBoard.

Reading order: `overview` (what the evaluations say together) -> `tables` -> `terminal`, `bars`, `confusion`
(figures), `page` (HTML), `files` (JSON, CSV, TensorBoard) -> `writing` (all of it).
"""

from __future__ import annotations

from kerasrep.evaluation.report.terminal import terminal_report
from kerasrep.evaluation.report.writing import write_report

__all__ = ["terminal_report", "write_report"]
