"""Payloads of both routes, compiled without a server."""

from typing import Any

from swarmstream.main import tool_policy
from swarmstream.settings import Settings
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest
from swarmstream.swarm.plan import Agent
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import toolbox
from tests.fakes.scripted_model import AnyModel

TASK = {"role": "user", "content": "go"}
ASKED, ANSWERED = {"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}
IMAGES = ["https://a.example/1.png", "https://a.example/2.png"]


def read_file(path: str) -> str:
    """An operator's own, named as one of the hosted API's."""
    return path


def tools() -> AllowedTools:
    """The built-in tools and `read_file`."""
    return tool_policy(Settings.model_construct(tools=(f"{__name__}:read_file",), api_keys=())).of("")


BUILT_IN = AllowedTools(toolbox())


def swarm(*, access: AllowedTools = BUILT_IN, **fields: Any) -> Compiled:
    request = SwarmRequest.model_validate({"agents": [{"agent_name": "A"}], "task": "go", **fields})
    return compile_swarm(request, AnyModel(), PlanLimits(), access)


def single(*, access: AllowedTools = BUILT_IN, **fields: Any) -> Compiled:
    request = AgentRequest.model_validate({"agent_config": {"agent_name": "A"}, "task": "go", **fields})
    return compile_agent(request, AnyModel(), PlanLimits(), access)


def agent(**spec: Any) -> Agent:
    return single(agent_config=spec).plan.stages[0].agents[0]


def warned(**spec: Any) -> tuple[str, ...]:
    """The warnings of a swarm whose agent has these fields."""
    return swarm(agents=[{"agent_name": "A", **spec}]).warnings


def names(agents: tuple[Agent, ...]) -> list[Any]:
    """The agents' names, each with those that it may hand off to."""
    return [(each.name, names(each.handoffs)) if each.handoffs else each.name for each in agents]


def everyone(compiled: Compiled) -> list[Any]:
    return [name for stage in compiled.plan.stages for name in names(stage.agents)]
