"""uvicorn around the app: how the process starts, and how it stops without cutting a stream."""

import asyncio
import errno
import gc
import json
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
from anyio import Event, create_task_group
from fastapi import FastAPI
from pydantic import SecretStr

from swarmstream import __version__
from swarmstream.address import check_address
from swarmstream.api.connection import Connection, http_protocol, set_user_timeout
from swarmstream.api.connection_limit import Gate, connection_limits
from swarmstream.clock import SYSTEM_CLOCK, Clock, sleep, time_limit
from swarmstream.descriptors import raise_limit, shares_of
from swarmstream.dev_key import DevKey, dev_key
from swarmstream.errors import AppError
from swarmstream.journal.base import DirectoryInUse, Journal
from swarmstream.journal.opening import create_journal
from swarmstream.llm.aliases import aliases_of, key_variables
from swarmstream.llm.registry import Registry
from swarmstream.logs import configure_logging, secret_values
from swarmstream.main import create_app
from swarmstream.runs.supervisor import Supervisor
from swarmstream.secret_files import READABLE_BY_ALL
from swarmstream.settings import ENV_PREFIX, MIN_KEY_LENGTH, Settings, misspelt_settings
from swarmstream.tools.errors import ToolLoadError

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
        dev_key: DevKey | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(uvicorn_config(app, settings, max_connections=max_connections, clock=clock))
        self._clock = clock
        self._drain_seconds = settings.drain_seconds
        self._send_seconds = settings.send_seconds
        self._dev_key = dev_key
        self._data_dir = settings.data_dir

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
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(_welcome(url, self._dev_key, self._data_dir), flush=True)

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


def run_server(settings: Settings, *, dev: bool, preload: bool, open_secrets: Sequence[str] = ()) -> int:
    """Serve until a signal; returns the process's exit code. With `dev`, a key is made if there is none, and printed,
    and a data directory that is in use is done without."""
    try:
        check_address(settings.host, settings.port)
    except OSError as error:
        print(_no_address(settings, error), file=sys.stderr)
        return _USAGE_ERROR
    key = dev_key(settings) if dev else None
    if key is not None:
        settings = settings.model_copy(update={"api_keys": settings.api_keys or (SecretStr(key.value),)})
    secrets = {key.get_secret_value() for key in settings.api_keys}
    secrets |= secret_values(os.environ, also=key_variables(aliases_of(settings)))
    configure_logging(level=settings.log_level, layout=settings.log_format, secrets=secrets)
    for sentence in misspelt_settings(os.environ):
        logger.warning("%s", sentence)
    for variable in open_secrets:
        logger.warning(READABLE_BY_ALL, variable)
    if settings.short_keys:
        logger.warning("%d of the API keys: fewer than %d characters", settings.short_keys, MIN_KEY_LENGTH)
    limit = raise_limit()
    shares = shares_of(limit, max_runs=settings.max_runs)
    if shares.runs < settings.max_runs:
        words = "The system gives %d file descriptors (ulimit -n): at most %d connections and %d runs at once, not %d"
        logger.warning(words, limit, shares.connections, shares.runs, settings.max_runs)
        settings = settings.model_copy(update={"max_runs": shares.runs})
    try:
        settings, journal = _with_journal(settings, may_do_without=dev)
        app = create_app(settings, journal=journal, preload=preload, dev=dev)
    except ToolLoadError as error:
        print(f"These tools cannot be used: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except DirectoryInUse as error:
        print(f"{error}. Stop it, or set {ENV_PREFIX}DATA_DIR.", file=sys.stderr)
        return _USAGE_ERROR
    try:
        registry = Registry(
            default_model=settings.default_model,
            environ=os.environ,
            aliases=aliases_of(settings),
            lane=settings.lane,
        )
        registry.resolve(settings.default_model)
    except AppError as error:
        logger.warning("agents that name no model are refused: %s", error.detail)
    server = DrainingServer(app, settings, max_connections=shares.connections, dev_key=key)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _already_stopped)
    # Whoever has started us with nohup wants us to outlive the terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hang_up)
    server.run()
    # Nothing is left to do; collecting litellm's objects one last time would take most of a second.
    gc.freeze()
    gc.disable()
    return 0 if server.started else 1


def _already_stopped(*_: object) -> None:
    """uvicorn raises a signal again once it has shut down for it; having been stopped is no failure."""


def _hang_up(*_: object) -> None:
    """Stop like any other time: a terminal that is closed is no reason to cut streams."""
    signal.raise_signal(signal.SIGTERM)


def _no_address(settings: Settings, error: OSError) -> str:
    where = f"{settings.host}, port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there. --port takes another port, --port 0 one that is free."
    return f"{where}: nobody can listen there: {error.strerror}. --host and --port say where to."


def _with_journal(settings: Settings, *, may_do_without: bool) -> tuple[Settings, Journal]:
    """Where runs are written down, and the settings that say so.

    Raises:
        DirectoryInUse: another server has the directory, and this one may not do without.
    """
    try:
        return settings, create_journal(settings)
    except DirectoryInUse as error:
        if not may_do_without:
            raise
        logger.warning("%s: this one keeps its runs in memory, where they end with it", error)
        settings = settings.model_copy(update={"data_dir": None})
        return settings, create_journal(settings)


def _welcome(url: str, key: DevKey, data_dir: Path | None) -> str:
    payload = json.dumps(_TRY_IT)
    # The operator's own key is no secret from the operator's terminal, but from a file that collects what we print.
    is_shown = not key.is_operators or sys.stdout.isatty()
    header = shlex.quote(f"x-api-key: {key.value}") if is_shown else '"x-api-key: $KEY"'
    runs = "in memory: they end with this server" if data_dir is None else f"written down in {data_dir.absolute()}"
    return f"""
swarmstream {__version__}, for development, on {url}

  docs:  {url}/docs
  key:   {key.value if is_shown else "$KEY"}  ({key.origin})
  runs:  {runs}

Watch three agents stream; paste this into another terminal:

curl -N {url}/v1/swarm/completions -H {header} -H 'Content-Type: application/json' -d '{payload}'
"""
