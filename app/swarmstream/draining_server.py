"""uvicorn's server, which ends every run before it closes connections.

On SIGTERM, in this order:

1. The listener is closed. Connections that are open stay, with `/health/ready` at 503.
2. The supervisor drains: it admits no run, and gives those under way `drain_seconds`. A SIGINT after the
   first signal ends the wait. Then every run has ended, and its streams have their last event, or was handed over to
   the next process, and its streams were broken off.
3. Readers get `_FLUSH_SECONDS` to take what is left of their answers. Connections that remain are reset.
4. uvicorn's own shutdown: the app's lifespan ends, which closes journal and backends.

uvicorn by itself would wait for open connections first, and a stream's stays open as long as its run.
"""

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from anyio import Event, create_task_group
from fastapi import FastAPI

from swarmstream.api.connection.gate import ConnectionGate, connection_limits
from swarmstream.api.connection.protocol import Connection, http_protocol
from swarmstream.api.connection.socket_options import set_user_timeout
from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep, time_limit
from swarmstream.runs.supervisor import Supervisor
from swarmstream.settings import Settings

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1
"""Time for readers to take what is left, once the runs have ended."""

_OBJECTS_A_COLLECTION = 10_000

_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
"""Headers of every answer."""


class DrainingServer(uvicorn.Server):
    """A server of one app, from its start to the end of its last run."""

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        max_connections: int,
        on_listening: Callable[[str], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`on_listening` is called once with the server's URL."""
        super().__init__(uvicorn_config(app, settings, max_connections=max_connections, clock=clock))
        self._clock = clock
        self._drain_seconds = settings.drain_seconds
        self._send_seconds = settings.send_seconds
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._forced = Event()
        await super().startup(sockets)
        for server in self.servers:
            set_user_timeout(server.sockets, self._send_seconds)
        _tune_garbage_collector()
        if self._on_listening is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        logger.info("Stopping: no new runs, those that go on get %g s", self._drain_seconds)
        supervisor = cast(Supervisor, self.lifespan.state["supervisor"])
        async with create_task_group() as tasks:
            tasks.start_soon(self._hurry_when_forced, supervisor)
            await supervisor.drain(self._drain_seconds)
            tasks.cancel_scope.cancel()
        await self._close_connections()
        # The rest takes a moment; forced, uvicorn would cut the app's own shutdown short.
        self.force_exit = False
        await super().shutdown(sockets)

    async def _close_connections(self) -> None:
        """Give clients a moment to take what is left, then reset those that neither read nor send."""
        connections = cast(set[Connection], self.server_state.connections)
        for connection in list(connections):
            connection.shutdown()
        with time_limit(self._clock, _FLUSH_SECONDS):
            while connections:  # uvicorn keeps a set, no event
                await sleep(self._clock, _FLUSH_SECONDS / 20)
        for connection in list(connections):
            connection.reset()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            self._loop.call_soon_threadsafe(self._forced.set)

    async def _hurry_when_forced(self, supervisor: Supervisor) -> None:
        """Interrupt the runs at once when a SIGINT comes after the first signal."""
        await self._forced.wait()
        await supervisor.drain(0)


def uvicorn_config(
    app: FastAPI, settings: Settings, *, max_connections: int | None = None, clock: Clock = SYSTEM_CLOCK
) -> uvicorn.Config:
    """Return uvicorn's configuration for this app, on at most so many connections at once."""
    return uvicorn.Config(
        app,
        http=http_protocol(ConnectionGate(connection_limits(settings, max_connections), clock)),
        ws="none",
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=_HEADERS,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_FLUSH_SECONDS,
    )


def _tune_garbage_collector() -> None:
    """Freeze the objects of the start: a full collection costs ~100 ms with litellm loaded. Collect rarely, since
    nearly all objects of a request are freed by their reference counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, 20, 20)
