"""Where runs are written down and read again: the port, which every kind of storage implements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from swarmstream.events import EndStatus, Event, RunDescribed, RunKind
from swarmstream.journal.summary import Summary

MAX_ADMITTED = 64
"""Stream tokens of one run that are remembered to have connected."""

RunState: TypeAlias = Literal["running"] | EndStatus
Entry: TypeAlias = tuple[int, Event]
"""An event with its sequence number: from 1, ascending, gapless but for one jump where a run was recovered."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What an `Idempotency-Key` says: whoever sends the same one again means the same run."""

    key: str
    """A digest of the key, its owner and its route."""
    body: str
    """A digest of the body that came with it."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run before it begins."""

    job_id: str
    owner: str
    """Whose run this is: a digest of the key that posted it, never the key."""
    kind: RunKind
    created_at: datetime
    include_output: bool = True
    """How its reader wanted the stream to be written; later readers get the same unless they say otherwise."""
    coalesce_ms: int = 0
    request_id: str = ""
    traceparent: str | None = None
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    body: bytes = b""
    """The payload, as JSON: what the run's plan is made from, also after a crash."""
    claim: IdempotencyKey | None = None


def description_of(record: RunRecord) -> RunDescribed:
    """The first event of a run of which nothing else is left."""
    return RunDescribed(
        t_ms=0,
        job_id=record.job_id,
        kind=record.kind,
        name=None,
        description=None,
        swarm_type=None,
        number_of_agents=0,
        service_tier="standard",
        temperature=None,
        created_at=record.created_at,
        warnings=(),
        metadata=None,
    )


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands now."""

    record: RunRecord
    state: RunState
    summary: Summary
    """Of its events so far. Not to be changed."""
    last_event_id: int = 0
    first_event_id: int = 1
    """The first event that can still be read."""
    ended_at: float | None = None
    """Unix time, in seconds."""
    is_waiting: bool = False
    """Whether what it will come to is open although nobody carries it out: the process that did is gone and no other
    has taken it up yet, or its end is still to be written. Its readers wait."""
    fault: str | None = None
    """Why what is stored of the run cannot be read; the rest then says no more than that there is such a run."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, newest first, by their ids: whoever wants to know how they stand asks for one at a time."""

    job_ids: Sequence[str]
    has_more: bool


class Log(Protocol):
    """The writer's end of one run; it has one writer."""

    def append(self, event: Event) -> int:
        """Store an event and wake the readers; returns its sequence number. Never waits."""
        ...

    def append_hidden(self, event: Event) -> int:
        """As `append`, but readers see the event, and what comes behind it, only once it is safe, in a moment."""
        ...

    async def commit(self, event: Event) -> int:
        """As `append_hidden`, and returns once the event and all before it are as safe as this journal makes them.

        A `RunEnded` is always committed, and nothing may be appended after it.

        Raises:
            StorageUnavailable: it cannot be made safe at present. No reader sees it before it is.
        """
        ...

    async def safe(self) -> None:
        """Return once all that was appended is as safe as this journal makes it.

        Raises:
            StorageUnavailable: it cannot be made safe at present.
        """
        ...

    def withdraw(self) -> None:
        """Forget a run that was refused after all, and its claim: nothing of it was shown."""
        ...

    async def suspend(self) -> None:
        """The process stops, and the run is to go on in the next one: make all of it safe, and let its readers go."""
        ...


class Cursor(Protocol):
    """A reader's cursor into a run. It holds no events: a slow reader costs nothing but its place."""

    @property
    def first_available(self) -> int | None:
        """Where the log has lost what stood behind the cursor: the first event that it still has."""
        ...

    async def read(self) -> Sequence[Entry]:
        """The events after the cursor, at most a few hundred; waits when there are none.

        Empty when `wake` was called meanwhile. The last event of every run is a `RunEnded`: do not read on after it.

        Raises:
            Suspended: nothing more comes here: the run goes on in another process, or what happens in it cannot be
                written down at present.
        """
        ...

    def available(self) -> Sequence[Entry]:
        """As `read`, without waiting: possibly none."""
        ...

    def wake(self) -> None:
        """Let a waiting `read` return empty-handed."""
        ...


