"""The thread that writes a data directory: everything in order, in as few transactions as it can."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from swarmstream.errors import StorageUnavailable
from swarmstream.journal.codec import Noted
from swarmstream.journal.event_log import nothing
from swarmstream.journal.sqlite.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Something to write."""

    write: Callable[[Store], object]
    waiting: Sequence[asyncio.Future[Any]] = ()
    """Resolved in the event loop."""
    is_tried_again: bool = False
    """Whether it is kept, should it fail, until it succeeds."""
    is_look: bool = False
    """Whether it only looks, and is to wait for no other program's transaction."""
    outlives_host: bool = False
    """Whether it is to be on the disk when it is said to be done."""
    done: Callable[[], object] = nothing
    """Called in the event loop once it has succeeded, before whoever waits for it goes on."""
    alone: tuple[int, Sequence[Noted]] | None = None
    """The batch, where it is all that there is to write."""


class Writer(threading.Thread):
    """Does all writing, in order; what has gathered while it wrote is its next transaction."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop, on_health: Callable[[bool], None]) -> None:
        super().__init__(name="journal", daemon=True)
        self.is_healthy = True
        self.epoch: int | None = None
        """Whose writes these are: where the file has another number, they come too late."""
        self._folder = folder
        self._loop = loop
        self._on_health = on_health
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._store: Store | None = None
        self._kept: list[Task] = []
        """Tasks that have failed and are tried again."""

    def put(self, task: Task) -> None:
        self._queue.put(task)

    def stop(self) -> None:
        """Write what is left, and end."""
        self._queue.put(None)
        self.join()

    def try_again(self) -> None:
        """Try what has failed once more."""
        self._queue.put(Task(lambda _: None))

    def run(self) -> None:
        is_last = False
        while not is_last:
            gathered: list[Task | None] = [self._queue.get()]
            with suppress(Empty):
                while True:
                    gathered.append(self._queue.get_nowait())
            is_last = None in gathered
            tasks = [*self._kept, *(task for task in gathered if task is not None)]
            if tasks or not self.is_healthy:
                self._do(tasks)
        if self._store is not None:
            self._store.close()

    def _do(self, tasks: list[Task]) -> None:
        try:
            store = self._store = self._store or Store(self._folder, writes=True)
            if self._wrote_alone(store, tasks):
                return
            self._write(store, tasks)
        except (sqlite3.Error, OSError) as error:
            self._fail(tasks, error)
            return
        except Exception:
            logger.exception("a bug of ours: something cannot be written")
            self._do_one_by_one(tasks)
            return
        self._kept = []
        self._tell(tasks, None)
        if not self.is_healthy:
            self.is_healthy = True
            self._call(self._on_health, True)

    def _write(self, store: Store, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.is_look:
                task.write(store)
        writing = [task for task in tasks if not task.is_look]
        if not writing and self.is_healthy:
            return
        with store.transaction(outlives_host=any(task.outlives_host for task in writing)):
            if self.epoch is not None:
                store.check_epoch(self.epoch)
            if not self.is_healthy:
                store.probe()
            for task in writing:
                task.write(store)
        try:
            store.space.settle()
        except (sqlite3.Error, OSError) as error:  # it is written all the same
            logger.warning("the data directory cannot be tidied at present: %s", error)

    def _do_one_by_one(self, tasks: list[Task]) -> None:
        """Do what can be done, and drop what cannot for a reason that will not pass: one bug stops the runs that go on,
        and not the server."""
        self._kept = []
        self._call(self._on_health, False)
        for place, task in enumerate(tasks):
            try:
                assert self._store is not None
                self._write(self._store, [task])
            except (sqlite3.Error, OSError) as error:
                self._fail(tasks[place:], error)
                return
            except Exception as error:
                logger.exception("a bug of ours: this cannot be written, and is dropped")
                self._tell([task], error)
            else:
                self._tell([task], None)
        self.is_healthy = True
        self._call(self._on_health, True)

    def _wrote_alone(self, store: Store, tasks: list[Task]) -> bool:
        """Whether all there was to do was to write a batch, and that is done."""
        [task, *others] = tasks or [None]
        if task is None or others or task.alone is None or not self.is_healthy or self.epoch is None:
            return False
        batch, events = task.alone
        if not store.add_batch_alone(batch, events, self.epoch):
            return False  # the longer way tells why
        self._tell(tasks, None)
        return True

    def _fail(self, tasks: list[Task], error: Exception) -> None:
        self._kept = [replace(task, waiting=()) for task in tasks if task.is_tried_again]
        if self.is_healthy:
            self.is_healthy = False
            logger.error("the data directory cannot be written: %s", error)
            self._call(self._on_health, False)
        self._tell(tasks, error)

    def _tell(self, tasks: list[Task], error: Exception | None) -> None:
        done = [task.done for task in tasks if task.done is not nothing] if error is None else []
        waiting = [future for task in tasks for future in task.waiting]
        if done or waiting:
            self._call(_finish, done, waiting, error)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
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
        except Exception:  # whose bug it is must not keep the others from hearing
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
