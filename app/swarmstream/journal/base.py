"""The port that every kind of journal implements.

| object | is | made by |
|---|---|---|
| `Journal` | all runs | `create_journal` |
| `Log` | the writing end of one run | `Journal.submit`, `InterruptedRun.resume` |
| `Cursor` | a place in one run's log | `Journal.open_cursor` |
| `InterruptedRun` | a run whose process is gone | `Journal.claim_interrupted` |

"Committed" means: as safe as this journal makes anything. In memory that is at once; in a durable journal it is once
the event is written. An event that was shown to a reader before it was committed can be lost with the process; one
that was appended hidden, or committed, is shown only afterwards.
"""

from collections.abc import Sequence
from typing import Protocol

from swarmstream.events import Event
from swarmstream.journal.records import Entry, IdempotencyKey, Page, RunRecord, RunState, RunStatus


class DirectoryInUse(Exception):
    """Another process serves this data directory. The text is for the operator."""


class HandedOver(Exception):
    """A cursor gets nothing more here; its run goes on later, maybe in another process."""


class AlreadySubmitted(Exception):
    """A request with this idempotency key has a run already."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class RunCallbacks(Protocol):
    """The calls that a journal makes to a run in progress, in the run's event loop."""

    def cancel_requested(self) -> None:
        """Take note that somebody asked for the run to be cancelled; may be called more than once."""
        ...

    def storage_failed(self) -> None:
        """Take note that appended events can no longer be written."""
        ...


class _NoCallbacks:
    """Callbacks of a run that nobody carries out."""

    def cancel_requested(self) -> None:
        pass

    def storage_failed(self) -> None:
        pass


NO_CALLBACKS: RunCallbacks = _NoCallbacks()


class Log(Protocol):
    """The writing end of one run; it has one writer."""

    def append(self, event: Event) -> int:
        """Store an event and wake the readers; returns its sequence number. Never waits."""
        ...

    def append_hidden(self, event: Event) -> int:
        """Append an event that readers see, with all behind it, only once it is committed, which is soon."""
        ...

    async def commit(self, event: Event) -> int:
        """Append an event hidden, and return its number once it and all before it are committed.

        A `RunEnded` is always committed, and nothing may be appended after it.

        Raises:
            StorageUnavailable: it cannot be written at present. No reader sees it before it is.
        """
        ...

    async def flush(self) -> None:
        """Return once all that was appended is committed.

        Raises:
            StorageUnavailable: it cannot be written at present.
        """
        ...

    def discard(self) -> None:
        """Forget the run and its idempotency key: it was refused after all, and nothing of it was shown."""
        ...

    async def hand_over(self) -> None:
        """Commit the log and let its readers go: this process stops, and the next one is to resume the run."""
        ...


class Cursor(Protocol):
    """A reader's place in a log. It holds no events: a slow reader costs nothing but its place."""

    @property
    def first_available(self) -> int | None:
        """The first event that can be read, where those behind the cursor were trimmed away; else None."""
        ...

    async def read(self) -> Sequence[Entry]:
        """Return the entries after the cursor, at most a few hundred; waits while there are none.

        Empty when `wake` was called meanwhile. The last event of every run is a `RunEnded`: do not read on after it.

        Raises:
            HandedOver: nothing more comes here: the run goes on in another process, or its events cannot be written
                at present.
        """
        ...

    def read_nowait(self) -> Sequence[Entry]:
        """Return the entries after the cursor, possibly none, without waiting."""
        ...

    def wake(self) -> None:
        """Let a waiting `read` return empty-handed."""
        ...


