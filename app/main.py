"""The composition root: settings become a server."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from app import __version__
from app.api import catalog, completions, health, problems, runs
from app.api.auth import KeyRing
from app.api.deps import Parts
from app.api.middleware import RequestIds
from app.api.openapi import describe
from app.engine.clocks import TurnClocks
from app.errors import AppError
from app.llm.aliases import aliases_of
from app.llm.base import ChatModel
from app.llm.lanes import Lanes
from app.llm.registry import Registry
from app.runs.journal import Journal
from app.runs.memory_journal import MemoryJournal
from app.runs.supervisor import RunLimits, Supervisor
from app.settings import Settings

_CORS_REQUEST_HEADERS = [
    "x-api-key",
    "authorization",
    "content-type",
    "last-event-id",
    "idempotency-key",
    "x-accel-buffering",
    "traceparent",
]
_CORS_EXPOSED_HEADERS = [
    "Location",
    "X-Request-Id",
    "Retry-After",
    "X-RateLimit-Limit-Minute",
    "X-RateLimit-Remaining-Minute",
    "X-RateLimit-Limit-Day",
    "X-RateLimit-Remaining-Day",
    "X-RateLimit-Reset",
    "X-RateLimit-Tier",
]


def create_app(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    models: Mapping[str, ChatModel] | None = None,
    journal: Journal | None = None,
    preload: bool = False,
) -> FastAPI:
    """A server made of these parts; those not given are made here.

    `environ` is where we look for providers' keys (default: the process's, which litellm itself reads in any case);
    `models` are the adapters by lane; with `preload`, litellm is imported before the first request and not by the
    first call.
    """
    environ = os.environ if environ is None else environ
    registry = Registry(
        default_model=settings.default_model, environ=environ, aliases=aliases_of(settings), lane=settings.lane
    )
    keys = KeyRing(key.get_secret_value() for key in settings.api_keys)
    lanes = Lanes(environ)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[Parts]:
        if preload:
            await lanes["litellm"].ready()
        its_journal = journal or MemoryJournal(
            retain_seconds=settings.retain_seconds, retain_bytes=settings.retain_bytes
        )
        try:
            async with Supervisor(its_journal, models or lanes, run_limits(settings)) as supervisor:
                yield Parts(settings=settings, keys=keys, registry=registry, supervisor=supervisor)
        finally:
            await its_journal.close()
            await lanes.close()

    app = FastAPI(
        title="swarmstream",
        version=__version__,
        lifespan=lifespan,
        docs_url="/docs" if settings.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        # A redirect would make clients repeat their key, behind a proxy even to an http:// address.
        redirect_slashes=False,
    )
    for module in (completions, runs, catalog, health):
        app.include_router(module.router)
    app.add_exception_handler(AppError, problems.on_app_error)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(ClientDisconnect, problems.on_client_gone)
    app.add_exception_handler(Exception, problems.on_bug)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_EXPOSED_HEADERS,
        )
    app.add_middleware(RequestIds)
    describe(app)
    return app


def run_limits(settings: Settings) -> RunLimits:
    return RunLimits(
        max_runs=settings.max_runs,
        run_seconds=settings.run_seconds,
        disconnect_grace_seconds=settings.disconnect_grace_seconds,
        clocks=TurnClocks(
            first_token_seconds=settings.first_token_seconds,
            idle_seconds=settings.idle_seconds,
            turn_seconds=settings.turn_seconds,
        ),
    )
