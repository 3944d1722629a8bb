"""The errors of SQLite that concern one row, as damage; others concern the file or the moment."""

import sqlite3

from swarmstream.journal.checksums import Damaged


def as_damage(error: sqlite3.DatabaseError) -> Damaged:
    """Return the damage that an error reports of the row that was read.

    Raises:
        sqlite3.DatabaseError: the error itself, where it concerns no row and may be over the next time.
    """
    code = getattr(error, "sqlite_errorcode", None)  # an error without a code: text that is not UTF-8
    if code is not None and code & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise error
    return Damaged(str(error))
