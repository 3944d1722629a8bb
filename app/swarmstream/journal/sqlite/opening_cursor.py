"""The cursor that readers get of a data directory that cannot be read yet."""

from collections.abc import Sequence

import anyio

from swarmstream.journal.base import HandedOver
from swarmstream.journal.records import Entry


class OpeningCursor:
    """Waits until the journal is open, and then raises `HandedOver`: its reader comes again."""

    first_available: int | None = None

    def __init__(self, is_open: anyio.Event) -> None:
        self._is_open = is_open
        self._woken = anyio.Event()

    async def read(self) -> Sequence[Entry]:
        async with anyio.create_task_group() as tasks:
            for event in (self._is_open, self._woken):
                tasks.start_soon(self._cancel_after, event, tasks.cancel_scope)
        if self._is_open.is_set():
            raise HandedOver
        self._woken = anyio.Event()
        return ()

    def read_nowait(self) -> Sequence[Entry]:
        return ()

    def wake(self) -> None:
        self._woken.set()

    async def _cancel_after(self, event: anyio.Event, scope: anyio.CancelScope) -> None:
        await event.wait()
        scope.cancel()
