"""A session with one MCP server, in a task of its own; imported late, for the SDK is large."""

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
from swarmstream.network.checked import usual_tls
from swarmstream.network.reach import NetworkPolicy
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
_EMPTY: dict[str, dict[str, Any]] = {"tools/list": {"tools": []}, "tools/call": {"content": []}}
_UNDERSTOOD = {"nextCursor", "resultType", "ttlMs", "cacheScope"}
"""What of a result the SDK needs to see."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_FORWARDED = {"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding", "upgrade"}
_TALKATIVE = ("mcp", "client", "httpx2", "httpcore2")

ResultT = TypeVar("ResultT", bound=Result)

logger = logging.getLogger(__name__)

for _name in _TALKATIVE:  # they log whole URLs, and what servers say
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class McpSession:
    """One session. Somebody starts `live` in a task; when that is cancelled, the session is ended and all is closed."""

    def __init__(self, url: str, headers: Iterable[tuple[str, str]], reach: NetworkPolicy) -> None:
        self._url = url
        self._headers = [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]
        self._reach = reach
        self._gate: McpTransport | None = None
        self._session: ClientSession | None = None
        self._failure = McpUnavailable("is not connected any more")
        self._settled = anyio.Event()

    @property
    def is_lost(self) -> bool:
        """Whether there had better be a new one."""
        return self._settled.is_set() and (self._session is None or self._gate is None or self._gate.is_lost)

    async def live(self) -> None:
        """Connect, and stay so until cancelled. Raises nothing else: what went wrong is told by `ready`."""
        try:
            reach = self._reach
            if reach.tls is None and self._url.lower().startswith("https:"):
                reach = replace(reach, tls=await to_thread.run_sync(usual_tls, abandon_on_cancel=True))
            async with create_task_group() as tasks:
                await self._hold(McpTransport(reach, tasks))
        except Exception as error:
            # The SDK raises whatever its tasks raised, in groups. The text may hold the server's words.
            self._failure = self._explained(error)
            logger.info("an MCP session ended: %s", self._failure)
        finally:
            self._session = None
            self._settled.set()

    async def ready(self) -> None:
        """Wait until it is connected.

        Raises:
            LinkError: it cannot be.
        """
        await self._settled.wait()
        if self._session is None:
            raise self._failure

    async def tools(self, limit: int) -> list[JsonValue]:
        """The tools as the server describes them: at least so many, if it has them.

        Raises:
            LinkError, ToolError: it does not tell.
        """
        tools: list[JsonValue] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._ask(ListToolsRequest(params=params), ListToolsResult)
            listed: JsonValue = (page.meta or {})[_RAW].get("tools")
            if not isinstance(listed, list):
                raise McpUnavailable(_NOT_MCP)
            tools += listed
            cursor = page.next_cursor
            if not cursor or len(tools) > limit:
                break
        return tools

    async def call(
        self, name: str, arguments: Mapping[str, JsonValue], hear_progress: ProgressFnT
    ) -> dict[str, JsonValue]:
        """Call a tool, once; its result as the server sent it.

        Raises:
            LinkError: there is no result.
            ToolError: the server says that it could not; the words are its own.
        """
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=dict(arguments)))
        result = await self._ask(request, CallToolResult, hear_progress)
        return cast("dict[str, JsonValue]", (result.meta or {})[_RAW])

    async def _hold(self, gate: McpTransport) -> None:
        self._gate = gate
        if not all(
            _HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable() for name, value in self._headers
        ):
            raise McpUnavailable("cannot be sent a header that is none in HTTP")
        headers = [*self._headers, ("accept-encoding", "identity")]
        async with (
            httpx2.AsyncClient(transport=gate, headers=headers, timeout=None, trust_env=False) as http,
            streamable_http_client(
                self._url, http_client=http, terminate_on_close=False, max_sse_event_size=None
            ) as streams,
            ClientSession(
                dispatcher=_LenientDispatcher(*streams), client_info=Implementation(name="swarmstream", version="1")
            ) as its,
        ):
            try:
                with time_limit(self._reach.clock, MAX_OPENING_SECONDS) as scope:
                    await self._shake_hands(its, gate)
                if scope.cancelled_caught:
                    raise McpUnavailable(f"did not answer within {MAX_OPENING_SECONDS:g} s")
                self._session = its
                self._settled.set()
                await anyio.sleep_forever()
            finally:
                self._session = None
                with CancelScope(shield=True), time_limit(self._reach.clock, FAREWELL_SECONDS):
                    await gate.take_leave()

    async def _shake_hands(self, session: ClientSession, gate: McpTransport) -> None:
        """As servers of all versions know it; those of the newest only are told by their refusal."""
        try:
            await session.initialize()
        except MCPError as error:
            if error.data == gate.mark:
                raise
            await session.discover()
            gate.begin()

    async def _ask(
        self, request: Request[Any, Any], kind: type[ResultT], hear_progress: ProgressFnT | None = None
    ) -> ResultT:
        if self._session is None:
            raise self._failure
        try:
            return await self._session.send_request(request, kind, progress_callback=hear_progress)
        except MCPError as error:
            if self._is_ours(error):
                raise self._explained(error) from error
            raise ToolError(replace_lone_surrogates(error.message)) from error
        except Exception as error:
            raise self._explained(error) from error

    def _is_ours(self, error: MCPError) -> bool:
        """Whether it is not the server that says so."""
        mark = self._gate and self._gate.mark
        return error.data == mark or error.code in {CONNECTION_CLOSED, PARSE_ERROR}

    def _explained(self, error: Exception) -> McpUnavailable:
        error = _first(error)
        if isinstance(error, McpUnavailable):
            return error
        if not isinstance(error, MCPError) or error.code == PARSE_ERROR:
            return McpUnavailable(_NOT_MCP)
        if self._gate and error.data == self._gate.mark:
            return McpUnavailable(error.message, self._gate.refusal)
        if error.code == CONNECTION_CLOSED:
            return McpUnavailable("is not connected any more")
        return McpUnavailable("does not want to begin a session")


class _LenientDispatcher(JSONRPCDispatcher):
    """Hides what servers say of tools and results from the SDK's checks, by which one wrong tool spoils the whole list,
    in the metadata, which nobody looks into."""

    async def send_raw_request(
        self, method: str, params: Any, opts: CallOptions | None = None, **more: Any
    ) -> dict[str, Any]:
        result = await super().send_raw_request(method, params, opts, **more)
        if (empty := _EMPTY.get(method)) is None:
            return result
        kept = {key: value for key, value in result.items() if key in _UNDERSTOOD}
        return {**kept, **empty, "_meta": {_RAW: result}}


def _first(error: Exception) -> Exception:
    """What a group of errors began with."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
