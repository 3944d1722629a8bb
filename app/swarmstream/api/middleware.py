"""The id of every request, and its line in the log. Pure ASGI, so that streams pass through untouched."""

import logging
import re
import secrets
from collections.abc import Awaitable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.logs import current_request_id

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
"""The ids that are taken over: they stand in log lines, where a space or a bracket could pass for the log's own."""


def new_request_id() -> str:
    """Make an id for a request that brings none."""
    return f"req-{secrets.token_hex(12)}"


class RequestIds:
    """Takes over `X-Request-Id` or makes one, returns it, logs each answer under it. Query strings are not logged."""

    def __init__(self, app: ASGIApp, clock: Clock = SYSTEM_CLOCK) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        token = current_request_id.set(request_id)
        began = self._clock.now()
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            level = logging.DEBUG if scope["path"].startswith("/health") else logging.INFO
            milliseconds = (self._clock.now() - began) * 1000
            logger.log(level, "%s %s %d %.0fms", scope["method"], scope["path"], status, milliseconds)
            current_request_id.reset(token)
