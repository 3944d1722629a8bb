"""The taking over of a data directory by a new process."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmstream.journal.base import DirectoryInUse
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.data_directory import take_lock
from swarmstream.journal.sqlite.file.interrupted import StoredInterruptedRun
from swarmstream.journal.sqlite.file.store import Store


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a process finds in the directory that it has taken over."""

    epoch: int
    last_run: int
    last_batch: int
    interrupted: Sequence[StoredInterruptedRun]
    idempotency_keys: Sequence[tuple[IdempotencyKey, str]]
    """With the ids of their runs."""
    finished_bytes: int
    last_end: float | None
    """The Unix time at which the last finished run ended."""


class DirectoryLock:
    """The lock of a data directory, which one process has at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, unless that was done.

        Raises:
            DirectoryInUse: another process has it.
            OSError: there can be none.
        """
        if self._descriptor is None:
            self._descriptor = take_lock(self._folder)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def take_over(store: Store, lock: DirectoryLock, unix_seconds: float) -> Takeover:
    """Begin a new epoch in a directory, claim its interrupted runs, and return what is there.

    Raises:
        OSError, sqlite3.Error: that cannot be done, for example because another process has the directory.
    """
    try:
        lock.take()
    except DirectoryInUse as error:
        raise OSError(str(error)) from error
    epoch = store.epoch.begin()
    interrupted = store.interrupted.claim(unix_seconds)
    last_run, last_batch = store.runs.last_number(), store.batches.last_number()
    keys = store.idempotency_keys.all()
    return Takeover(epoch, last_run, last_batch, interrupted, keys, *store.retention.totals())
