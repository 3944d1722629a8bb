"""What will run: every kind of swarm compiles to one `Plan`; whatever can be wrong is found here, before any byte."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Literal

from app.errors import (
    DuplicateAgent,
    InvalidRequest,
    LimitExceeded,
    Location,
    NoTask,
    UnknownAgent,
    UnknownSwarmType,
    quote,
)
from app.swarm.agents import Agent, AgentCompiler, count_agents, model_warnings, on_lanes_for_tools
from app.swarm.conversation import ChatMessage
from app.swarm.flow import parse_flow
from app.swarm.images import image_url
from app.swarm.models import ModelRegistry
from app.swarm.prompt_size import PromptSizes, text_bytes
from app.swarm.spec import (
    AgentRequest,
    AgentSpec,
    ImagePart,
    Message,
    Payload,
    RunSpec,
    SwarmRequest,
    unknown_fields,
)
from app.tools.access import ToolAccess
from app.tools.mcp import McpServer
from app.tools.tool import Tool

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 100


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What the operator allows a payload to ask for. `max_agents` counts also those that agents may hand off to,
    `max_turns` every agent's every invocation."""

    max_agents: int = 64
    max_stages: int = 256
    max_turns: int = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """Agents that speak side by side, in flow order."""

    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages of agents, gone through `loops` times for each opening."""

    stages: tuple[Stage, ...]
    openings: tuple[tuple[ChatMessage, ...], ...]
    """The messages that each conversation begins with: one for every task."""
    loops: int = 1
    indexed: bool = False
    """Whether the client gave `tasks`, so that turns say which one they work on."""
    hears_only_last_loop: bool = False
    """Whether siblings of the loops before the last are forgotten (ConcurrentWorkflow)."""

    @property
    def turns(self) -> int:
        return sum(len(stage.agents) for stage in self.stages) * self.loops * len(self.openings)

    def prompt_bytes(self) -> int:
        """What the prompts of its widest stage take at once, without what its agents will have said by then."""
        sizes = PromptSizes()
        opening = max((sizes.of(opening).bytes for opening in self.openings), default=0)
        return max((sum(opening + _own_bytes(agent) for agent in stage.agents) for stage in self.stages), default=0)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, and what the client should know about the payload."""

    plan: Plan
    swarm_type: str | None
    warnings: tuple[str, ...]
    mcp_servers: Mapping[McpServer, Location] = field(default_factory=dict[McpServer, Location])
    """The MCP servers that its agents need, and which field names each."""


@dataclass(frozen=True, slots=True)
class SwarmType:
    """A kind of swarm that we run: its stages are made by `stages`."""

    name: str
    description: str
    stages: Callable[[SwarmRequest, dict[str, Agent]], tuple[Stage, ...]]
    hears_only_last_loop: bool = False


def _one_after_another(_: SwarmRequest, agents: dict[str, Agent]) -> tuple[Stage, ...]:
    return tuple(Stage((agent,)) for agent in agents.values())


def _side_by_side(_: SwarmRequest, agents: dict[str, Agent]) -> tuple[Stage, ...]:
    return (Stage(tuple(agents.values())),)


def _by_flow(request: SwarmRequest, agents: dict[str, Agent]) -> tuple[Stage, ...]:
    if request.rearrange_flow is None:
        raise InvalidRequest('AgentRearrange needs a rearrange_flow such as "A, B -> C"', location=("rearrange_flow",))
    stages: list[Stage] = []
    for names in parse_flow(request.rearrange_flow):
        for name in names:
            if name.name not in agents:
                raise UnknownAgent(
                    f"the flow names {quote(name.name)}, which is none of the agents (column {name.column})",
                    location=("rearrange_flow",),
                )
        stages.append(Stage(tuple(agents[name.name] for name in names)))
    return tuple(stages)


SWARM_TYPES = {
    swarm_type.name: swarm_type
    for swarm_type in (
        SwarmType(
            "SequentialWorkflow", "Agents speak one after another, each reading all before it.", _one_after_another
        ),
        SwarmType(
            "AgentRearrange",
            'A flow says who speaks when: "A, B -> C" runs A and B side by side, then C, who reads both.',
            _by_flow,
        ),
        SwarmType(
            "ConcurrentWorkflow",
            "All agents work on the task at once, none hearing the others.",
            _side_by_side,
            hears_only_last_loop=True,
        ),
    )
}


def _own_bytes(agent: Agent) -> int:
    """Of what an agent alone is told."""
    return text_bytes([agent.rules, agent.system_prompt])


