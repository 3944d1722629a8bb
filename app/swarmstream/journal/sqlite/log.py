"""The writing end of a run in a data directory."""

from swarmstream.events import Event, RunEnded
from swarmstream.journal.sqlite.live import LiveRun
from swarmstream.journal.sqlite.live_runs import LiveRuns


class SqliteLog:
    """A live run's log, written in batches."""

    def __init__(self, runs: LiveRuns, live: LiveRun) -> None:
        self._runs = runs
        self._group = runs.group
        self._live = live

    def append(self, event: Event) -> int:
        return self._group.append(self._live, event)

    def append_hidden(self, event: Event) -> int:
        return self._group.append_hidden(self._live, event)

    async def commit(self, event: Event) -> int:
        if isinstance(event, RunEnded):
            return await self._runs.end(self._live, event)
        number = self._group.append_hidden(self._live, event)
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
