"""The space of a data directory's file: the erasing of deleted bytes, the return of free pages to the disk."""

import sqlite3

BUSY_SECONDS = 5.0
"""The time for which a statement waits for another process that holds the file."""

_BUSY_SECONDS_TO_TRUNCATE = 0.25
"""Short, since a backup that reads at the time may take long; truncating is tried again later."""
_SLACK_PAGES = 1024
"""Free pages that are kept for the next runs; an eighth of the file, if that is more."""
_INCREMENTAL = 2
"""The value of `PRAGMA auto_vacuum` for it."""


class Space:
    """The space of the file that a writing connection has open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.holds_deleted = True
        """True while the WAL may hold deleted bytes; at first those that an earlier process left."""
        self._connection = connection
        self._is_to_truncate = False
        self._pages_to_give_back = 0

    def truncate_soon(self) -> None:
        """Erase deleted bytes from the WAL once this transaction is over."""
        self._is_to_truncate = self.holds_deleted

    def settle(self) -> None:
        """Do what was asked for while the transaction lasted, which is over now."""
        if pages := self._pages_to_give_back:
            self._pages_to_give_back = 0
            # As a script, which is stepped to its end: execute() would stop after the first page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")
        if self._is_to_truncate:
            self._is_to_truncate = False
            self._truncate()

    def _truncate(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS_TO_TRUNCATE * 1000:.0f}")
        try:
            [is_busy, *_] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
        self.holds_deleted = bool(is_busy)

    def give_back_soon(self, pages: int) -> bool:
        """Give so many free pages back to the disk once this transaction is over, but for some slack.

        Returns True if more are left.
        """
        [count], [free], [mode] = (
            self._connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("page_count", "freelist_count", "auto_vacuum")
        )
        excess = free - max(_SLACK_PAGES, count // 8)
        if mode != _INCREMENTAL or excess <= 0:
            return False
        self._pages_to_give_back = min(pages, excess)
        return excess > pages

    def vacuum(self) -> None:
        """Write the whole file anew without free pages; from now on they can be given back in steps."""
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
