"""Cursors: how requests name the last event that a client has, and readers that stand behind it (docs/wire.md,
section 5)."""

from swarmstream.api.streaming import ReadOptions
from swarmstream.clock import Clock
from swarmstream.errors import InvalidRequest, Location
from swarmstream.events import MAX_EVENT_ID
from swarmstream.journal.records import RunStatus
from swarmstream.runs.owned_runs import OwnedRuns


def parse_cursor(value: str | None, name: str) -> int:
    """Return the event's number in a header or query parameter of this name; 0, the beginning, where it is absent.

    Raises:
        InvalidRequest: it is not the number of an event.
    """
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 16 and int(value) <= MAX_EVENT_ID):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(value)


def check_cursor(after: int, status: RunStatus, location: Location) -> None:
    """Refuse a cursor beyond the last event of a finished run, where there never was an event.

    Raises:
        InvalidRequest: it is beyond the end; `location` is what it was sent in.
    """
    if status.state != "running" and status.fault is None and after > status.last_event_id:
        last = status.last_event_id
        raise InvalidRequest(f"the cursor is beyond the run's last event, which is {last}", location=location)


async def open_reader(
    runs: OwnedRuns,
    job_id: str,
    *,
    clock: Clock,
    include_output: bool,
    coalesce_ms: int,
    after: int = 0,
    status: RunStatus | None = None,
) -> ReadOptions:
    """Return a reader that has a run's events up to `after`. Without a `status` the run has just begun; else the status
    sums up what is not read.

    Read are the events behind the reader's own. Those before them are read, too, where `output` repeats what turns have
    streamed.

    Raises:
        NotFound: the run has been forgotten meanwhile.
    """
    begin = 0 if include_output or status is None else _place_to_read_from(after, status)
    reading = await runs.read(job_id, after=begin)
    first_available = reading.cursor.first_available or 1
    return ReadOptions(
        reading.cursor,
        reading.presence,
        after=after,
        include_output=include_output,
        coalesce_ms=coalesce_ms,
        first_available=first_available,
        summary=status.summary.copy() if status is not None else None,
        clock=clock,
    )


def _place_to_read_from(after: int, status: RunStatus) -> int:
    """Return the event behind which to read for a reader that has those up to `after`. It is before the run's last one,
    which tells that the run is over, also where the reader has that or names a place beyond it."""
    if status.state != "running":
        return min(after, status.last_event_id - 1)
    return after if after <= status.last_event_id else 0
