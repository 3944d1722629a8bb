"""What endpoints ask for: the server's parts, the caller, the body, as annotated types."""

from collections.abc import Mapping
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.api.auth import KeyRing
from app.api.body import read_spec
from app.llm.registry import Registry
from app.runs.supervisor import Supervisor
from app.settings import Settings
from app.swarm.spec import AgentRequest, SwarmRequest


class Parts(TypedDict):
    """The lifespan's state: what the server is made of while it runs."""

    settings: Settings
    keys: KeyRing
    registry: Registry
    supervisor: Supervisor


def parts_of(request: Request) -> Parts:
    """The server's parts, which uvicorn hands on with every request."""
    return cast(Parts, cast(Mapping[str, object], request.scope["state"]))


def _settings(request: Request) -> Settings:
    return parts_of(request)["settings"]


def _registry(request: Request) -> Registry:
    return parts_of(request)["registry"]


def _supervisor(request: Request) -> Supervisor:
    return parts_of(request)["supervisor"]


def _caller(request: Request) -> str:
    return parts_of(request)["keys"].owner(request.headers)


Operator = Annotated[Settings, Depends(_settings)]
Models = Annotated[Registry, Depends(_registry)]
Runs = Annotated[Supervisor, Depends(_supervisor)]
Caller = Annotated[str, Depends(_caller)]
"""An opaque name for the key that the request came with; requests without a valid one are refused."""


async def _agent_request(request: Request, _: Caller, settings: Operator) -> AgentRequest:
    return await read_spec(request, AgentRequest, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)


async def _swarm_request(request: Request, _: Caller, settings: Operator) -> SwarmRequest:
    return await read_spec(request, SwarmRequest, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)


AgentBody = Annotated[AgentRequest, Depends(_agent_request)]
SwarmBody = Annotated[SwarmRequest, Depends(_swarm_request)]
