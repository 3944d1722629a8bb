"""The whole file of a data directory written anew, while no server uses it."""

import os
from contextlib import closing
from pathlib import Path

from swarmstream.journal.sqlite.data_directory import FILE, WAL, take_lock
from swarmstream.journal.sqlite.file.store import Store


class NoRuns(Exception):
    """There is no file of runs in the directory. The text is for the operator."""


def vacuumed(folder: Path) -> tuple[int, int]:
    """Vacuum a directory; how many bytes its files took before, and how many they take now.

    Raises:
        NoRuns: there is none.
        DirectoryInUse: a server has it.
        OSError, sqlite3.Error: it cannot be done, for example because the disk is full.
    """
    if not (folder / FILE).is_file():
        raise NoRuns(f"there are no runs in {folder}")
    lock = take_lock(folder)
    try:
        before = _bytes_of(folder)
        with closing(Store(folder, writes=True)) as store:
            with store.transaction():
                store.finished.blank_old()
            store.space.vacuum()
        return before, _bytes_of(folder)
    finally:
        os.close(lock)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / FILE, folder / WAL) if path.exists())
