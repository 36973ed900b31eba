"""A Parquet table that is written while its files are embedded: of each once all files before it are done."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kerasrep.embedding.catalogue import writing
from kerasrep.embedding.catalogue.layout import About, Layout
from kerasrep.embedding.catalogue.listing import POLL_SECONDS, Earlier, Listing
from kerasrep.embedding.catalogue.writing import Block
from kerasrep.storage.run_directory import atomic_file


class EarlyTable:
    """Written in a thread under a temporary name; there once `finish` is called within its context.

    Args:
        output: The table.
        earlier: Whose rows that stay come first.
        listing: The files.
        layout: Of the rows.
        about: What they were made with.
    """

    def __init__(
        self, output: Path, earlier: Earlier, listing: Listing, layout: Layout, about: About
    ) -> None:
        self._output, self._earlier, self._listing = output, earlier, listing
        self._layout, self._about = layout, about
        self._ended, self._finished, self._wanted = threading.Event(), False, True

    def __enter__(self) -> EarlyTable:
        """Begin to write."""
        self._thread = ThreadPoolExecutor(1, "table")
        self._written = self._thread.submit(self._write)
        return self

    def __exit__(self, *_: object) -> None:
        """Without `finish` there is no table."""
        if not self._finished:
            self._wanted = False
            self._end()
        self._thread.shutdown()

    def finish(self) -> None:
        """No file is waited for any longer; wait until the table is written.

        Where it could not be, such as for want of room at that time, it is written once more.

        Raises:
            DataError: Where a part was damaged meanwhile.
            OSError: Where the table cannot be written.
        """
        self._end()
        if self._written.exception() is not None:
            self._write()
        self._finished = True

    def _end(self) -> None:
        self._ended.set()
        self._listing.look_again()

    def _write(self) -> None:
        with contextlib.suppress(_NotWantedError), atomic_file(self._output) as temporary:
            writing.write_parquet(temporary, writing.one_ahead(self._blocks()), self._layout, self._about)

    def _blocks(self) -> Iterator[Block]:
        rows = self._listing.rows(self._layout.hop_seconds, self._has_ended)
        everything = itertools.chain(self._earlier.rows(), rows, self._wait())
        for block in writing.blocks_of(everything, self._layout.dimension):
            if not self._wanted:
                raise _NotWantedError
            yield block
        if not self._wanted:
            raise _NotWantedError

    def _has_ended(self) -> bool:
        """Whether no file is waited for, also because the process ends, by an interrupt at any point."""
        if not threading.main_thread().is_alive():
            raise _NotWantedError
        return self._ended.is_set()

    def _wait(self) -> Iterator[Block]:
        """The table is not there before all else is."""
        while not self._has_ended():
            self._ended.wait(POLL_SECONDS)
        yield from ()


class _NotWantedError(Exception):
    """The work ended without it."""
