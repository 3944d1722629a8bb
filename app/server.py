"""uvicorn around the app: how the process starts, and how it stops without cutting a stream."""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import cast

import uvicorn
from anyio import Event, create_task_group
from fastapi import FastAPI

from app import __version__
from app.api.connection import Connection, http_protocol, set_user_timeout
from app.api.gate import Gate, connection_limits
from app.clock import SYSTEM_CLOCK, Clock, sleep, time_limit
from app.descriptors import raise_limit, shares_of
from app.llm.aliases import aliases_of, key_variables
from app.logs import configure_logging, secret_values
from app.main import create_app, journal_of
from app.runs.journal import DirectoryInUse
from app.runs.supervisor import Supervisor
from app.settings import ENV_PREFIX, MIN_KEY_LENGTH, Settings, misspelt_settings
from app.tools.errors import ToolLoadError

logger = logging.getLogger(__name__)

_FLUSH_SECONDS = 1
"""After the drain, for readers to take what is left."""

_OBJECTS_A_COLLECTION = 10_000

_USAGE_ERROR = 2

_HEADERS = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
"""Of every answer."""

_TRY_IT = {
    "name": "try-it",
    "swarm_type": "AgentRearrange",
    "rearrange_flow": "Optimist, Pessimist -> Summary",
    "task": "AI in healthcare",
    "stream": True,
    "stream_options": {"include_output": False},
    "agents": [
        {"agent_name": "Optimist", "system_prompt": "Write three upbeat sentences about the topic."},
        {"agent_name": "Pessimist", "system_prompt": "Write three cautious sentences about the topic."},
        {"agent_name": "Summary", "system_prompt": "Write one short summary line of the prior views."},
    ],
}


class DrainingServer(uvicorn.Server):
    """On SIGTERM: no new connections, an end for every run, then uvicorn's own shutdown.

    uvicorn by itself waits for open connections, and a stream's stays open as long as its run.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        max_connections: int,
        dev_key: str | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(uvicorn_config(app, settings, max_connections=max_connections, clock=clock))
        self._clock = clock
        self._drain_seconds = settings.drain_seconds
        self._send_seconds = settings.send_seconds
        self._dev_key = dev_key

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._forced = Event()
        await super().startup(sockets)
        for server in self.servers:
            set_user_timeout(server.sockets, self._send_seconds)
        # What is there by now stays: the garbage collector need not look at it again, a hundred milliseconds each time.
        # What comes is nearly all freed without it, so that it need not look after every request either.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_A_COLLECTION, 20, 20)
        if self._dev_key is not None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            print(_welcome(f"http://{f'[{host}]' if ':' in host else host}:{port}", self._dev_key), flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        logger.info("Stopping: no new runs, those that go on get %g s", self._drain_seconds)
        supervisor = cast(Supervisor, self.lifespan.state["supervisor"])
        async with create_task_group() as tasks:
            tasks.start_soon(self._hurry_when_forced, supervisor)
            await supervisor.drain(self._drain_seconds)
            tasks.cancel_scope.cancel()
        await self._hang_up()
        # The rest takes a moment; forced, uvicorn would cut the app's own shutdown short.
        self.force_exit = False
        await super().shutdown(sockets)

    async def _hang_up(self) -> None:
        """Give clients a moment to take what is left, then break off: those who remain neither read nor send."""
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
        """A second Ctrl-C ends the grace: the runs are interrupted now."""
        await self._forced.wait()
        await supervisor.drain(0)


def uvicorn_config(
    app: FastAPI, settings: Settings, *, max_connections: int | None = None, clock: Clock = SYSTEM_CLOCK
) -> uvicorn.Config:
    """How uvicorn serves this app, on so many connections at once."""
    return uvicorn.Config(
        app,
        http=http_protocol(Gate(connection_limits(settings, max_connections), clock)),
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


def run_server(settings: Settings, *, dev_key: str | None, preload: bool) -> int:
    """Serve until a signal; returns the process's exit code."""
    secrets = {key.get_secret_value() for key in settings.api_keys}
    secrets |= secret_values(os.environ, also=key_variables(aliases_of(settings)))
    configure_logging(level=settings.log_level, layout=settings.log_format, secrets=secrets)
    for sentence in misspelt_settings(os.environ):
        logger.warning("%s", sentence)
    if settings.short_keys:
        logger.warning("%d of the API keys: fewer than %d characters", settings.short_keys, MIN_KEY_LENGTH)
    limit = raise_limit()
    shares = shares_of(limit, max_runs=settings.max_runs)
    if shares.runs < settings.max_runs:
        words = "The system gives %d file descriptors (ulimit -n): at most %d connections and %d runs at once, not %d"
        logger.warning(words, limit, shares.connections, shares.runs, settings.max_runs)
        settings = settings.model_copy(update={"max_runs": shares.runs})
    try:
        app = create_app(settings, journal=journal_of(settings), preload=preload)
    except ToolLoadError as error:
        print(f"These tools cannot be used: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except DirectoryInUse as error:
        print(f"{error}. Stop it, or set {ENV_PREFIX}DATA_DIR.", file=sys.stderr)
        return _USAGE_ERROR
    server = DrainingServer(app, settings, max_connections=shares.connections, dev_key=dev_key)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _already_stopped)
    server.run()
    # Nothing is left to do; collecting litellm's objects one last time would take most of a second.
    gc.freeze()
    gc.disable()
    return 0 if server.started else 1


def _already_stopped(*_: object) -> None:
    """uvicorn raises a signal again once it has shut down for it; having been stopped is no failure."""


def _welcome(url: str, key: str) -> str:
    payload = json.dumps(_TRY_IT)
    return f"""
swarmstream {__version__}, for development, on {url}

  docs:  {url}/docs
  key:   {key}  (for this run only)

Watch three agents stream; paste this into another terminal:

curl -N {url}/v1/swarm/completions -H 'x-api-key: {key}' -H 'Content-Type: application/json' -d '{payload}'
"""
