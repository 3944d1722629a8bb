"""What endpoints ask for: the server's parts, the caller, the body, as annotated types."""

from collections.abc import Mapping
from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from swarmstream.api.auth import KeyRing
from swarmstream.clock import Clock
from swarmstream.llm.registry import Registry
from swarmstream.runs.supervisor import Supervisor
from swarmstream.settings import Settings
from swarmstream.shares import Owner, current_owner
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.tools.policy import ToolAccess, ToolPolicy


class AppState(TypedDict):
    """The lifespan's state: what the server is made of while it runs."""

    settings: Settings
    clock: Clock
    keys: KeyRing
    registry: Registry
    tools: ToolPolicy
    mcp: McpHub
    supervisor: Supervisor


def state_of(request: Request) -> AppState:
    """The server's parts, which uvicorn hands on with every request."""
    return cast(AppState, cast(Mapping[str, object], request.scope["state"]))


# Each of these is a coroutine function although it waits for nothing: FastAPI runs plain ones in a thread.


async def _settings(request: Request) -> Settings:
    return state_of(request)["settings"]


async def _registry(request: Request) -> Registry:
    return state_of(request)["registry"]


async def _supervisor(request: Request) -> Supervisor:
    return state_of(request)["supervisor"]


async def authenticate(request: Request) -> str:
    """An opaque name for the key that the request came with; requests without a valid one are refused."""
    keys = state_of(request)["keys"]
    owner = keys.owner(request.headers)
    current_owner.set(Owner(owner, of=len(keys)))
    return owner


async def _tool_access(request: Request) -> ToolAccess:
    return state_of(request)["tools"].of(await authenticate(request))


Operator = Annotated[Settings, Depends(_settings)]
Models = Annotated[Registry, Depends(_registry)]
Runs = Annotated[Supervisor, Depends(_supervisor)]
Caller = Annotated[str, Depends(authenticate)]
Tools = Annotated[ToolAccess, Depends(_tool_access)]
