"""Settings, models, tools and limits of a program's runs, from the same environment as a server's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.llm.aliases import load_aliases
from swarmstream.llm.registry import DEMO_MODEL, Registry
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.runs.limits import RunLimits, plan_limits, run_limits
from swarmstream.settings import Settings
from swarmstream.swarm.limits import PlanLimits
from swarmstream.tools.loading import tools_from_settings
from swarmstream.tools.policy import AllowedTools

_EVERY_HOST = ("*", "localhost", "0.0.0.0/0", "::/0")
"""Allowed where no setting restricts MCP servers: the program's author decides what it connects to."""

_HINT = f', or model_name="{DEMO_MODEL}", which needs none'
"""Ends the message for a program that lacks a provider's key."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts that a run is made with."""

    environ: Mapping[str, str]
    """Environment variables, of which providers' keys are read."""
    registry: Registry
    tools: AllowedTools
    plan_limits: PlanLimits
    limits: RunLimits
    clock: Clock = SYSTEM_CLOCK


def load_environment(
    environ: Mapping[str, str] = os.environ, clock: Clock = SYSTEM_CLOCK, *, hint: str = _HINT
) -> Environment:
    """Read the environment as it is now. `hint` ends the message for a model without credentials."""
    settings = Settings()  # pyright: ignore[reportCallIssue]
    tools = tools_from_settings(settings)
    return Environment(
        environ=environ,
        registry=Registry(
            default_model=settings.default_model,
            environ=environ,
            aliases=load_aliases(settings),
            backend=settings.lane,
            holder="this program",
            hint=hint,
        ),
        tools=tools if settings.mcp_allowed_hosts else replace(tools, hosts=AllowedHosts(_EVERY_HOST)),
        plan_limits=plan_limits(settings),
        limits=replace(run_limits(settings), keys=1),
        clock=clock,
    )
