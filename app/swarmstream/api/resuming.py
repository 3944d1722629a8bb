"""Where a reader of a run goes on: its cursor, and the reader that stands behind it (docs/wire.md, section 5)."""

from copy import deepcopy

from swarmstream.api.state import AppState
from swarmstream.api.streaming import ReadOptions
from swarmstream.errors import InvalidRequest, Location
from swarmstream.events import MAX_EVENT_ID
from swarmstream.journal.base import RunStatus


def parse_cursor(given: str | None, name: str) -> int:
    """The number that a header or a query parameter of this name gives; without one, the beginning.

    Raises:
        InvalidRequest: it is no event's number.
    """
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= 16 and int(given) <= MAX_EVENT_ID):
        raise InvalidRequest("the cursor is the number of an event", location=(name,))
    return int(given)


def check_cursor(after: int, status: RunStatus, location: Location) -> None:
    """Refuse a cursor, given at this place, beyond the last event of a finished run: nothing was ever there.

    Raises:
        InvalidRequest: this one is.
    """
    if status.state != "running" and status.fault is None and after > status.last_event_id:
        last = status.last_event_id
        raise InvalidRequest(f"the cursor is beyond the run's last event, which is {last}", location=location)


async def open_reader(
    job_id: str,
    parts: AppState,
    *,
    include_output: bool,
    coalesce_ms: int,
    after: int = 0,
    status: RunStatus | None = None,
) -> ReadOptions:
    """A reader who has a run's events up to `after`. `status` is needed but where the run has just begun: what the log
    no longer has is summed up there.

    Raises:
        NotFound: the run has been forgotten meanwhile.
    """
    reading = await parts["supervisor"].read(job_id)
    first_available = reading.tail.first_available or 1
    return ReadOptions(
        reading.tail,
        reading.presence,
        after=after,
        include_output=include_output,
        coalesce_ms=coalesce_ms,
        first_available=first_available,
        summary=deepcopy(status.summary) if status is not None and first_available > 1 else None,
        clock=parts["clock"],
    )
