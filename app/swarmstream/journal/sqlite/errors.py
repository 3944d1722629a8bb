"""Errors of SQLite that are about one row, told from those that are about the file or the moment."""

import sqlite3

from swarmstream.journal.checksums import Damaged


def as_damage(error: sqlite3.DatabaseError) -> Damaged:
    """What the error says of the row that was read.

    Raises:
        sqlite3.DatabaseError: it is about no row, and may be over the next time.
    """
    code = getattr(error, "sqlite_errorcode", None)  # without one it is text that is no UTF-8
    if code is not None and code & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise error
    return Damaged(str(error))
