"""What tests share: one event loop, servers on free ports, clients that talk to them over real sockets."""

import logging
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.journal.base import Journal
from swarmstream.journal.opening import create_journal
from swarmstream.llm.base import ChatModel
from swarmstream.main import create_app
from swarmstream.server import uvicorn_config
from swarmstream.settings import Settings
from tests.clients.openapi_document import check_declared

ROOT = Path(__file__).resolve().parent.parent
KEY = "test-key-1-0123456789"
OTHER_KEY = "test-key-2-0123456789"


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that servers run on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True, scope="session")
async def _one_loop_for_all(anyio_backend: object) -> None:  # pyright: ignore[reportUnusedFunction]
    """Keeps the session's event loop open: litellm's connections belong to the loop that they were made in."""


@pytest.fixture(autouse=True)
def _a_quiet_log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture):  # pyright: ignore[reportUnusedFunction, reportUnknownParameterType]
    """Nothing is logged above INFO, unless the test is marked as one in which something goes wrong."""
    yield
    if not any(request.node.iter_markers("noisy")):
        loud = [record for record in caplog.get_records("call") if record.levelno > logging.INFO]
        assert not loud, [record.getMessage() for record in loud]


class TestServer(uvicorn.Server):
    """A server in the test's own event loop, on a free port."""

    __test__ = False

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()
        self.leaving = anyio.Event()
        self.stopped = anyio.Event()

    async def live(self) -> None:
        # serve() would take over the signals of the test's process.
        await self._serve()
        self.stopped.set()

    async def main_loop(self) -> None:
        # uvicorn's looks ten times a second whether it should exit.
        await self.on_tick(0)
        await self.leaving.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # As uvicorn's, without the tenth of a second that it takes before it looks whether anything is left.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with anyio.move_on_after(1):
            while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()

    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


@asynccontextmanager
async def serving(
    *,
    models: Mapping[str, ChatModel] | None = None,
    environ: Mapping[str, str] | None = None,
    journal: Journal | None = None,
    preload: bool = False,
    dev: bool = False,
    max_connections: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
    **settings: Any,
) -> AsyncGenerator[str]:
    """The URL of a server with these settings, for the length of the block; with `preload`, litellm is imported."""
    values: dict[str, Any] = {
        "api_keys": (SecretStr(KEY), SecretStr(OTHER_KEY)),
        "drain_seconds": 0.0,
        # On a busy machine a client would take up a kept connection in the moment in which it is closed.
        "keep_alive_seconds": 600,
        "data_dir": None,
        "port": 0,
        **settings,
    }
    configured = Settings.model_construct(**values)
    opening: Journal | None = None
    if journal is None and values["data_dir"] is not None:
        journal = opening = create_journal(configured)  # a disk takes the time that it takes
    app = create_app(
        configured,
        environ=environ or {},
        models=models,
        journal=journal,
        preload=preload,
        dev=dev,
        clock=clock,
    )
    server = TestServer(uvicorn_config(app, configured, max_connections=max_connections, clock=clock))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.live)
        with anyio.fail_after(60):
            await server.listening.wait()
        with anyio.move_on_after(10):  # on a busy machine the server listens before its directory is open
            while opening is not None and not opening.is_open:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        try:
            yield server.url
        finally:
            server.should_exit = True
            server.leaving.set()
            # Also when the test has failed: what it opened is closed before the next one begins.
            with anyio.move_on_after(5, shield=True):
                await server.stopped.wait()


@asynccontextmanager
async def client(url: str, *, key: str | None = KEY) -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client with an API key; nothing that it waits for takes a minute, and every answer is held to the OpenAPI
    document."""
    headers = {"x-api-key": key} if key else {}
    # Nothing here is https, and reading the certificates that we would trust takes longer than most tests.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False) as http:
        http.event_hooks["response"].append(_is_declared)
        yield http


async def _is_declared(response: httpx.Response) -> None:
    check_declared(response)
