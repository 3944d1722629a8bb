"""Tools from MCP servers, over streamable HTTP."""

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from ssl import SSLContext
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CapacityLimiter, create_task_group, get_cancelled_exc_class, to_thread
from anyio.abc import TaskGroup
from pydantic import JsonValue
from pydantic_core import to_json

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.errors import McpHostRefused
from swarmstream.lazy import LazyImport
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.host_port import url_origin
from swarmstream.network.policy import NetworkPolicy, Resolve, resolve_host
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.errors import McpUnavailable
from swarmstream.tools.mcp.listing import MAX_TOOLS, LeftOut, RemoteTool, ToolListing, read_listing, text_of, told
from swarmstream.tools.mcp.server import McpServer

if TYPE_CHECKING:
    from swarmstream.tools.mcp.session import McpSession

REMEMBERED_SECONDS: Final = 300.0
MAX_REMEMBERED: Final = 64
"""Lists of tools."""
MAX_LISTING_SECONDS: Final = 10.0
MAX_LINKS: Final = 5
"""To one server in one turn, one after the other."""
MAX_OPENINGS: Final = 32
"""Sessions that are begun at once in the process; the next one waits, within its time limit."""
MAX_PROGRESS_EVENTS: Final = 100
"""Of one call."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class McpFault:
    """What is missing of a server's tools. The message is for whoever reads the run; it names the origin only."""

    server: McpServer
    message: str


@dataclass(slots=True, eq=False)
class McpTools:
    """The tools of some servers for as long as an agent's turn lasts."""

    tools: Sequence[Tool] = ()
    faults: Sequence[McpFault] = ()


