"""A copy of a data directory's runs in one file, made while a server may be writing to them.

The copy is one read transaction (SQLite's backup API, all pages in one step): it holds what had been committed when it
began, and no writer waits for it. Meanwhile the WAL grows by what is written. It is made under another name, checked
page by page, flushed to the disk and only then given its own name, so that a file of that name is a whole backup.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.file.space import BUSY_SECONDS
from swarmstream.journal.sqlite.vacuum import NoRuns


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied."""

    size_bytes: int
    runs: int
    live: int
    """How many of them had not ended."""


class DamagedRuns(Exception):
    """What was read is no sound database. The text is for the operator."""


def back_up(folder: Path, target: Path) -> Backup:
    """Copy the runs of a data directory to a file that is for its owner only.

    Raises:
        NoRuns: there is nothing to copy.
        FileExistsError: there is such a file already.
        DamagedRuns: what the directory holds is damaged.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    if not (folder / FILE).is_file():
        raise NoRuns(f"there are no runs in {folder}")
    _refuse_existing(target)
    descriptor, new = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # 0600
    os.close(descriptor)
    try:
        runs, live = _copy(folder, Path(new))
        _flush(Path(new))
        _name(new, target)
    finally:
        Path(new).unlink(missing_ok=True)
    _flush(target.parent)
    return Backup(target.stat().st_size, runs, live)


def _copy(folder: Path, file: Path) -> tuple[int, int]:
    """Copy and check; how many runs there are, and how many that have not ended."""
    with closing(sqlite3.connect(file, isolation_level=None)) as copy:
        uri = f"{(folder / FILE).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as source:
            copy.execute("PRAGMA journal_mode = OFF").fetchone()  # a copy that fails is thrown away whole
            source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file: nothing of it may stand beside it
        [found] = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise DamagedRuns(f"{folder / FILE} is damaged: {found}")
        return copy.execute("SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM runs").fetchone()


def _name(new: str, target: Path) -> None:
    try:
        os.link(new, target)  # unlike a rename, it replaces nothing
    except FileExistsError:
        _refuse_existing(target)
    except OSError:  # a file system without links
        _refuse_existing(target)
        os.rename(new, target)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already")


def _flush(path: Path) -> None:
    """Have it on the disk, a file's content or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
