"""Runs by their ids, as the API reaches them: one owner's, live or stored."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from swarmstream.clock import Clock, time_limit
from swarmstream.events import RunEnded
from swarmstream.journal.base import HandedOver, Journal
from swarmstream.journal.records import Page, RunState, RunStatus
from swarmstream.runs.presence import Reading


class OwnedRuns:
    """The runs of one owner. Whoever has another's id of a run learns as much as of an id that does not exist.

    All methods that take a `job_id` raise `NotFound` where the owner has no such run, or no longer, and
    `StorageUnavailable` where the journal cannot be read or written.
    """

    def __init__(
        self,
        owner: str,
        journal: Journal,
        presence: Callable[[str], Callable[[], AbstractContextManager[None]]],
        clock: Clock,
    ) -> None:
        """`presence` returns, for a run's id, the context that a reader of the run enters while it is connected."""
        self._owner = owner
        self._journal = journal
        self._presence = presence
        self._clock = clock

    async def status(self, job_id: str) -> RunStatus:
        """Return how a run stands now."""
        return await self._journal.status(job_id, owner=self._owner)

    async def list(self, *, state: RunState | None = None, limit: int = 20, after: str | None = None) -> Page:
        """Return the newest runs, or those behind the run `after`.

        Raises:
            NotFound: the owner has no run `after`.
        """
        return await self._journal.list(self._owner, state=state, limit=limit, after=after)

    async def read(self, job_id: str, *, after: int = 0) -> Reading:
        """Open a run behind the event numbered `after`. The id is one that `status` has accepted, or of a run just
        begun: this does not ask for its owner again."""
        return Reading(await self._journal.open_cursor(job_id, after=after), self._presence(job_id))

    async def cancel(self, job_id: str, *, wait_seconds: float) -> None:
        """Ask for a run to be cancelled, and wait for its end so long at most. One that has ended stays as it is."""
        await self.status(job_id)
        await self._journal.cancel(job_id)
        with time_limit(self._clock, wait_seconds):
            cursor = await self._journal.open_cursor(job_id)
            with suppress(HandedOver):  # the server stops: the next process knows of the request
                while not any(isinstance(event, RunEnded) for _, event in await cursor.read()):
                    pass

    async def delete(self, job_id: str) -> None:
        """Forget a finished run.

        Raises:
            StillRunning: it has not ended.
        """
        await self.status(job_id)
        await self._journal.delete(job_id)

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        """Remember that a stream token with this digest has connected to the run."""
        await self._journal.admit_token(job_id, digest)

    async def has_admitted_token(self, job_id: str, digest: bytes) -> bool:
        """Tell whether a stream token with this digest has connected to the run."""
        return await self._journal.has_admitted_token(job_id, digest)
