"""The event loop's side of the thread that writes a data directory."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyio import to_thread
from anyio.lowlevel import cancel_shielded_checkpoint

from swarmstream.clock import Clock, Timer
from swarmstream.journal.sqlite.file.store import Store
from swarmstream.journal.sqlite.write_task import WriteTask, nothing
from swarmstream.journal.sqlite.writing_thread import WritingThread

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Writer:
    """Hands tasks to the writing thread, and lets it try again each second while it fails."""

    def __init__(self, folder: Path, clock: Clock, on_failure: Callable[[], None]) -> None:
        """`on_failure` is called each time that writing begins to fail."""
        self._clock = clock
        self._on_failure = on_failure
        self._thread = WritingThread(folder, self._on_health)
        self._retry_timer: Timer | None = None

    @property
    def is_healthy(self) -> bool:
        """True unless the last thing could not be written."""
        return self._thread.is_healthy

    @property
    def has_started(self) -> bool:
        return self._thread.ident is not None

    def start(self) -> None:
        """Start the thread, which reports to the running event loop."""
        self._thread.start()

    async def stop(self) -> None:
        """Write what is left, as far as it can be, and end the thread."""
        self._stop_retrying()
        if self._thread.is_alive():
            self._thread.queue.put(None)
            await to_thread.run_sync(self._thread.join)
            await cancel_shielded_checkpoint()  # for what the thread reported last

    def set_epoch(self, epoch: int) -> None:
        """Write from now on only as long as the file has this epoch."""
        self._thread.epoch = epoch

    def put(self, task: WriteTask) -> None:
        """Let a task be written, behind those that were put before."""
        self._thread.queue.put(task)

    async def write(
        self,
        write: Callable[[Store], object],
        *,
        is_retried: bool = False,
        outlives_host: bool = False,
        done: Callable[[], object] = nothing,
    ) -> None:
        """Return once something is written.

        Raises:
            StorageUnavailable: it cannot be written at present.
        """
        written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.put(WriteTask(write, [written], is_retried, outlives_host=outlives_host, done=done))
        await written

    def _on_health(self, is_healthy: bool) -> None:
        if is_healthy:
            logger.info("the data directory can be written again")
            return
        self._stop_retrying()
        self._retry_timer = self._clock.call_later(RETRY_SECONDS, self._retry)
        self._on_failure()

    def _retry(self) -> None:
        if not self.is_healthy:
            self.put(WriteTask(lambda _: None))
            self._retry_timer = self._clock.call_later(RETRY_SECONDS, self._retry)

    def _stop_retrying(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
