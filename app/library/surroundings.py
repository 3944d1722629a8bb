"""What a program's runs take from the environment: the same settings as a server's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from app.llm.aliases import aliases_of
from app.llm.registry import Registry
from app.runs.limits import plan_limits, run_limits
from app.runs.supervisor import RunLimits
from app.settings import Settings
from app.swarm.plan import PlanLimits
from app.tools.access import ToolAccess
from app.tools.hosts import AllowedHosts
from app.tools.registry import ToolBox, installed_tools, load_tools

_EVERY_HOST = ("*", "localhost", "0.0.0.0/0", "::/0")
"""Where no setting says otherwise: whoever writes the program decides what it reaches."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts that a run is made with."""

    registry: Registry
    tools: ToolAccess
    plan_limits: PlanLimits
    limits: RunLimits


def surroundings(environ: Mapping[str, str] = os.environ) -> Surroundings:
    """As the environment has them now; `environ` is where providers' keys are."""
    settings = Settings()  # pyright: ignore[reportCallIssue]
    return Surroundings(
        registry=Registry(
            default_model=settings.default_model, environ=environ, aliases=aliases_of(settings), lane=settings.lane
        ),
        tools=ToolAccess(
            ToolBox(load_tools(settings.tools, installed_tools())),
            AllowedHosts(settings.mcp_allowed_hosts or _EVERY_HOST),
        ),
        plan_limits=plan_limits(settings),
        limits=run_limits(settings),
    )
