"""PLACEHOLDER so that others can import it: its owner overwrites this file."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from app.tools.hosts import AllowedHosts
from app.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class McpServer:
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class McpFault:
    server: McpServer
    message: str


class McpSession:
    tools: Sequence[Tool] = ()
    faults: Sequence[McpFault] = ()


class McpHub:
    def __init__(self, allowed: AllowedHosts) -> None:
        self.allowed = allowed

    def admit(self, url: str) -> None:
        self.allowed.check_url(url)

    async def look(self, server: McpServer, *, seconds: float) -> None:
        pass

    def session(self, servers: Sequence[McpServer]) -> AbstractAsyncContextManager[McpSession]:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[McpSession]:
            yield McpSession()

        return opened()

    async def close(self) -> None:
        pass