def compile_swarm(
    request: SwarmRequest,
    models: ModelRegistry,
    limits: PlanLimits,
    tools: ToolAccess | None = None,
    own_tools: Mapping[str, Sequence[Tool]] | None = None,
) -> Compiled:
    """The plan of a swarm. `tools` is what its caller may use, by default the built-in ones; `own_tools` are more, by
    the name of the agent that has them.

    Raises:
        AppError: anything about the payload that would keep it from running; `location` names the field.
    """
    swarm_type = _swarm_type(request)
    if not request.agents:
        raise InvalidRequest("a swarm needs at least one agent", location=("agents",))
    _few_agents(limits, request.agents, ("agents",))
    compiler = AgentCompiler(
        models, tools or ToolAccess(), request.rules, own_tools or {}, request.max_cost_usd is not None
    )
    agents: dict[str, Agent] = {}
    for index, spec in enumerate(request.agents):
        if spec.agent_name in agents:
            raise DuplicateAgent(
                f"two agents are named {quote(spec.agent_name)}", location=("agents", index, "agent_name")
            )
        agents[spec.agent_name] = compiler.agent(spec, ("agents", index))
    _within_sight(limits, request.rearrange_flow or "")
    plan = Plan(
        stages=swarm_type.stages(request, agents),
        openings=_openings(request),
        loops=request.max_loops,
        indexed=_source(request) == "tasks",
        hears_only_last_loop=swarm_type.hears_only_last_loop,
    )
    _within(limits, plan)
    notes = [*_ignored(request, swarm_type), *_silent(plan, agents), *model_warnings(agents.values())]
    return Compiled(plan, swarm_type.name, _warnings(request, notes), compiler.mcp_servers)


def compile_agent(
    request: AgentRequest,
    models: ModelRegistry,
    limits: PlanLimits,
    tools: ToolAccess | None = None,
    own_tools: Mapping[str, Sequence[Tool]] | None = None,
) -> Compiled:
    """The plan of a single agent: one stage with one turn. The rest is as for a swarm.

    Raises:
        AppError: as `compile_swarm`.
    """
    if not _given(request.task) and not request.history:
        raise NoTask("give a task, or a history that ends with one", location=("task",))
    _few_agents(limits, [request.agent_config], ("agent_config", "handoffs"))
    needs_prices = request.max_cost_usd is not None
    compiler = AgentCompiler(models, tools or ToolAccess(), None, own_tools or {}, needs_prices)
    agent = compiler.agent(request.agent_config, ("agent_config",))
    enabled = [tool for tool in compiler.selected(request.tools_enabled, ("tools_enabled",)) if tool not in agent.tools]
    agent = on_lanes_for_tools(replace(agent, tools=(*agent.tools, *enabled)), ("agent_config",))
    opening = _conversation(request.history, ("history",))
    named = [(request.img, ("img",)), *((image, ("imgs", index)) for index, image in enumerate(request.imgs))]
    images = [_image(image, at) for image, at in named if image]
    if request.task is not None and _given(request.task):
        opening.append(_user(request.task, images))
    elif images:
        raise NoTask("images need a task", location=("task",))
    plan = Plan(stages=(Stage((agent,)),), openings=(tuple(opening),))
    _within(limits, plan)
    return Compiled(plan, None, _warnings(request, [*model_warnings([agent])]), compiler.mcp_servers)


def _swarm_type(request: SwarmRequest) -> SwarmType:
    asked = request.swarm_type or ("AgentRearrange" if request.rearrange_flow else "SequentialWorkflow")
    try:
        return SWARM_TYPES[asked]
    except KeyError:
        raise UnknownSwarmType(
            f"this server does not run {quote(asked)}; it runs {', '.join(SWARM_TYPES)}", location=("swarm_type",)
        ) from None


def _source(request: SwarmRequest) -> Literal["task", "messages", "tasks"]:
    """What the swarm works on: `task` wins over `messages` wins over `tasks`."""
    if _given(request.task):
        return "task"
    if request.messages:
        return "messages"
    if request.tasks:
        return "tasks"
    raise NoTask("give a task, messages or tasks", location=("task",))


def _openings(request: SwarmRequest) -> tuple[tuple[ChatMessage, ...], ...]:
    images = [_image(request.img, ("img",))] if request.img else []
    match _source(request):
        case "task":
            return ((_user(request.task or "", images),),)
        case "messages":
            messages = _conversation(request.messages, ("messages",))
            return ((*messages, {"role": "user", "content": images}),) if images else (tuple(messages),)
        case "tasks":
            for index, task in enumerate(request.tasks):
                if not _given(task):
                    raise NoTask("a task is empty", location=("tasks", index))
            return tuple((_user(task, images),) for task in request.tasks)


