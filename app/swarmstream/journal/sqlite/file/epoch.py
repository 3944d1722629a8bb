"""The epoch of a data directory: the number of processes that have taken it."""

import sqlite3


class Epoch:
    """`meta.epoch`. A process whose epoch is not the last one has lost its lock, and another process has its runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self) -> int:
        """Begin a new epoch and return it."""
        [epoch] = self._connection.execute(
            "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value"
        ).fetchone()
        return epoch

    def check(self, epoch: int) -> None:
        """Refuse to write for an epoch that is over.

        Raises:
            sqlite3.OperationalError: there is a later one.
        """
        [present] = self._connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        if present != epoch:
            raise sqlite3.OperationalError("another process has taken the data directory over")

    def rewrite(self) -> None:
        """Write the present epoch once more: a write that changes nothing."""
        self._connection.execute("UPDATE meta SET value = value WHERE name = 'epoch'")
