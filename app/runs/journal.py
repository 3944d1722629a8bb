"""Where runs are written down and read again: the port, which every kind of storage implements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from app.events import EndStatus, Event, RunKind

RunState: TypeAlias = Literal["running"] | EndStatus
Entry: TypeAlias = tuple[int, Event]
"""An event with its sequence number: from 1, ascending, gapless as long as one process writes the run."""


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


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands now."""

    record: RunRecord
    state: RunState
    last_event_id: int = field(default=0)


class Log(Protocol):
    """The writer's end of one run; it has one writer."""

    def append(self, event: Event) -> int:
        """Store an event and wake the readers; returns its sequence number. Never waits."""
        ...

    async def commit(self, event: Event) -> int:
        """As `append`, and returns once the event and all before it are as safe as this journal makes them.

        A `RunEnded` is always committed, and nothing may be appended after it.
        """
        ...


class Tail(Protocol):
    """A reader's cursor into a run. It holds no events: a slow reader costs nothing but its place."""

    async def read(self) -> Sequence[Entry]:
        """The events after the cursor, at most a few hundred; waits when there are none.

        Empty when `wake` was called meanwhile. The last event of every run is a `RunEnded`: do not read on after it.
        """
        ...

    def available(self) -> Sequence[Entry]:
        """As `read`, without waiting: possibly none."""
        ...

    def wake(self) -> None:
        """Let a waiting `read` return empty-handed."""
        ...


class Journal(Protocol):
    """All runs that there are."""

    async def submit(self, record: RunRecord, *, on_cancel: Callable[[], None]) -> Log:
        """Begin a run. `on_cancel` is called, in this event loop, once somebody asks that it be cancelled."""
        ...

    async def tail(self, job_id: str, *, after: int = 0) -> Tail:
        """A cursor that stands behind the event numbered `after`.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def status(self, job_id: str) -> RunStatus:
        """How a run stands.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for a run to be cancelled; a finished one stays as it is.

        Raises:
            NotFound: there is no such run, or no longer.
        """
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