class McpHub:
    """Which servers may be used, and what they were found to offer. One for a process."""

    def __init__(
        self,
        allowed: AllowedHosts,
        *,
        resolve: Resolve = resolve_host,
        tls: SSLContext | None = None,
        listing_seconds: float = MAX_LISTING_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`tls` says whose certificates are trusted; `listing_seconds` is what a server has to tell its tools."""
        self.reach = NetworkPolicy(allowed, resolve, tls, clock)
        self._clock = clock
        self._listing_seconds = listing_seconds
        self._offers: OrderedDict[bytes, tuple[float, ToolListing]] = OrderedDict()
        """With the time that each is remembered until; the least recently asked for first."""
        self.link_type = LazyImport(_link_type)
        self.openings = CapacityLimiter(MAX_OPENINGS)
        """Who begins a session holds one of these."""

    def check_url(self, url: str) -> None:
        """Raises `McpHostRefused` if this URL's host is not allowed, or the URL is not one of an MCP server."""
        self.reach.allowed.check_url(url)

    async def probe(self, server: McpServer, *, seconds: float) -> None:
        """Get to know a server's tools before a run begins. What fails otherwise, or takes too long, is for `session`
        to tell.

        Raises:
            McpHostRefused: its host is not allowed, nor is the address that it has, or it sends us elsewhere.
        """
        refusal = None
        async with create_task_group() as tasks:
            with time_limit(self._clock, seconds):
                try:
                    await self._offer(_Connection(self, server, tasks))
                except McpUnavailable as fault:
                    refusal = fault.refusal
            tasks.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    def session(self, servers: Sequence[McpServer]) -> AbstractAsyncContextManager[McpTools]:
        """The servers' tools. Connections are closed and sessions ended when the block is left, within a second.

        Nothing is raised: a server that is down, slow or refused is a fault.
        """
        return self._session(servers)

    async def close(self) -> None:
        """Forget everything. Connections belong to sessions: none is left."""
        self._offers.clear()

    @asynccontextmanager
    async def _session(self, servers: Sequence[McpServer]) -> AsyncGenerator[McpTools]:
        if not servers:
            yield McpTools()
            return
        failure: BaseException | None = None
        async with create_task_group() as tasks:
            try:
                yield await self._opened([_Connection(self, server, tasks) for server in servers])
            except get_cancelled_exc_class():
                raise
            except BaseException as error:  # raised here, it would come out in a group
                failure = error
            finally:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _opened(self, connections: "Sequence[_Connection]") -> McpTools:
        found: dict[_Connection, ToolListing | McpUnavailable] = {}

        async def ask(connection: _Connection) -> None:
            try:
                found[connection] = await self._offer(connection)
            except McpUnavailable as fault:
                found[connection] = fault

        async with create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(ask, connection, name="list the tools of an MCP server")
        tools: dict[str, Tool] = {}
        faults: list[McpFault] = []
        for connection in connections:
            offer = found[connection]
            message = str(offer) if isinstance(offer, McpUnavailable) else _taken(connection, offer, tools)
            if message:
                faults.append(McpFault(connection.server, f"the MCP server {connection.origin} {message}"))
        return McpTools(tuple(tools.values()), tuple(faults))

    async def _offer(self, connection: "_Connection") -> ToolListing:
        """What is remembered, else what the server says now; raises `McpUnavailable`."""
        key = _digest(connection.server)
        until, offer = self._offers.get(key, (-math.inf, ToolListing()))
        if self._clock.now() < until:
            self._offers.move_to_end(key)
            return offer
        try:
            self.check_url(connection.server.url)
            with time_limit(self._clock, self._listing_seconds) as scope:
                listed = await connection.use(lambda link: link.tools(MAX_TOOLS))
                offer = await to_thread.run_sync(read_listing, listed, abandon_on_cancel=True)
        except McpHostRefused as error:
            raise McpUnavailable(f"is refused: {error.detail}", error) from error
        except ToolError as error:
            raise McpUnavailable("does not tell its tools") from error
        if scope.cancelled_caught:
            raise McpUnavailable(f"did not answer within {self._listing_seconds:g} s")
        self._offers[key] = (self._clock.now() + REMEMBERED_SECONDS, offer)
        self._offers.move_to_end(key)
        while len(self._offers) > MAX_REMEMBERED:
            self._offers.popitem(last=False)
        return offer


class _Connection:
    """One server's sessions in one turn: begun at the first need, and once more after one was lost."""

    def __init__(self, hub: McpHub, server: McpServer, tasks: TaskGroup) -> None:
        self.server = server
        self.origin = _shown(server)
        self._hub = hub
        self._tasks = tasks
        self._links: list[McpSession] = []

    async def use(self, action: "Callable[[McpSession], Awaitable[T]]") -> T:
        """Do something in the present session; never twice.

        Raises:
            LinkError: there is none; and whatever the action raises.
        """
        new_link = await self._hub.link_type.get()
        if not self._links or self._links[-1].is_lost:
            if len(self._links) == MAX_LINKS:
                raise McpUnavailable("was lost too often")
            link = new_link(self.server.url, self.server.headers, self._hub.reach)
            self._links.append(link)
            async with self._hub.openings:
                self._tasks.start_soon(link.live, name=f"session with {self.origin}")
                await link.ready()
        else:
            link = self._links[-1]
            await link.ready()
        return await action(link)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _McpTool(Tool):
    """A server's tool."""

    _remote: RemoteTool
    _connection: _Connection

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        self._remote.check_arguments(values)
        left = MAX_PROGRESS_EVENTS

        async def hear_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal left
            if left > 0:
                left -= 1
                await context.report_progress(progress, total)

        try:
            result = await self._connection.use(lambda link: link.call(self._remote.original, values, hear_progress))
        except McpUnavailable as error:
            raise ToolError(f"the MCP server {self._connection.origin} {error}") from error
        return text_of(self._remote, result)


def _link_type() -> "type[McpSession]":
    from swarmstream.tools.mcp.session import McpSession

    return McpSession


def _taken(connection: _Connection, offer: ToolListing, tools: dict[str, Tool]) -> str:
    """Add what a server offers to the turn's tools; what had to be left out, if anything."""
    taken: list[LeftOut] = []
    for remote in offer.tools:
        if remote.name in tools:
            taken.append((remote.original, "there is one of that name already"))
            continue
        tools[remote.name] = _McpTool(
            name=remote.name,
            description=remote.description,
            parameters=remote.input_schema,
            timeout_seconds=connection.server.timeout_seconds,
            _remote=remote,
            _connection=connection,
        )
    count = offer.left_out_count + len(taken)
    return told([*offer.left_out, *taken], count) if count else ""


def _shown(server: McpServer) -> str:
    """As much of its URL as may be shown."""
    try:
        return url_origin(server.url)
    except McpHostRefused:
        return "without a URL"


def _digest(server: McpServer) -> bytes:
    """Of the connection: what is remembered holds no secrets."""
    return sha256(to_json([server.url, server.headers])).digest()
