"""Lists of runs, read and written run by run: however much is asked for, and however slowly it is taken, no more of a
page is in memory than one of its runs."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from swarmstream.errors import NotFound
from swarmstream.journal.base import Journal
from swarmstream.journal.records import Page, RunState, RunStatus

MAX_PAGE_BYTES = 8_000_000
"""Of a page's runs as JSON, unless it has only one."""

_PIECE_BYTES = 64 * 1024


@dataclass(slots=True)
class Listed:
    """What a page has come to."""

    has_more: bool
    job_ids: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Listing:
    """A JSON object that has a page of an owner's runs in one of its fields."""

    journal: Journal
    owner: str
    name: str
    """Of the field."""
    row: Callable[[RunStatus], Mapping[str, Any]]
    """A run as it stands there."""
    rest: Callable[[Listed], Mapping[str, Any]]
    """The fields behind it."""

    async def response(self, page: Page, *, state: RunState | None = None) -> Response:
        """The page, without the runs that were forgotten, or left this state, since it was put together.

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
        listed = Listed(page.has_more)
        waiting = bytearray(b'{"%s":[' % self.name.encode())
        size = 0
        for job_id in page.job_ids:
            row = await self._row(job_id, state)
            size += len(row)
            if size > MAX_PAGE_BYTES and listed.job_ids:
                listed.has_more = True
                break
            if row:
                waiting += b"," + row if listed.job_ids else row
                listed.job_ids.append(job_id)
            del row
            while len(waiting) >= _PIECE_BYTES:
                piece = bytes(waiting[:_PIECE_BYTES])
                del waiting[:_PIECE_BYTES]
                yield piece
        yield bytes(waiting) + b"]," + orjson.dumps(self.rest(listed)).removeprefix(b"{")

    async def _row(self, job_id: str, state: RunState | None) -> bytes:
        """Nothing, where the run does not belong to the page any more."""
        try:
            status = await self.journal.status(job_id, owner=self.owner)
        except NotFound:
            return b""
        if status.summary.described is None or state not in (None, status.state):
            return b""
        return orjson.dumps(self.row(status))
