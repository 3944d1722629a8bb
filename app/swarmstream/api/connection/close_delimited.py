"""Answers to clients of HTTP/1.0, which know no chunks (RFC 9112, section 7)."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class CloseDelimited:
    """The app as one such request calls it: where an answer's length is not declared, the connection's end is its end.

    `on_unfinished` is called if the app leaves such an answer without its end.
    """

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle, on_unfinished: Callable[[], None]) -> None:
        self._app = app
        self._cycle = cycle
        self._on_unfinished = on_unfinished
        self.ends_with_connection = False
        """True once an answer without a length has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_whole(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.ends_with_connection = all(name.lower() != b"content-length" for name, _ in message["headers"])
                if self.ends_with_connection:
                    self._cycle.chunked_encoding = False
            elif self.ends_with_connection:
                self._cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_whole)
        finally:
            if self.ends_with_connection and not self._cycle.response_complete:
                self._on_unfinished()
