"""The hub of MCP servers: it opens their tools for a turn, and remembers what they list.

| step | bound | on failure |
|---|---|---|
| the host is checked against the allow-list | | the run is refused (`probe`), else a fault |
| a session is opened, in a task of the turn | 32 at once in a process, 10 s each | a fault |
| the tools are listed, unless they were within five minutes | 10 s, 128 tools, 512 kB of schemas | a fault |
| a tool is called, in the present session | the server's `timeout`, 4 MiB | an error that the model reads |
| a lost session is opened anew by the next call | five in a turn | an error that the model reads |
| the turn ends: sessions are terminated | 1 s | |

A fault costs an agent the server's tools, never its turn. A call is never sent twice: it may have had its effect.
"""

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from ssl import SSLContext
from typing import Final

from anyio import create_task_group, get_cancelled_exc_class, to_thread
from pydantic_core import to_json

from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.errors import McpHostRefused
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.policy import NetworkPolicy, Resolve, resolve_host
from swarmstream.tools.base import Tool
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.connection import ServerConnection, Sessions
from swarmstream.tools.mcp.errors import McpUnavailable
from swarmstream.tools.mcp.listing import MAX_TOOLS, SkippedTool, ToolListing, describe_skipped, read_listing
from swarmstream.tools.mcp.remote_tool import mcp_tool
from swarmstream.tools.mcp.server import McpServer

REMEMBERED_SECONDS: Final = 300.0
MAX_REMEMBERED: Final = 64
"""Listings."""
MAX_LISTING_SECONDS: Final = 10.0
MAX_OPENINGS: Final = 32
"""Sessions that are opened at once in the process; the next one waits, within its time limit."""


@dataclass(frozen=True, slots=True)
class McpFault:
    """A server's tools that are missing. The message is for readers of the run; of the URL it names the origin only."""

    server: McpServer
    message: str


@dataclass(slots=True, eq=False)
class McpTools:
    """The tools of some servers for as long as an agent's turn lasts."""

    tools: Sequence[Tool] = ()
    faults: Sequence[McpFault] = ()


class McpHub:
    """The tools of MCP servers. One for a process."""

    def __init__(
        self,
        allowed: AllowedHosts,
        *,
        resolve: Resolve = resolve_host,
        tls: SSLContext | None = None,
        listing_seconds: float = MAX_LISTING_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`tls` has the certificates that are trusted; `listing_seconds` is the time to list a server's tools."""
        self._allowed = allowed
        self._sessions = Sessions(NetworkPolicy(allowed, resolve, tls, clock), MAX_OPENINGS)
        self._clock = clock
        self._listing_seconds = listing_seconds
        self._listings: OrderedDict[bytes, tuple[float, ToolListing]] = OrderedDict()
        """Each with the time until which it is remembered; the least recently used first."""

    def check_url(self, url: str) -> None:
        """Raise `McpHostRefused` if this URL's host is not allowed, or it cannot be the URL of an MCP server."""
        self._allowed.check_url(url)

    async def probe(self, server: McpServer, *, seconds: float) -> None:
        """List a server's tools before a run begins. Failures other than a refusal, and a server that takes too long,
        are left for `session` to report.

        Raises:
            McpHostRefused: its host or its address is not allowed, or it redirects us.
        """
        refusal = None
        async with create_task_group() as tasks:
            with time_limit(self._clock, seconds):
                try:
                    await self._listing(ServerConnection(self._sessions, server, tasks))
                except McpUnavailable as fault:
                    refusal = fault.refusal
            tasks.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    def session(self, servers: Sequence[McpServer]) -> AbstractAsyncContextManager[McpTools]:
        """Open the servers' tools. When the block is left, sessions are ended and connections closed, within a second.

        Nothing is raised: a server that is down, slow or refused is a fault.
        """
        return self._session(servers)

    async def close(self) -> None:
        """Forget all listings. Connections belong to `session`, which closes them itself."""
        self._listings.clear()

    @asynccontextmanager
    async def _session(self, servers: Sequence[McpServer]) -> AsyncGenerator[McpTools]:
        if not servers:
            yield McpTools()
            return
        failure: BaseException | None = None
        async with create_task_group() as tasks:
            try:
                yield await self._open([ServerConnection(self._sessions, server, tasks) for server in servers])
            except get_cancelled_exc_class():
                raise
            except BaseException as error:  # raised here, it would come out in a group
                failure = error
            finally:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _open(self, connections: Sequence[ServerConnection]) -> McpTools:
        """List the tools of all servers at once."""
        outcomes: dict[ServerConnection, ToolListing | McpUnavailable] = {}

        async def list_tools(connection: ServerConnection) -> None:
            try:
                outcomes[connection] = await self._listing(connection)
            except McpUnavailable as fault:
                outcomes[connection] = fault

        async with create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(list_tools, connection, name="list the tools of an MCP server")
        tools: dict[str, Tool] = {}
        faults: list[McpFault] = []
        for connection in connections:
            outcome = outcomes[connection]
            message = str(outcome) if isinstance(outcome, McpUnavailable) else _add_new(tools, outcome, connection)
            if message:
                faults.append(McpFault(connection.server, f"the MCP server {connection.origin} {message}"))
        return McpTools(tuple(tools.values()), tuple(faults))

    async def _listing(self, connection: ServerConnection) -> ToolListing:
        """Return the listing that is remembered, else ask the server.

        Raises:
            McpUnavailable: the server is refused, or does not list its tools in time.
        """
        key = _digest(connection.server)
        until, listing = self._listings.get(key, (-math.inf, ToolListing()))
        if self._clock.now() < until:
            self._listings.move_to_end(key)
            return listing
        try:
            self.check_url(connection.server.url)
            with time_limit(self._clock, self._listing_seconds) as scope:
                listed = await connection.use(lambda session: session.list_tools(MAX_TOOLS))
                listing = await to_thread.run_sync(read_listing, listed, abandon_on_cancel=True)
        except McpHostRefused as error:
            raise McpUnavailable(f"is refused: {error.detail}", error) from error
        except ToolError as error:
            raise McpUnavailable("does not tell its tools") from error
        if scope.cancelled_caught:
            raise McpUnavailable(f"did not answer within {self._listing_seconds:g} s")
        self._remember(key, listing)
        return listing

    def _remember(self, key: bytes, listing: ToolListing) -> None:
        self._listings[key] = (self._clock.now() + REMEMBERED_SECONDS, listing)
        self._listings.move_to_end(key)
        while len(self._listings) > MAX_REMEMBERED:
            self._listings.popitem(last=False)


def _add_new(tools: dict[str, Tool], listing: ToolListing, connection: ServerConnection) -> str:
    """Add a server's tools to the turn's, and return which had to be left out, empty for none."""
    taken: list[SkippedTool] = []
    for remote in listing.tools:
        if remote.name in tools:
            taken.append((remote.original, "there is one of that name already"))
        else:
            tools[remote.name] = mcp_tool(remote, connection)
    count = listing.skipped_count + len(taken)
    return describe_skipped([*listing.skipped, *taken], count) if count else ""


def _digest(server: McpServer) -> bytes:
    """Return a key for a server with its headers, which are secrets and so not the key themselves."""
    return sha256(to_json([server.url, server.headers])).digest()
