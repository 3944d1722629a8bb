"""A session with one MCP server, in a task of its own. Imported late: the MCP SDK is large.

| state | `_settled` | `_session` | leads to |
|---|---|---|---|
| opening | no | None | connected, or over with a failure that `ready` raises |
| connected | yes | the SDK's | lost, or over when the task is cancelled |
| lost | yes | the SDK's; the transport says that the server forgot it | over |
| over | yes | None | |

Three kinds of errors come back from the SDK as one class, `MCPError`. They are told apart by the transport's mark, a
random text in the data of errors that the transport makes itself: without it a server could pretend that an error is
ours, and its words would stand where ours do.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

import anyio
import httpx2
from anyio import CancelScope, create_task_group, to_thread
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    ListToolsRequest,
    ListToolsResult,
    PaginatedRequestParams,
    Request,
    Result,
)
from pydantic import JsonValue

from swarmstream.clock import time_limit
from swarmstream.network.checked import default_tls
from swarmstream.network.policy import NetworkPolicy
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.errors import McpUnavailable
from swarmstream.tools.mcp.transport import McpTransport
from swarmstream.unicode import replace_lone_surrogates

MAX_OPENING_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 1.0
MAX_PAGES: Final = 16
"""Of a list of tools."""

_NOT_MCP = "answered with something that is not MCP"
_RAW = "swarmstream/raw"
_EMPTY_RESULTS: dict[str, dict[str, Any]] = {"tools/list": {"tools": []}, "tools/call": {"content": []}}
_KEPT_FIELDS = {"nextCursor", "resultType", "ttlMs", "cacheScope"}
"""Fields of a result that the SDK needs."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_FORWARDED = {"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding", "upgrade"}
_NOISY_LOGGERS = ("mcp", "client", "httpx2", "httpcore2")

ResultT = TypeVar("ResultT", bound=Result)

logger = logging.getLogger(__name__)

