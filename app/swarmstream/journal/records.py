"""The values that a journal takes and returns: a run's record, its entries, its status."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from swarmstream.events import EndStatus, Event, RunDescribed, RunKind
from swarmstream.journal.summary import Summary

MAX_ADMITTED = 64
"""Stream tokens of one run that are remembered to have connected."""

RunState: TypeAlias = Literal["running"] | EndStatus
Entry: TypeAlias = tuple[int, Event]
"""An event with its sequence number: from 1, ascending, gapless but for one jump each time the run was resumed."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A request's `Idempotency-Key`: requests of the same key mean the same run."""

    key: str
    """A digest of the key, its owner and its route."""
    body: str
    """A digest of the request's body."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The facts of a run that are known before it begins."""

    job_id: str
    owner: str
    """A digest of the API key that posted the run, never the key."""
    kind: RunKind
    created_at: datetime
    include_output: bool = True
    """The stream's form, as the payload asked for it; later readers get the same unless they ask otherwise."""
    coalesce_ms: int = 0
    request_id: str = ""
    traceparent: str | None = None
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    body: bytes = b""
    """The payload, as JSON: the run's plan is compiled from it, also after a crash."""
    idempotency_key: IdempotencyKey | None = None


def placeholder_description(record: RunRecord) -> RunDescribed:
    """Return a first event for a run of which only the record can be read."""
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
    """The present state of a run."""

    record: RunRecord
    state: RunState
    summary: Summary
    """The fold of its events so far. Not to be changed."""
    last_event_id: int = 0
    first_event_id: int = 1
    """The first event that can still be read."""
    ended_at: float | None = None
    """Unix time, in seconds."""
    is_waiting: bool = False
    """True while no process carries the run out: its own is gone and no other has resumed it yet, or its end is still
    to be written. Its readers wait."""
    fault: str | None = None
    """The reason that the stored run cannot be read; the other fields then hold only what its row's columns do."""


@dataclass(frozen=True, slots=True)
class Page:
    """The ids of some runs, newest first."""

    job_ids: Sequence[str]
    has_more: bool
