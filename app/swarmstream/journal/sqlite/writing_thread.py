"""The thread that writes a data directory, in as few transactions as it can.

Theory of operation. The thread takes all tasks that have gathered while it wrote, and writes them in one transaction.

| the transaction | its tasks | the thread |
|---|---|---|
| succeeds | are done | is healthy |
| fails as a file or a disk does | fail; those to be retried are kept, in order | is unhealthy until a retry succeeds |
| fails by a bug | are written one by one; the one that fails is dropped | is healthy again after them |
| finds a later epoch | fail, as where a disk does | stays unhealthy: the directory is another process's |

Kept tasks go before new ones, so that a run's events are never written behind its end. A retry begins with a probe: a
write to a file that has been removed succeeds, and is lost. Without dropping what a bug keeps from being written, one
run would stop all others.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from swarmstream.errors import StorageUnavailable
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.write_task import WriteTask, nothing

logger = logging.getLogger(__name__)


class WritingThread(threading.Thread):
    """Writes what is put into its queue, until None is."""

    def __init__(self, folder: Path, on_health: Callable[[bool], None]) -> None:
        """`on_health` is called in the event loop when writing begins to fail (False), or to succeed again (True)."""
        super().__init__(name="journal", daemon=True)
        self.queue: SimpleQueue[WriteTask | None] = SimpleQueue()
        self.is_healthy = True
        self.epoch: int | None = None
        """This process's epoch: a file with a later one is another process's, and is not written."""
        self._folder = folder
        self._on_health = on_health
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: Store | None = None
        self._kept: list[WriteTask] = []
        """Tasks that have failed and are tried again."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        super().start()

    def run(self) -> None:
        is_last = False
        while not is_last:
            gathered: list[WriteTask | None] = [self.queue.get()]
            with suppress(Empty):
                while True:
                    gathered.append(self.queue.get_nowait())
            is_last = None in gathered
            tasks = [*self._kept, *(task for task in gathered if task is not None)]
            if tasks or not self.is_healthy:
                self._write_all(tasks)
        if self._store is not None:
            self._store.close()

    def _write_all(self, tasks: list[WriteTask]) -> None:
        try:
            store = self._store = self._store or Store(self._folder, writes=True)
            if self._write_single_batch(store, tasks):
                return
            self._write_together(store, tasks)
        except (sqlite3.Error, OSError) as error:
            self._fail(tasks, error)
            return
        except Exception:
            logger.exception("a bug of ours: something cannot be written")
            self._write_one_by_one(tasks)
            return
        self._kept = []
        self._report(tasks, None)
        if not self.is_healthy:
            self.is_healthy = True
            self._call(self._on_health, True)

    def _write_together(self, store: Store, tasks: Sequence[WriteTask]) -> None:
        """Write the tasks in one transaction."""
        for task in tasks:
            if task.is_check:
                task.write(store)
        writing = [task for task in tasks if not task.is_check]
        if not writing and self.is_healthy:
            return
        with store.transaction(outlives_host=any(task.outlives_host for task in writing)):
            if self.epoch is not None:
                store.epoch.check(self.epoch)
            if not self.is_healthy:
                store.probe()
            for task in writing:
                task.write(store)
        try:
            store.space.settle()
        except (sqlite3.Error, OSError) as error:  # it is written all the same
            logger.warning("the data directory cannot be tidied at present: %s", error)

    def _write_one_by_one(self, tasks: list[WriteTask]) -> None:
        """Write each task in a transaction of its own, and drop those that fail for a reason that will not pass."""
        self._kept = []
        self._call(self._on_health, False)
        for place, task in enumerate(tasks):
            try:
                assert self._store is not None
                self._write_together(self._store, [task])
            except (sqlite3.Error, OSError) as error:
                self._fail(tasks[place:], error)
                return
            except Exception as error:
                logger.exception("a bug of ours: this cannot be written, and is dropped")
                self._report([task], error)
            else:
                self._report([task], None)
        self.is_healthy = True
        self._call(self._on_health, True)

    def _write_single_batch(self, store: Store, tasks: list[WriteTask]) -> bool:
        """Write the tasks if they are one batch and nothing else; returns False if they are not, or it failed."""
        [task, *others] = tasks or [None]
        if task is None or others or task.batch is None or not self.is_healthy or self.epoch is None:
            return False
        batch, events = task.batch
        if not store.batches.add_alone(batch, events, self.epoch):
            return False  # the longer way reports the reason
        self._report(tasks, None)
        return True

    def _fail(self, tasks: list[WriteTask], error: Exception) -> None:
        self._kept = [replace(task, waiting=()) for task in tasks if task.is_retried]
        if self.is_healthy:
            self.is_healthy = False
            logger.error("the data directory cannot be written: %s", error)
            self._call(self._on_health, False)
        self._report(tasks, error)

    def _report(self, tasks: list[WriteTask], error: Exception | None) -> None:
        """Report in the event loop that the tasks were written, or why they were not."""
        done = [task.done for task in tasks if task.done is not nothing] if error is None else []
        waiting = [future for task in tasks for future in task.waiting]
        if done or waiting:
            self._call(_finish, done, waiting, error)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            logger.debug("nobody waits for the journal any more")


def _finish(
    done: Sequence[Callable[[], object]], waiting: Sequence[asyncio.Future[Any]], error: Exception | None
) -> None:
    for finish in done:
        try:
            finish()
        except Exception:  # one callback's bug is not to keep the others from being called
            logger.exception("a bug of ours, after something was written")
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            failure = StorageUnavailable("what happens can no longer be written down", retry_after_seconds=1)
            failure.__cause__ = error
            future.set_exception(failure)