def _given(task: str | None) -> bool:
    return bool(task and task.strip())


def _user(task: str, images: Sequence[dict[str, Any]]) -> ChatMessage:
    return {"role": "user", "content": [{"type": "text", "text": task}, *images] if images else task}


def _conversation(messages: Sequence[Message], at: Location) -> list[ChatMessage]:
    """The messages as providers get them; each result of a tool answers a call that was made before it."""
    called: set[str] = set()
    for index, message in enumerate(messages):
        called.update(call.id for call in message.tool_calls or ())
        if message.role == "tool" and message.tool_call_id not in called:
            raise InvalidRequest(
                "a tool's message answers a call: its tool_call_id is that of a tool call before it",
                location=(*at, index, "tool_call_id"),
            )
    return [_message(message, at=(*at, index)) for index, message in enumerate(messages)]


def _message(message: Message, *, at: Location) -> ChatMessage:
    """The message as providers get it: what is known of it, its images made URLs."""
    known: ChatMessage = {name: value for name in Message.model_fields if (value := getattr(message, name)) is not None}
    if isinstance(message.content, list):
        known["content"] = [
            _image(part.image_url.url, (*at, "content", index), detail=part.image_url.detail)
            if isinstance(part, ImagePart)
            else _known(part)
            for index, part in enumerate(message.content)
        ]
    if message.tool_calls:
        known["tool_calls"] = [{**_known(call), "function": _known(call.function)} for call in message.tool_calls]
    # OpenAI's protocol has the key also where it is null: an assistant message that only calls tools.
    return {"content": None, **known}


def _known(part: Payload) -> dict[str, Any]:
    """The fields of a part that we know, without what is not given."""
    return part.model_dump(include=set(type(part).model_fields), exclude_none=True)


def _image(image: str, at: Location, *, detail: str | None = None) -> dict[str, Any]:
    url = {"url": image_url(image, location=at)}
    return {"type": "image_url", "image_url": {**url, "detail": detail} if detail else url}


def _few_agents(limits: PlanLimits, specs: Sequence[AgentSpec], at: Location) -> None:
    """Refuse too many before anything is made of them."""
    if count_agents(specs, limit=limits.max_agents) > limits.max_agents:
        raise LimitExceeded(
            f"there are more agents, with those to hand off to, than this server's {limits.max_agents} "
            "(SWARMSTREAM_MAX_AGENTS)",
            location=at,
        )


def _within_sight(limits: PlanLimits, flow: str) -> None:
    """Refuse a flow that is too long to be worth reading: it fits the body and would hold everybody up."""
    if flow.count("->") >= limits.max_stages or flow.count(",") >= limits.max_turns:
        raise LimitExceeded(
            f"the flow has more than this server's {limits.max_stages} stages or {limits.max_turns} turns",
            location=("rearrange_flow",),
        )


def _within(limits: PlanLimits, plan: Plan) -> None:
    if len(plan.stages) > limits.max_stages:
        raise LimitExceeded(
            f"{len(plan.stages)} stages are more than this server's {limits.max_stages}", location=("rearrange_flow",)
        )
    if plan.turns > limits.max_turns:
        raise LimitExceeded(
            f"agents × loops × tasks make {plan.turns} turns, more than this server's {limits.max_turns}",
            location=("max_loops",),
        )


def _ignored(request: SwarmRequest, swarm_type: SwarmType) -> list[str]:
    """The fields that another field made pointless."""
    source = _source(request)
    losing = {"task": ("messages", "tasks"), "messages": ("tasks",), "tasks": ()}[source]
    notes = [f"{name} ignored: {source} wins" for name in losing if getattr(request, name)]
    if request.rearrange_flow is not None and swarm_type.name != "AgentRearrange":
        notes.append(f"rearrange_flow ignored: {swarm_type.name} has no flow")
    return notes


def _silent(plan: Plan, agents: dict[str, Agent]) -> list[str]:
    speaking = {agent.name for stage in plan.stages for agent in stage.agents}
    return [f"agent {quote(name)} is not in the flow" for name in agents if name not in speaking]


def _warnings(request: RunSpec, notes: Sequence[str]) -> tuple[str, ...]:
    unknown = (f"unknown field {path}" for path in unknown_fields(request))
    warnings = islice(chain(unknown, notes), _MAX_WARNINGS)
    return tuple(warning[:_MAX_WARNING_LENGTH] for warning in warnings)
