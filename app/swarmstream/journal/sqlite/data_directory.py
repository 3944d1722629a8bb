"""A data directory in the file system: its lock, its permissions, its presence."""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "runs.sqlite3"
WAL = f"{FILE}-wal"

DEV_KEY = "dev-key"
"""The file of the API key of `serve --dev`."""

_LOCK = "lock"
_OTHERS = 0o077


class DirectoryInUse(Exception):
    """Another process serves this data directory. The text is for the operator."""


def take_lock(folder: Path) -> int:
    """Return the descriptor of the directory's lock, which the system releases when the process ends.

    Raises:
        DirectoryInUse: another process has it.
        OSError: there can be none.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise DirectoryInUse(f"another process serves the data directory {folder}") from error
    except OSError:
        os.close(lock)
        raise
    return lock


def prepare(folder: Path) -> None:
    """Make the directory, and the file that SQLite is to fill, for their owner only; so are then the files that SQLite
    puts beside it.

    Raises:
        OSError: that cannot be done.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Only where there is none: closing a descriptor of a file in use would undo SQLite's locks on it.
    with suppress(FileExistsError):
        os.close(os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def warn_of_other_readers(folder: Path) -> None:
    """Log a warning where others than the owner can open the directory, or files in it that hold runs or the key to
    them."""
    files = (FILE, WAL, f"{FILE}-shm", DEV_KEY)
    for paths, mode in (((folder,), 0o700), ([folder / name for name in files], 0o600)):
        if wide := [str(path) for path in paths if path.exists() and path.stat().st_mode & _OTHERS]:
            logger.warning(
                "prompts and answers are open to other users of this machine; to close it: chmod %o %s",
                mode,
                " ".join(wide),
            )


class Presence:
    """The identity of the files that a connection has open: where they are removed, the connection goes on in files
    without a name, and its writes are lost."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / FILE, folder / WAL)
        self._found = [_identity(path) for path in self._paths]

    def check(self) -> None:
        """Check that they are where they were.

        Raises:
            OSError: they are not.
        """
        for path, found in zip(self._paths, self._found, strict=True):
            if _identity(path) != found:
                raise FileNotFoundError(
                    f"{path} has been removed or replaced while it was in use; put it back, or restart the server"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
