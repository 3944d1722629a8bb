"""Places that owners share and wait for, in one event loop: `Shares` with a queue for each owner."""

from asyncio import CancelledError, Future, get_running_loop
from collections import deque

from swarmstream.shares import Owner, Shares


class Places:
    """A number of places, and the owners that wait for one."""

    def __init__(self, total: int) -> None:
        self._shares = Shares(total)
        self._waiting: dict[Owner, deque[Future[None]]] = {}

    async def take(self, owner: Owner) -> None:
        """Wait for a place. The calls of one owner are served in their order."""
        if self._shares.take(owner):
            return
        granted = get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(granted)
        try:
            await granted
        except CancelledError:
            if granted.cancelled():
                self._forget(owner, granted)
            else:
                self.give_back(owner)
            raise

    def give_back(self, owner: Owner) -> None:
        """Free a place, and hand it to the waiting owner that holds the fewest."""
        self._shares.give_back(owner.name)
        # In this order a long queue of one owner does not delay the others.
        for waiting in sorted(self._waiting, key=lambda waiting: self._shares.held(waiting.name)):
            if self._shares.take(waiting):
                granted = self._waiting[waiting][0]
                self._forget(waiting, granted)
                granted.set_result(None)
                break

    def _forget(self, owner: Owner, waiter: Future[None]) -> None:
        self._waiting[owner].remove(waiter)
        if not self._waiting[owner]:
            del self._waiting[owner]
