"""The rows of a table that new files are added to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.catalogue.writing import Block, path_text
from kerasrep.embedding.files import BadFile
from kerasrep.errors import RecipeError


class Earlier:
    """What a table has already; it is in memory.

    A file is known by its path as it is written. It is embedded again where it was changed after the table.

    Args:
        table: The table; None where there is none yet.
        written_ns: When it was written.
    """

    def __init__(self, table: Table | None = None, written_ns: int = 0) -> None:
        self._table, self._written_ns = table, written_ns
        self._known = frozenset(table.paths) if table else frozenset()
        self._replaced: set[str] = set()
        self.unchanged = 0

    @classmethod
    def read(cls, output: Path, about: About) -> Earlier:
        """Read what is added to.

        Raises:
            DataError: Where it cannot be read.
            RecipeError: Where it was made with another model or other settings.
        """
        if not output.exists():
            return cls()
        table = read_embeddings(output)
        now, before = about.settings(), table.about.settings() if table.about else {}
        for key, value in now.items():
            if before.get(key) != value:
                raise RecipeError(
                    f"-o {output}: was made with another {key} ({before.get(key)}, now {value}); give the "
                    "same model and settings, or another -o"
                )
        return cls(table, output.stat().st_mtime_ns)

    def left(self, found: Iterable[Path | BadFile]) -> Iterator[Path | BadFile]:
        """What is not in the table as it is now."""
        for one in found:
            path = one.path if isinstance(one, BadFile) else one
            text = path_text(path)
            if text in self._known and isinstance(one, Path) and not self._is_newer(one):
                self.unchanged += 1
                continue
            self._replaced.add(text)
            yield one

    @property
    def n_replaced(self) -> int:
        """Files of the table whose rows do not hold any more."""
        return len(self._known & self._replaced)

    @property
    def n_files(self) -> int:
        """Files whose rows stay."""
        return len(self._known) - self.n_replaced

    def rows(self) -> Iterator[Block]:
        """The rows that stay, in their order."""
        if self._table is None:
            return
        kept = np.array([path not in self._replaced for path in self._table.paths])
        starts, typical, n = self._table.start_seconds, self._table.typical_seconds, int(kept.sum())
        yield Block(
            [path for path, stays in zip(self._table.paths, kept, strict=True) if stays],
            self._table.seconds[kept],
            np.zeros(n) if starts is None else starts[kept],
            self._table.embeddings[kept],
            np.full(n, np.nan) if typical is None else typical[kept],
        )

    def _is_newer(self, path: Path) -> bool:
        try:
            status = path.stat()
        except (OSError, ValueError):
            return True  # decoding says what is wrong
        return max(status.st_mtime_ns, status.st_ctime_ns) >= self._written_ns
