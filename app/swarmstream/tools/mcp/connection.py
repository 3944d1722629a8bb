"""The connection to one MCP server during one turn."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from swarmstream.errors import McpHostRefused
from swarmstream.lazy import LazyImport
from swarmstream.network.host_port import url_origin
from swarmstream.network.policy import NetworkPolicy
from swarmstream.tools.mcp.errors import McpUnavailable
from swarmstream.tools.mcp.server import McpServer

if TYPE_CHECKING:
    from swarmstream.tools.mcp.session import McpSession

MAX_SESSIONS: Final = 5
"""With one server in one turn, one after the other."""

T = TypeVar("T")


class Sessions:
    """The opening of sessions with any server, one for a process."""

    def __init__(self, network: NetworkPolicy, max_openings: int) -> None:
        """`max_openings` sessions may be opened at once; the next one waits."""
        self.openings = CapacityLimiter(max_openings)
        self._network = network
        self._session_type = LazyImport(_load_session_type)

    async def loaded(self) -> "Callable[[McpServer], McpSession]":
        """Return what makes a session, once the MCP SDK is imported in a thread: that takes ~1 s, once."""
        session_type = await self._session_type.get()
        return lambda server: session_type(server.url, server.headers, self._network)


class ServerConnection:
    """The sessions with a server in one turn: opened at the first use, and anew after one was lost."""

    def __init__(self, sessions: Sessions, server: McpServer, tasks: TaskGroup) -> None:
        """`tasks` is where sessions are served; they end when it is cancelled."""
        self.server = server
        self.origin = _shown_origin(server)
        self._sessions = sessions
        self._tasks = tasks
        self._session: McpSession | None = None
        self._opened = 0

    async def use(self, action: "Callable[[McpSession], Awaitable[T]]") -> T:
        """Return the result of an action in the present session. The action is never repeated.

        Raises:
            McpUnavailable: no session can be opened; besides, whatever the action raises.
        """
        new_session = await self._sessions.loaded()
        session = self._session
        # Nothing waits between this look and the new session's place in `_session`, so that calls at once share it.
        if session is None or session.is_lost:
            session = self._session = self._next(new_session)
            async with self._sessions.openings:
                self._tasks.start_soon(session.serve, name=f"session with {self.origin}")
                await session.ready()
        else:
            await session.ready()
        return await action(session)

    def _next(self, new_session: "Callable[[McpServer], McpSession]") -> "McpSession":
        if self._opened == MAX_SESSIONS:
            raise McpUnavailable("was lost too often")
        self._opened += 1
        return new_session(self.server)


def _load_session_type() -> "type[McpSession]":
    from swarmstream.tools.mcp.session import McpSession

    return McpSession


def _shown_origin(server: McpServer) -> str:
    """Return as much of the server's URL as may be shown."""
    try:
        return url_origin(server.url)
    except McpHostRefused:
        return "without a URL"
