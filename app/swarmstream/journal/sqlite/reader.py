"""The reading end of a data directory: one connection, used by one thread at a time."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from swarmstream.errors import StorageUnavailable
from swarmstream.journal.sqlite.file.store import Store

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class FileReader:
    """A connection that is opened by the first read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store: Store | None = None
        self._is_closed = False
        self._one_by_one = CapacityLimiter(1)
        """Reads in the order in which they are asked for."""
        self._reading = threading.Lock()

    async def read(self, read: Callable[[Store], ResultT]) -> ResultT:
        """Return what `read` returns, called in a thread.

        Raises:
            StorageUnavailable: the file cannot be read.
        """
        try:
            return await to_thread.run_sync(self._read, read, limiter=self._one_by_one)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: from a damaged schema's text
            logger.warning("the data directory cannot be read: %s", error)
            raise StorageUnavailable("what is stored cannot be read at present", retry_after_seconds=1) from error

    def close(self) -> None:
        """Close the file; reads fail from now on."""
        with self._reading:
            self._is_closed = True
            if self._store is not None:
                self._store.close()
                self._store = None

    def _read(self, read: Callable[[Store], ResultT]) -> ResultT:
        with self._reading:
            if self._is_closed:
                raise OSError("it has been closed")
            if self._store is None:
                self._store = Store(self._folder, writes=False)
            return read(self._store)
