"""The writing end of a run in a data directory."""

from functools import partial

from swarmstream.events import Event, RunEnded
from swarmstream.journal.sqlite.live import LiveRun
from swarmstream.journal.sqlite.live_runs import LiveRuns


class SqliteLog:
    """A live run's log, written in batches."""

    def __init__(self, runs: LiveRuns, live: LiveRun) -> None:
        self._runs = runs
        self._group = runs.group
        self._live = live
        self.append = partial(runs.group.append, live)  # called for each token: no frame of its own
        self.append_hidden = partial(runs.group.append_hidden, live)

    async def commit(self, event: Event) -> int:
        if isinstance(event, RunEnded):
            return await self._runs.end(self._live, event)
        number = self.append_hidden(event)
        await self._group.flush()
        return number

    async def flush(self) -> None:
        await self._group.flush()

    def discard(self) -> None:
        self._runs.discard(self._live)

    async def hand_over(self) -> None:
        try:
            await self._group.flush()
        finally:
            self._live.log.hand_over()