class InterruptedRun(Protocol):
    """A run whose process is gone, claimed by this one. Its readers wait until it is resumed."""

    @property
    def record(self) -> RunRecord:
        """The run's record, without the body until `load` has brought it."""
        ...

    @property
    def attempts(self) -> int:
        """The sum of the attempts that earlier processes counted before they ended; 0 once a run is resumed."""
        ...

    @property
    def fault(self) -> str | None:
        """The reason that the run cannot be resumed, where its storage is damaged; its entries are those before the
        damage."""
        ...

    async def load(self) -> tuple[RunRecord, Sequence[Entry]]:
        """Return the whole record and the run's entries. One attempt is counted, durably, before this returns.

        Raises:
            StorageUnavailable: the run cannot be read, or the attempt cannot be counted.
        """
        ...

    def count_attempt(self, times: int) -> None:
        """Count the present attempt so many times more; it is written in a moment."""
        ...

    def resume(self, callbacks: RunCallbacks) -> Log:
        """Return the log, in which the run goes on. Its next event's number is higher than any that a reader can have
        seen, also of a process whose writes were lost.

        Raises:
            StorageUnavailable: nothing can be written at present.
        """
        ...


class Journal(Protocol):
    """All runs that there are.

    Methods that take a `job_id` raise `NotFound` where there is no such run, or no longer, and all that wait raise
    `StorageUnavailable` where the storage cannot be read or written at present.
    """

    @property
    def is_durable(self) -> bool:
        """True where committed events outlive the process."""
        ...

    @property
    def is_open(self) -> bool:
        """True once the storage could be read and written for the first time."""
        ...

    @property
    def is_healthy(self) -> bool:
        """True while events can be committed."""
        ...

    async def open(self) -> None:
        """Begin. Where the storage cannot be written yet, this returns, and it is tried again until it can.
        A second call does nothing."""
        ...

    async def close(self) -> None:
        """Commit what can be, and release everything."""
        ...

    def check_idempotency_key(self, idempotency_key: IdempotencyKey | None) -> None:
        """Raise where `submit` would refuse a record with this key.

        Raises:
            AlreadySubmitted: the key has a run, which came with the same body.
            IdempotencyMismatch: the key has a run, which came with another body.
        """
        ...

    async def submit(self, record: RunRecord, callbacks: RunCallbacks) -> Log:
        """Begin a run.

        Raises:
            AlreadySubmitted, IdempotencyMismatch: as `check_idempotency_key`.
            StorageUnavailable: nothing can be written at present.
        """
        ...

    async def claim_interrupted(self) -> Sequence[InterruptedRun]:
        """Claim the runs that were in progress when their process ended, which can write to them no more.

        Waits until the journal is open. The second call returns none.
        """
        ...

    async def open_cursor(self, job_id: str, *, after: int = 0) -> Cursor:
        """Return a cursor that stands behind the event numbered `after`."""
        ...

    def opening_cursor(self) -> Cursor:
        """Return a cursor for any run of a journal that is not open: it raises `HandedOver` once the journal is."""
        ...

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        """Return a run's state; with an `owner`, only if it is theirs: looking for another owner's run takes the same
        steps as looking for one that does not exist."""
        ...

    async def list(
        self, owner: str, *, state: RunState | None = None, limit: int = 20, after: str | None = None
    ) -> Page:
        """Return an owner's runs, newest first, from the one behind `after` on.

        Raises:
            NotFound: the owner has no run `after`.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for a run to be cancelled; a finished one stays as it is."""
        ...

    async def delete(self, job_id: str) -> None:
        """Forget a finished run and its idempotency key.

        Raises:
            StillRunning: it has not ended.
        """
        ...

    async def trim(self, job_id: str, before: int) -> None:
        """Forget the events of a finished run that are numbered below `before`, never its last one."""
        ...

    async def admit_token(self, job_id: str, digest: bytes) -> None:
        """Remember with a run, as safely as its events, that the stream token of this digest has connected: of each
        run the last `MAX_ADMITTED`."""
        ...

    async def has_admitted_token(self, job_id: str, digest: bytes) -> bool:
        """Tell whether the run's stream token of this digest is remembered; False for an unknown run."""
        ...
