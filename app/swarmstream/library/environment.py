"""What a program's runs take from the environment: the same settings as a server's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.llm.aliases import aliases_of
from swarmstream.llm.registry import DEMO_MODEL, Registry
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.runs.limits import RunLimits, plan_limits, run_limits
from swarmstream.settings import Settings
from swarmstream.swarm.limits import PlanLimits
from swarmstream.tools.loading import tools_from_settings
from swarmstream.tools.policy import AllowedTools

_EVERY_HOST = ("*", "localhost", "0.0.0.0/0", "::/0")
"""Where no setting says otherwise: whoever writes the program decides what it reaches."""

_HINT = f', or model_name="{DEMO_MODEL}", which needs none'
"""For whoever writes the program."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts that a run is made with."""

    registry: Registry
    tools: AllowedTools
    plan_limits: PlanLimits
    limits: RunLimits
    clock: Clock = SYSTEM_CLOCK


def surroundings(
    environ: Mapping[str, str] = os.environ, clock: Clock = SYSTEM_CLOCK, *, hint: str = _HINT
) -> Environment:
    """As the environment has them now; `environ` is where providers' keys are, `hint` what to do without."""
    settings = Settings()  # pyright: ignore[reportCallIssue]
    tools = tools_from_settings(settings)
    return Environment(
        registry=Registry(
            default_model=settings.default_model,
            environ=environ,
            aliases=aliases_of(settings),
            lane=settings.lane,
            holder="this program",
            hint=hint,
        ),
        tools=tools if settings.mcp_allowed_hosts else replace(tools, hosts=AllowedHosts(_EVERY_HOST)),
        plan_limits=plan_limits(settings),
        limits=replace(run_limits(settings), keys=1),
        clock=clock,
    )
