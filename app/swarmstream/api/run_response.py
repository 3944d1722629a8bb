"""The answer of a completion route that is one JSON document: sent once the run is over."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from swarmstream.api.problems import failed_run_response, waiting_run_response
from swarmstream.api.streaming import ReadOptions, departure
from swarmstream.journal.base import HandedOver
from swarmstream.journal.summary import Summary
from swarmstream.wire import answers


class RunResponse(Response):
    """A run's answer, for a client that waits for it."""

    def __init__(
        self,
        options: ReadOptions,
        *,
        job_id: str,
        request_id: str,
        headers: Mapping[str, str],
        may_be_repeated: bool = False,
    ) -> None:
        """`may_be_repeated`: the request has an `Idempotency-Key`, so that sent again it is the same run."""
        super().__init__()
        self._job_id = job_id
        self._may_be_repeated = may_be_repeated
        self._options = options
        self._headers = headers
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._options.presence():
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._summarize(), name="reader")
                leaving = tasks.create_task(departure(receive), name="client")
                await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
                if not reading.done():
                    reading.cancel()
                    return
        summary = reading.result()
        if summary.ended is None:
            response = waiting_run_response(self._job_id, self._request_id, may_be_repeated=self._may_be_repeated)
        else:
            response = self._document(summary)
        response.headers.update(self._headers)
        await response(scope, receive, send)

    async def _summarize(self) -> Summary:
        """Return the summary of all events, or of those until the run was handed over."""
        summary = self._options.summary or Summary()
        with suppress(HandedOver):
            while summary.ended is None:
                for _, event in await self._options.cursor.read():
                    summary.observe(event)
        return summary

    def _document(self, summary: Summary) -> Response:
        assert summary.described is not None
        assert summary.ended is not None
        if summary.ended.status != "success":
            assert summary.failure is not None
            return failed_run_response(summary.failure, self._request_id, answers.partial_answer(summary))
        is_swarm = summary.described.kind == "swarm"
        answer = answers.swarm_answer(summary) if is_swarm else answers.agent_answer(summary)
        return Response(orjson.dumps(answer), media_type="application/json")