class DirectoryInUse(Exception):
    """Another process serves this data directory. The text is for the operator."""


class HandedOver(Exception):
    """The journal lets its readers go; the run that they read goes on later, maybe elsewhere."""


class AlreadyClaimed(Exception):
    """The same request has a run already."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class InterruptedRun(Protocol):
    """A run whose process is gone, claimed by this one. Until it goes on, its readers wait."""

    @property
    def record(self) -> RunRecord:
        """What is known of it, but for the body, which `load` brings."""
        ...

    @property
    def attempts(self) -> int:
        """What processes have counted that loaded it and ended before it went on."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it cannot go on, where what is stored of it is damaged; the entries are those before the damage."""
        ...

    async def load(self) -> tuple[RunRecord, Sequence[Entry]]:
        """The whole record, and what the run had come to. One attempt is counted, durably, before this returns; once
        the run goes on, none.

        Raises:
            StorageUnavailable: it cannot be read, or the attempt not be counted.
        """
        ...

    def count_attempt(self, times: int) -> None:
        """Count the present attempt so many times more; it is written down in a moment."""
        ...

    def go_on(self, *, on_cancel: Callable[[], None], on_failure: Callable[[], None]) -> Log:
        """Where the run goes on; takes what `submit` takes. The next event's number is higher than any that a reader
        can have seen, also of a process whose writes were lost."""
        ...


class Journal(Protocol):
    """All runs that there are."""

    @property
    def survives(self) -> bool:
        """Whether what is safe here outlives the process."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it has been possible to write and to read here since `open`."""
        ...

    def opening_tail(self) -> Cursor:
        """A cursor into nothing, for a journal that is not open: it lets its reader go once it is."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether anything can be made safe at present."""
        ...

    async def open(self) -> None:
        """Begin. Before this only the journal's place has been taken. Where it cannot be written yet, that is tried
        again until it can."""
        ...

    def look_up(self, claim: IdempotencyKey | None) -> None:
        """Find out whether `submit` would find a run that has the claim.

        Raises:
            AlreadyClaimed, IdempotencyMismatch: as `submit`.
        """
        ...

    async def submit(
        self, record: RunRecord, *, on_cancel: Callable[[], None], on_failure: Callable[[], None] = lambda: None
    ) -> Log:
        """Begin a run. `on_cancel` is called, in this event loop, once somebody asks that it be cancelled;
        `on_failure` once what it appends can no longer be made safe.

        Raises:
            AlreadyClaimed: the record's claim has a run, which came with the same body.
            IdempotencyMismatch: it has one that came with another body.
            StorageUnavailable: nothing can be written now.
        """
        ...

    async def tail(self, job_id: str, *, after: int = 0) -> Cursor:
        """A cursor that stands behind the event numbered `after`.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        """How a run stands. With an `owner`, only if it is theirs: what another one has is looked for no longer, and
        no shorter, than what is not there.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        """An owner's runs, newest first, from the one behind `after` on.

        Raises:
            NotFound: `after` is none of them.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for a run to be cancelled; a finished one stays as it is.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def delete(self, job_id: str) -> None:
        """Forget a run, and its claim.

        Raises:
            NotFound: there is no such run, or no longer.
            StillRunning: it has not ended.
        """
        ...

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        """Remember with a run, as safely as its events, that the stream token of this digest has connected: of each
        run the `MAX_ADMITTED` that came last.

        Raises:
            NotFound: there is no such run, or no longer.
            StorageUnavailable: it cannot be made safe.
        """
        ...

    async def has_admitted(self, job_id: str, digest: bytes) -> bool:
        """Whether that is remembered.

        Raises:
            StorageUnavailable: it cannot be read.
        """
        ...

    async def trim(self, job_id: str, before: int) -> None:
        """Forget the events of a finished run that are numbered below `before`, never its last one.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def unfinished(self) -> Sequence[InterruptedRun]:
        """Claim the runs that were in progress when their process ended: whoever wrote them before cannot any more.

        Waits until the journal can be written. The second call finds none.
        """
        ...

    async def close(self) -> None:
        """Make safe what can be, and let go of everything."""
        ...
