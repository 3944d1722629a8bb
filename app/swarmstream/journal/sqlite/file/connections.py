"""The connections to a data directory's file.

What the PRAGMAs of the writing connection keep:

- `journal_mode = WAL`: readers see the last commit while the writer writes. The WAL is folded into the file by a
  checkpoint about every 4 MB.
- `synchronous = NORMAL`: the file is synced at checkpoints only. A process that is killed loses nothing that was
  committed; a host that loses its power may lose what came after the last checkpoint. `FULL` for the transactions that
  are to outlive the host.
- `secure_delete`: deleted bytes are overwritten with zeros. They are gone from the file after the next checkpoint and
  from the WAL once that is truncated: at once after a `DELETE`, else within a minute.
- `journal_size_limit`: a WAL that has grown is cut to this at the next checkpoint that begins it anew.
- `auto_vacuum = INCREMENTAL`: free pages can be given back to the disk in small steps. Files of older releases get it
  by `vacuum`.
- `cell_size_check`: pages are checked when they are read, so that a damaged one is an error and no wrong answer.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from swarmstream.journal.sqlite.data_directory import FILE, prepare
from swarmstream.journal.sqlite.file.schema import migrate
from swarmstream.journal.sqlite.file.space import BUSY_SECONDS

_WAL_BYTES = 16 * 1024 * 1024


class Connections:
    """One thread's connections to the file: two for a writer, one for a reader."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        """Open them; a writer makes the directory and the tables.

        Raises:
            OSError, sqlite3.Error: that cannot be done.
        """
        if writes:
            prepare(folder)
        self.main = _connect(folder, "rw" if writes else "ro")
        """The connection of the transactions."""
        try:
            if writes:
                _configure(self.main)
                migrate(self.main)
            self.committed = _connect(folder, "ro") if writes else self.main
            """For rows that may be damaged: a transaction that meets damage can write nothing any more."""
        except BaseException:
            self.main.close()
            raise

    def close(self) -> None:
        self.committed.close()
        self.main.close()

    @contextmanager
    def transaction(self, *, outlives_host: bool) -> Generator[None]:
        """Commit all that the block does, or nothing. With `outlives_host` it is on the disk when the block is over,
        and all before it; else it is with the operating system."""
        if outlives_host:
            self.main.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                yield
        finally:
            if outlives_host:
                self.main.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self.main.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.main.execute("COMMIT")
        except BaseException:
            if self.main.in_transaction:
                self.main.execute("ROLLBACK")
            raise


def _connect(folder: Path, mode: str) -> sqlite3.Connection:
    uri = f"{(folder / FILE).absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is a table, or never
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
