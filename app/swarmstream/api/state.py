"""The parts of the server that endpoints use: the state of the application's lifespan."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypedDict, cast

from fastapi import Depends, Request

from swarmstream.settings import Settings

if TYPE_CHECKING:  # endpoints use these parts and make none: main.py does
    from swarmstream.api.auth import KeyRing
    from swarmstream.clock import Clock
    from swarmstream.llm.registry import Registry
    from swarmstream.runs.supervisor import Supervisor
    from swarmstream.tools.mcp.hub import McpHub
    from swarmstream.tools.policy import ToolPolicy


class AppState(TypedDict):
    """The parts of a server that runs."""

    settings: Settings
    clock: "Clock"
    keys: "KeyRing"
    registry: "Registry"
    tools: "ToolPolicy"
    mcp: "McpHub"
    supervisor: "Supervisor"


def state_of(request: Request) -> AppState:
    """Return the state, which uvicorn hands on with every request."""
    return cast(AppState, cast(Mapping[str, object], request.scope["state"]))


# A coroutine function although it waits for nothing: FastAPI runs plain ones in a thread.
async def _settings(request: Request) -> Settings:
    return state_of(request)["settings"]


Operator = Annotated[Settings, Depends(_settings)]
