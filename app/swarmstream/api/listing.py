"""Pages of runs, read and written run by run.

However many runs are asked for, and however slowly the client takes them, one run of the page is in memory at a time,
beside 64 kB of text that wait to be sent.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from swarmstream.errors import NotFound
from swarmstream.journal.records import Page, RunState, RunStatus
from swarmstream.runs.owned_runs import OwnedRuns

MAX_PAGE_BYTES = 8_000_000
"""Of a page's runs as JSON, unless it has only one."""

_PIECE_BYTES = 64 * 1024


@dataclass(slots=True)
class WrittenPage:
    """The runs that a page has by now."""

    has_more: bool
    job_ids: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Listing:
    """A JSON object with a page of runs in one of its fields."""

    runs: OwnedRuns
    name: str
    """The field with the runs."""
    row: Callable[[RunStatus], Mapping[str, Any]]
    """Makes one run's entry in that field."""
    rest: Callable[[WrittenPage], Mapping[str, Any]]
    """Makes the fields behind it, at least one, once all runs are written."""

    async def response(self, page: Page, *, state: RunState | None = None) -> Response:
        """Return the page, without the runs that were forgotten, or left this state, since it was put together.

        Raises:
            StorageUnavailable: the first run cannot be read. If that happens to a later one, the connection breaks.
        """
        pieces = self._pieces(page, state)
        first = await anext(pieces)

        async def body() -> AsyncGenerator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        return StreamingResponse(body(), media_type="application/json")

    async def _pieces(self, page: Page, state: RunState | None) -> AsyncGenerator[bytes]:
        written = WrittenPage(page.has_more)
        waiting = bytearray(b'{"%s":[' % self.name.encode())
        size = 0
        for job_id in page.job_ids:
            row = await self._row(job_id, state)
            size += len(row)
            if size > MAX_PAGE_BYTES and written.job_ids:
                written.has_more = True
                break
            if row:
                waiting += b"," + row if written.job_ids else row
                written.job_ids.append(job_id)
            del row
            while len(waiting) >= _PIECE_BYTES:
                piece = bytes(waiting[:_PIECE_BYTES])
                del waiting[:_PIECE_BYTES]
                yield piece
        yield bytes(waiting) + b"]," + orjson.dumps(self.rest(written)).removeprefix(b"{")

    async def _row(self, job_id: str, state: RunState | None) -> bytes:
        """Return a run's entry as JSON; empty if the run does not belong to the page any more."""
        try:
            status = await self.runs.status(job_id)
        except NotFound:
            return b""
        if status.summary.described is None or state not in (None, status.state):
            return b""
        return orjson.dumps(self.row(status))
