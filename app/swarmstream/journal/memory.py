"""A journal in this process's memory: finished runs stay for a while, within a number of bytes."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pydantic_core import to_json

from swarmstream.clock import SYSTEM_CLOCK, Clock, Timer
from swarmstream.errors import NotFound, StillRunning
from swarmstream.events import (
    CustomEvent,
    Event,
    ReasoningDelta,
    RunEnded,
    TextDelta,
    ToolEnded,
    ToolStarted,
    TurnEnded,
)
from swarmstream.journal.base import Cursor, InterruptedRun, Log, RunCallbacks
from swarmstream.journal.blanking import blank
from swarmstream.journal.event_log import EventLog
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.records import MAX_ADMITTED, IdempotencyKey, Page, RunRecord, RunState, RunStatus

_EVENT_BYTES = 200
"""About what an event takes beside its text."""


class _MemoryLog:
    """The writing end of a log; everything is committed at once."""

    def __init__(self, log: EventLog, ended: Callable[[EventLog], None], discard: Callable[[], None]) -> None:
        self._log = log
        self._ended = ended
        self.append = self.append_hidden = log.append
        self.discard = discard

    async def commit(self, event: Event) -> int:
        if not isinstance(event, RunEnded):
            return self._log.append(event)
        number = self._log.append_end(event)
        self._ended(self._log)
        return number

    async def flush(self) -> None:
        pass

    async def hand_over(self) -> None:
        raise RuntimeError("a run in memory does not survive its process")


class MemoryJournal:
    """A journal that keeps live runs without limit, finished ones for `retain_seconds` and within `retain_bytes`.

    Beyond these bytes the oldest finished run of the owner that has most is forgotten first. With
    `retain_seconds=math.inf` all runs stay as long as the journal.
    """

    is_durable = False
    is_open = True
    is_healthy = True

    def __init__(self, *, retain_seconds: float, retain_bytes: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._retain_seconds = retain_seconds
        self._logs: dict[str, EventLog] = {}
        """In the order in which they were begun."""
        self._idempotency = IdempotencyIndex(clock)
        self._admitted: dict[str, dict[bytes, None]] = {}
        """The digests of the stream tokens that have connected, by run, the oldest first."""
        self._finished = _FinishedRuns(retain_bytes)

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self._finished.clear()
        self._logs.clear()
        self._admitted.clear()

    def check_idempotency_key(self, idempotency_key: IdempotencyKey | None) -> None:
        self._idempotency.check(idempotency_key)

    async def submit(self, record: RunRecord, callbacks: RunCallbacks) -> Log:
        self._idempotency.add(record.idempotency_key, record.job_id)
        log = self._logs[record.job_id] = EventLog(record, callbacks)
        return _MemoryLog(log, self._retain, partial(self._forget, record.job_id))

    async def claim_interrupted(self) -> Sequence[InterruptedRun]:
        return ()

    async def open_cursor(self, job_id: str, *, after: int = 0) -> Cursor:
        return self._log(job_id).open_cursor(after)

    def opening_cursor(self) -> Cursor:
        raise RuntimeError("it is open")

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        log = self._log(job_id)
        if owner not in (None, log.record.owner):
            raise _no_such_run()
        return log.status()

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        logs = [log for log in reversed(self._logs.values()) if log.record.owner == owner]
        if after is not None:
            ids = [log.record.job_id for log in logs]
            if after not in ids:
                raise _no_such_run()
            logs = logs[ids.index(after) + 1 :]
        wanted = [log for log in logs if state is None or log.state == state]
        return Page([log.record.job_id for log in wanted[:limit]], has_more=len(wanted) > limit)

    async def cancel(self, job_id: str) -> None:
        self._log(job_id).callbacks.cancel_requested()

    async def delete(self, job_id: str) -> None:
        if self._log(job_id).state == "running":
            raise StillRunning("the run goes on; cancel it first")
        self._forget(job_id)

    async def trim(self, job_id: str, before: int) -> None:
        self._log(job_id).trim(before)

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        self._log(job_id)
        admitted = self._admitted.setdefault(job_id, {})
        admitted[digest] = None
        if len(admitted) > MAX_ADMITTED:
            del admitted[next(iter(admitted))]

    async def has_admitted_token(self, job_id: str, digest: bytes) -> bool:
        return digest in self._admitted.get(job_id, ())

    def _log(self, job_id: str) -> EventLog:
        try:
            return self._logs[job_id]
        except KeyError:
            raise _no_such_run() from None

    def _retain(self, log: EventLog) -> None:
        """Begin the time for which a finished run is kept."""
        if self._retain_seconds == math.inf:
            return
        log.record = replace(log.record, body=blank(log.record.body))
        job_id = log.record.job_id
        timer = self._clock.call_later(self._retain_seconds, self._forget, job_id)
        self._finished.add(job_id, log.record.owner, _estimated_bytes(log), timer)
        for surplus in self._finished.surplus():
            self._forget(surplus)

    def _forget(self, job_id: str) -> None:
        """Forget a run. Cursors that are open read on: the log goes with the last of them."""
        record = self._logs.pop(job_id).record
        self._finished.remove(job_id, record.owner)
        self._admitted.pop(job_id, None)
        self._idempotency.drop(record.idempotency_key, job_id)


class _FinishedRuns:
    """The bytes and the timers of finished runs, by owner."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._runs: dict[str, OrderedDict[str, tuple[Timer, int]]] = {}
        """The timer that forgets each run, and its bytes, by owner; the oldest first."""
        self._bytes: dict[str, int] = {}
        """By owner."""

    def add(self, job_id: str, owner: str, size: int, timer: Timer) -> None:
        self._runs.setdefault(owner, OrderedDict())[job_id] = (timer, size)
        self._bytes[owner] = self._bytes.get(owner, 0) + size

    def surplus(self) -> list[str]:
        """Return the runs beyond the limit of bytes: each time the oldest of the owner that then has most."""
        if sum(self._bytes.values()) <= self._max_bytes:
            return []
        found: list[str] = []
        left = dict(self._bytes)
        oldest = {owner: iter(runs.items()) for owner, runs in self._runs.items()}
        while sum(left.values()) > self._max_bytes:
            owner = max(left, key=left.__getitem__)
            job_id, (_, size) = next(oldest[owner])
            found.append(job_id)
            left[owner] -= size
        return found

    def remove(self, job_id: str, owner: str) -> None:
        """Remove a run and cancel its timer; does nothing for one that has not ended."""
        runs = self._runs.get(owner)
        if runs is None or (kept := runs.pop(job_id, None)) is None:
            return
        timer, size = kept
        timer.cancel()
        self._bytes[owner] -= size
        if not runs:
            del self._runs[owner], self._bytes[owner]

    def clear(self) -> None:
        """Cancel all timers."""
        for runs in self._runs.values():
            for timer, _ in runs.values():
                timer.cancel()
        self._runs.clear()
        self._bytes.clear()


def _estimated_bytes(log: EventLog) -> int:
    """Return about how many bytes a log takes in memory."""
    size = len(log.record.body) + len(log.entries) * _EVENT_BYTES
    for _, event in log.entries:
        match event:
            case TextDelta() | ReasoningDelta():
                size += len(event.text)
            case TurnEnded() | ToolEnded():
                size += len(event.output)
            case ToolStarted():
                size += len(event.call.arguments)
            case CustomEvent():
                size += len(to_json(event.data))
            case _:
                pass
    return size


def _no_such_run() -> NotFound:
    return NotFound("there is no such run")
