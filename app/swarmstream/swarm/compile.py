"""The compilation of a payload to a plan: all that is wrong with a request is found here, before an answer begins."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from swarmstream.errors import (
    DuplicateAgent,
    InvalidRequest,
    Location,
    NoTask,
    UnknownSwarmType,
    UnsupportedOption,
    quote,
)
from swarmstream.llm.model_ref import ModelRegistry
from swarmstream.swarm.agent_names import name_agents
from swarmstream.swarm.agents import AgentCompiler, model_warnings
from swarmstream.swarm.findings import Findings
from swarmstream.swarm.ignored_fields import REFUSED
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.openings import agent_opening, has_text, swarm_openings, task_source
from swarmstream.swarm.payloads import AgentRequest, AgentSpec, RunSpec, SwarmRequest
from swarmstream.swarm.plan import Agent, Plan, Stage
from swarmstream.swarm.swarm_types import SWARM_TYPES
from swarmstream.swarm.swarm_types.base import SwarmType
from swarmstream.tools.base import Tool
from swarmstream.tools.mcp.server import McpServer
from swarmstream.tools.policy import AllowedTools


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, with what its client should know about the payload."""

    plan: Plan
    swarm_type: str | None
    warnings: tuple[str, ...]
    mcp_servers: Mapping[McpServer, Location] = field(default_factory=dict[McpServer, Location])
    """The MCP servers that its agents need, each with the field that names it first."""


def compile_swarm(
    request: SwarmRequest,
    models: ModelRegistry,
    limits: PlanLimits,
    tools: AllowedTools | None = None,
    function_tools: Mapping[str, Sequence[Tool]] | None = None,
) -> Compiled:
    """Compile a swarm. `tools` are those that its caller may use, by default none; `function_tools` are a program's
    own, by the name of the agent that has them.

    Raises:
        AppError: anything about the payload that would keep it from running; `location` names the field.
    """
    _check_options(request)
    swarm_type = _swarm_type(request)
    if not request.agents:
        raise InvalidRequest("a swarm needs at least one agent", location=("agents",))
    limits.check_agents(request.agents, ("agents",))
    specs: dict[Location, AgentSpec] = {("agents", index): spec for index, spec in enumerate(request.agents)}
    compiler = _compiler(request, specs, models, tools, function_tools, request.rules)
    agents = _compile_team(request, specs, compiler)
    limits.check_flow(request.rearrange_flow or "")
    plan = Plan(
        stages=swarm_type.arrange(request, agents),
        openings=swarm_openings(request),
        loops=request.max_loops,
        hears=swarm_type.hears,
        posted_as="tasks" if task_source(request) == "tasks" else "task",
    )
    limits.check_plan(plan)
    _ignore_losing_fields(request, swarm_type, compiler.findings)
    compiler.findings.sentences.extend(_unused_agents(plan, agents))
    return _compiled(request, plan, swarm_type.name, agents.values(), compiler)


def compile_agent(
    request: AgentRequest,
    models: ModelRegistry,
    limits: PlanLimits,
    tools: AllowedTools | None = None,
    function_tools: Mapping[str, Sequence[Tool]] | None = None,
) -> Compiled:
    """Compile a single agent: one stage with one turn. The rest is as for a swarm.

    Raises:
        AppError: as `compile_swarm`.
    """
    _check_options(request)
    if not has_text(request.task) and not request.history:
        raise NoTask("give a task, or a history that ends with one", location=("task",))
    limits.check_agents([request.agent_config], ("agent_config", "handoffs"))
    at = ("agent_config",)
    compiler = _compiler(request, {at: request.agent_config}, models, tools, function_tools, None)
    enabled = compiler.select_tools(request.tools_enabled, ("tools_enabled",))
    agent = compiler.compile(request.agent_config, at, enabled=enabled)
    plan = Plan(stages=(Stage((agent,)),), openings=(agent_opening(request),))
    limits.check_plan(plan)
    return _compiled(request, plan, None, [agent], compiler)


def _check_options(request: RunSpec) -> None:
    """Raise `UnsupportedOption` for an option whose neglect would do harm."""
    for name, value in (request.model_extra or {}).items():
        if name in REFUSED and value:
            raise UnsupportedOption(REFUSED[name], location=(name,))


def _swarm_type(request: SwarmRequest) -> SwarmType:
    name = request.swarm_type or ("AgentRearrange" if request.rearrange_flow else "SequentialWorkflow")
    try:
        return SWARM_TYPES[name]
    except KeyError:
        raise UnknownSwarmType(
            f"this server does not run {quote(name)}; it runs {', '.join(SWARM_TYPES)}", location=("swarm_type",)
        ) from None


def _compiler(
    request: RunSpec,
    specs: Mapping[Location, AgentSpec],
    models: ModelRegistry,
    tools: AllowedTools | None,
    function_tools: Mapping[str, Sequence[Tool]] | None,
    rules: str | None,
) -> AgentCompiler:
    return AgentCompiler(
        models,
        tools or AllowedTools(),
        name_agents(specs),
        rules,
        function_tools or {},
        needs_prices=request.max_cost_usd is not None,
    )


def _compile_team(
    request: SwarmRequest, specs: Mapping[Location, AgentSpec], compiler: AgentCompiler
) -> dict[str, Agent]:
    """Return the agents by name, in the payload's order.

    Raises:
        DuplicateAgent: two have one name.
        AppError: one of them could not run.
    """
    enabled = compiler.select_tools(request.tools_enabled, ("tools_enabled",))
    agents: dict[str, Agent] = {}
    for at, spec in specs.items():
        name = compiler.names.by_location[at]
        if name in agents:
            raise DuplicateAgent(
                f"two agents are named {quote(name)}; give each an agent_name of its own", location=(*at, "agent_name")
            )
        agents[name] = compiler.compile(spec, at, enabled=enabled)
    return agents


def _ignore_losing_fields(request: SwarmRequest, swarm_type: SwarmType, findings: Findings) -> None:
    """Add the fields that another field makes pointless."""
    source = task_source(request)
    losing = {"task": ("messages", "tasks"), "messages": ("tasks",), "tasks": (), "history": ()}[source]
    for name in losing:
        if getattr(request, name):
            findings.ignore((name,), f"ignored: {source} wins")
    if source == "tasks" and request.history:
        findings.ignore(("history",), "ignored: each of the tasks begins a fresh conversation")
    if request.rearrange_flow is not None and swarm_type.name != "AgentRearrange":
        findings.ignore(("rearrange_flow",), f"ignored: {swarm_type.name} has no flow")


def _unused_agents(plan: Plan, agents: Mapping[str, Agent]) -> Iterator[str]:
    used = {agent.name for stage in plan.stages for agent in stage.agents}
    return (f"agent {quote(name)} is not in the flow" for name in agents if name not in used)


def _compiled(
    request: RunSpec, plan: Plan, swarm_type: str | None, agents: Iterable[Agent], compiler: AgentCompiler
) -> Compiled:
    compiler.findings.sentences.extend(model_warnings(agents))
    warnings = compiler.findings.warnings(request, compiler.names.warnings())
    return Compiled(plan, swarm_type, warnings, compiler.mcp_servers.locations)
