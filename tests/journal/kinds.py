"""The kinds of journals, opened for a test, and what one process after another does with a durable one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from swarmstream.journal.base import NO_CALLBACKS, InterruptedRun, Journal, Log, RunCallbacks
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import Entry
from swarmstream.journal.sqlite.journal import SqliteJournal
from tests.journal.sample_runs import read_all


@asynccontextmanager
async def memory_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    journal = MemoryJournal(retain_seconds=retain_seconds, retain_bytes=retain_bytes)
    yield journal
    await journal.close()


@asynccontextmanager
async def sqlite_journal(*, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
    with TemporaryDirectory() as folder:
        place = SqlitePlace(Path(folder) / "store")
        async with place.opened(retain_seconds=retain_seconds, retain_bytes=retain_bytes) as journal:
            yield journal


class SqlitePlace:
    """A data directory that one process after another opens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def opened(self, *, retain_seconds: float = 60, retain_bytes: int = 1 << 20) -> AsyncGenerator[Journal]:
        """Open it as a process does that believes to be the only one, whether or not that is so."""
        (self._folder / "lock").unlink(missing_ok=True)
        journal = SqliteJournal(self._folder, retain_seconds=retain_seconds, retain_bytes=retain_bytes)
        await journal.open()
        yield journal
        await journal.close()


@dataclass
class Process:
    """A process that has opened the place, with the interrupted runs that it found, loaded."""

    journal: Journal
    found: Sequence[InterruptedRun]
    entries: Sequence[list[Entry]]

    async def events(self, job_id: str = "run-1", after: int = 0) -> list[Entry]:
        return await read_all(await self.journal.open_cursor(job_id, after=after))

    def resume(self, callbacks: RunCallbacks = NO_CALLBACKS) -> Log:
        """Resume the only run that was found."""
        [found] = self.found
        return found.resume(callbacks)


@asynccontextmanager
async def serving_process(place: SqlitePlace) -> AsyncGenerator[Process]:
    async with place.opened() as journal:
        assert journal.is_durable
        found = await journal.claim_interrupted()
        yield Process(journal, found, [list((await run.load())[1]) for run in found])
