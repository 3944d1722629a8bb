"""Places that owners share and wait for, in one event loop: those of `Shares`, with a queue."""

from asyncio import CancelledError, Future, get_running_loop
from collections import deque

from swarmstream.shares import Owner, Shares


class Places:
    """So many places, and who waits for one."""

    def __init__(self, total: int) -> None:
        self._shares = Shares(total)
        self._waiting: dict[Owner, deque[Future[None]]] = {}

    async def take(self, owner: Owner) -> None:
        """Wait for a place. Nobody is overtaken: what an owner that waits cannot have, its next call cannot either."""
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
        """Let go of a place, which may be the next one's."""
        self._shares.give_back(owner.name)
        # Who holds least comes first, so that a long queue of one owner's is no wait for the others.
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