for _name in _NOISY_LOGGERS:  # they log whole URLs, and texts of servers
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class McpSession:
    """One session. `serve` runs in a task of the owner's; its cancellation ends the session and closes everything."""

    def __init__(self, url: str, headers: Iterable[tuple[str, str]], network: NetworkPolicy) -> None:
        self._url = url
        self._headers = [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]
        self._network = network
        self._transport: McpTransport | None = None
        self._session: ClientSession | None = None
        self._failure = McpUnavailable("is not connected any more")
        self._settled = anyio.Event()

    @property
    def is_lost(self) -> bool:
        """True if the next call needs a new session."""
        return self._settled.is_set() and (self._session is None or self._transport is None or self._transport.is_lost)

    async def serve(self) -> None:
        """Connect, and stay connected until cancelled. Failures are not raised here, but by `ready`."""
        try:
            network = self._network
            if network.tls is None and self._url.lower().startswith("https:"):
                network = replace(network, tls=await to_thread.run_sync(default_tls, abandon_on_cancel=True))
            async with create_task_group() as tasks:
                await self._hold(McpTransport(network, tasks))
        except Exception as error:
            # The SDK raises whatever its tasks raised, in groups. The text may hold words of the server.
            self._failure = self._explained(error)
            logger.info("an MCP session ended: %s", self._failure)
        finally:
            self._session = None
            self._settled.set()

    async def ready(self) -> None:
        """Wait until the session is connected.

        Raises:
            McpUnavailable: it cannot be, or is over.
        """
        await self._settled.wait()
        if self._session is None:
            raise self._failure

    async def list_tools(self, limit: int) -> list[JsonValue]:
        """Return the tools as the server describes them, page by page until there are more than `limit`.

        Raises:
            McpUnavailable: there is no answer that can be read.
            ToolError: the server answers with an error.
        """
        tools: list[JsonValue] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._request(ListToolsRequest(params=params), ListToolsResult)
            listed: JsonValue = (page.meta or {})[_RAW].get("tools")
            if not isinstance(listed, list):
                raise McpUnavailable(_NOT_MCP)
            tools += listed
            cursor = page.next_cursor
            if not cursor or len(tools) > limit:
                break
        return tools

    async def call(
        self, name: str, arguments: Mapping[str, JsonValue], on_progress: ProgressFnT
    ) -> dict[str, JsonValue]:
        """Call a tool, once, and return the result as the server sent it.

        Raises:
            McpUnavailable: there is no result.
            ToolError: the server answers with an error; the text is its own.
        """
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        result = await self._request(request, CallToolResult, on_progress)
        return cast("dict[str, JsonValue]", (result.meta or {})[_RAW])

    async def _hold(self, transport: McpTransport) -> None:
        """Hold the session open until cancelled, then end it."""
        self._transport = transport
        if not all(
            _HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable() for name, value in self._headers
        ):
            raise McpUnavailable("cannot be sent a header that is none in HTTP")
        headers = [*self._headers, ("accept-encoding", "identity")]
        async with (
            httpx2.AsyncClient(transport=transport, headers=headers, timeout=None, trust_env=False) as http,
            streamable_http_client(
                self._url, http_client=http, terminate_on_close=False, max_sse_event_size=None
            ) as streams,
            ClientSession(
                dispatcher=_LenientDispatcher(*streams), client_info=Implementation(name="swarmstream", version="1")
            ) as session,
        ):
            try:
                with time_limit(self._network.clock, MAX_OPENING_SECONDS) as scope:
                    await self._initialize(session, transport)
                if scope.cancelled_caught:
                    raise McpUnavailable(f"did not answer within {MAX_OPENING_SECONDS:g} s")
                self._session = session
                self._settled.set()
                await anyio.sleep_forever()
            finally:
                self._session = None
                with CancelScope(shield=True), time_limit(self._network.clock, FAREWELL_SECONDS):
                    await transport.terminate()

    async def _initialize(self, session: ClientSession, transport: McpTransport) -> None:
        """Initialize as all versions of the protocol but the newest do; a server that refuses that is discovered."""
        try:
            await session.initialize()
        except MCPError as error:
            if error.data == transport.mark:
                raise
            await session.discover()
            transport.begin()

    async def _request(
        self, request: Request[Any, Any], kind: type[ResultT], on_progress: ProgressFnT | None = None
    ) -> ResultT:
        if self._session is None:
            raise self._failure
        try:
            return await self._session.send_request(request, kind, progress_callback=on_progress)
        except MCPError as error:
            if self._is_ours(error):
                raise self._explained(error) from error
            raise ToolError(replace_lone_surrogates(error.message)) from error
        except Exception as error:
            raise self._explained(error) from error

    def _is_ours(self, error: MCPError) -> bool:
        """Return True if the error was raised on our side, not sent by the server."""
        mark = self._transport and self._transport.mark
        return error.data == mark or error.code in {CONNECTION_CLOSED, PARSE_ERROR}

    def _explained(self, error: Exception) -> McpUnavailable:
        """Return an error of the SDK in our words."""
        error = _first(error)
        if isinstance(error, McpUnavailable):
            return error
        if not isinstance(error, MCPError) or error.code == PARSE_ERROR:
            return McpUnavailable(_NOT_MCP)
        if self._transport and error.data == self._transport.mark:
            return McpUnavailable(error.message, self._transport.refusal)
        if error.code == CONNECTION_CLOSED:
            return McpUnavailable("is not connected any more")
        return McpUnavailable("does not want to begin a session")


class _LenientDispatcher(JSONRPCDispatcher):
    """A dispatcher that hides tools and results from the SDK's checks, by which one wrong tool spoils the whole list.

    They travel in the metadata of an empty result, which the SDK does not check.
    """

    async def send_raw_request(
        self, method: str, params: Any, opts: CallOptions | None = None, **more: Any
    ) -> dict[str, Any]:
        result = await super().send_raw_request(method, params, opts, **more)
        if (empty := _EMPTY_RESULTS.get(method)) is None:
            return result
        kept = {key: value for key, value in result.items() if key in _KEPT_FIELDS}
        return {**kept, **empty, "_meta": {_RAW: result}}


def _first(error: Exception) -> Exception:
    """Return the first error of nested groups."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
