"""The composition root: settings become an app."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from swarmstream import __version__
from swarmstream.api import catalog, completions, docs_page, front_page, health, problems, run_stream, runs
from swarmstream.api.auth import KeyRing, owner_name
from swarmstream.api.cors import Cors
from swarmstream.api.middleware import RequestIds
from swarmstream.api.openapi.document import serve_document
from swarmstream.api.state import AppState
from swarmstream.clock import SYSTEM_CLOCK, Clock, time_limit
from swarmstream.engine.stages import PlanRunner
from swarmstream.engine.turn import TurnRunner
from swarmstream.errors import AppError, quote
from swarmstream.journal.base import Journal
from swarmstream.journal.opening import create_journal
from swarmstream.llm.aliases import load_aliases
from swarmstream.llm.base import ChatModel
from swarmstream.llm.providers.backends import ModelBackends
from swarmstream.llm.registry import Registry
from swarmstream.runs.compiled_job import job_from_record
from swarmstream.runs.limits import plan_limits, run_limits
from swarmstream.runs.supervisor import Supervisor
from swarmstream.settings import ENV_PREFIX, Settings
from swarmstream.tools.errors import ToolLoadError
from swarmstream.tools.loading import tools_from_settings
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.tools.policy import ToolPolicy
from swarmstream.tools.toolbox import missing_descriptions

logger = logging.getLogger(__name__)

_OPENING_SECONDS = 1.0
"""Time that the first connection waits for the journal to open; opening goes on beside the server after that."""


def create_app(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    models: Mapping[str, ChatModel] | None = None,
    journal: Journal | None = None,
    preload: bool = False,
    dev: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> FastAPI:
    """Make an app of these parts; those not given are made here.

    `environ` holds providers' keys (default: the process's, which litellm itself reads in any case); `models` are the
    adapters by lane; with `preload`, litellm is imported before the first request and not by the first call; with
    `dev`, pages that this machine serves may call, if only this machine reaches the server.

    Raises:
        ToolLoadError: a setting about tools cannot be followed.
    """
    environ = os.environ if environ is None else environ
    registry = Registry(
        default_model=settings.default_model, environ=environ, aliases=load_aliases(settings), backend=settings.lane
    )
    keys = KeyRing(key.get_secret_value() for key in settings.api_keys)
    tools = tool_policy(settings)
    model_backends = ModelBackends(environ, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[AppState]:
        if preload:
            await model_backends["litellm"].ready()
        mcp = McpHub(tools.hosts, clock=clock)
        limits = run_limits(settings)
        engine = PlanRunner(TurnRunner(models or model_backends, limits.timeouts, mcp, clock))
        try:
            async with (
                _opened(journal or create_journal(settings, clock), clock) as opened,
                Supervisor(opened, engine, limits, clock) as supervisor,
            ):
                supervisor.recover(
                    lambda record: job_from_record(record, registry, plan_limits(settings), tools.of(record.owner))
                )
                yield AppState(
                    settings=settings,
                    clock=clock,
                    keys=keys,
                    registry=registry,
                    tools=tools,
                    mcp=mcp,
                    supervisor=supervisor,
                )
        finally:
            await mcp.close()
            await model_backends.close()

    app = _app_with_routes(lifespan, with_docs=settings.docs)
    app.add_middleware(Cors, origins=settings.cors_origins, with_loopback=dev and settings.listens_on_loopback)
    app.add_middleware(RequestIds, clock=clock)
    return app


@asynccontextmanager
async def _opened(journal: Journal, clock: Clock) -> AsyncGenerator[Journal]:
    """Open the journal for the length of the block; the block may begin before it is open."""
    opening = asyncio.create_task(journal.open(), name="opening of the journal")
    with time_limit(clock, _OPENING_SECONDS):
        await asyncio.shield(opening)
    try:
        yield journal
    finally:
        opening.cancel()
        await journal.close()


def _app_with_routes(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[AppState]], *, with_docs: bool
) -> FastAPI:
    app = FastAPI(
        title="swarmstream",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if with_docs else None,
        # A redirect would make clients repeat their key, behind a proxy even to an http:// address.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    for module in (completions, run_stream, runs, catalog, front_page, health):
        app.include_router(module.router)
    if with_docs:
        app.include_router(docs_page.router)
    serve_document(app)
    app.add_exception_handler(AppError, problems.on_app_error)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(ClientDisconnect, problems.on_client_disconnect)
    app.add_exception_handler(Exception, problems.on_unexpected_error)
    return app


def tool_policy(settings: Settings) -> ToolPolicy:
    """Load the operator's tools and MCP servers, with the keys that may use them.

    Raises:
        ToolLoadError: a setting about them cannot be followed.
    """
    operators = tools_from_settings(settings)
    for sentence in missing_descriptions(operators.toolbox):
        logger.warning("%s", sentence)
    known = {key.get_secret_value() for key in settings.api_keys}
    allowed_owners: dict[str, set[str]] = {}
    for tool, keys in settings.tool_keys.items():
        if tool not in operators.toolbox:
            raise ToolLoadError(f"{ENV_PREFIX}TOOL_KEYS names {quote(tool)}, which is no tool")
        allowed = {key.get_secret_value() for key in keys}
        if not allowed <= known:
            raise ToolLoadError(f"{ENV_PREFIX}TOOL_KEYS has a key for {quote(tool)} that is no API key")
        allowed_owners[tool] = {owner_name(key) for key in allowed}
    return ToolPolicy(operators.toolbox, operators.hosts, allowed_owners)
