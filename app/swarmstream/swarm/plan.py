"""What will run: every kind of swarm compiles to one `Plan`; whatever can be wrong is found here, before any byte."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Literal

from swarmstream.errors import (
    DuplicateAgent,
    InvalidRequest,
    LimitExceeded,
    Location,
    NoTask,
    UnknownAgent,
    UnknownSwarmType,
    UnsupportedOption,
    quote,
)
from swarmstream.llm.base import ChatMessage
from swarmstream.llm.model_ref import ModelRegistry
from swarmstream.llm.prompt_size import PromptSizes, text_bytes
from swarmstream.swarm.agent_names import agent_names
from swarmstream.swarm.agents import Agent, AgentCompiler, count_agents, model_warnings
from swarmstream.swarm.flow import parse_flow
from swarmstream.swarm.ignored_fields import REFUSED, Unread, unread_fields
from swarmstream.swarm.images import image_url
from swarmstream.swarm.payloads import AgentRequest, AgentSpec, ImagePart, Message, Payload, RunSpec, SwarmRequest
from swarmstream.tools.functions import Tool
from swarmstream.tools.mcp.server import McpServer
from swarmstream.tools.policy import ToolAccess

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 200
_MAX_STRICT_BYTES = 500
"""What a refusal of fields may take, those named in it and what we say of them."""


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
        opening = max((sizes.measure(opening).bytes for opening in self.openings), default=0)
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
    _is_for_now(request)
    swarm_type = _swarm_type(request)
    if not request.agents:
        raise InvalidRequest("a swarm needs at least one agent", location=("agents",))
    _few_agents(limits, request.agents, ("agents",))
    specs: dict[Location, AgentSpec] = {("agents", index): spec for index, spec in enumerate(request.agents)}
    names = agent_names(specs)
    compiler = AgentCompiler(
        models, tools or ToolAccess(), names, request.rules, own_tools or {}, request.max_cost_usd is not None
    )
    enabled = compiler.selected(request.tools_enabled, ("tools_enabled",))
    agents: dict[str, Agent] = {}
    for at, spec in specs.items():
        name = names.of[at]
        if name in agents:
            raise DuplicateAgent(
                f"two agents are named {quote(name)}; give each an agent_name of its own", location=(*at, "agent_name")
            )
        agents[name] = compiler.agent(spec, at, enabled=enabled)
    _within_sight(limits, request.rearrange_flow or "")
    plan = Plan(
        stages=swarm_type.stages(request, agents),
        openings=_openings(request),
        loops=request.max_loops,
        indexed=_source(request) == "tasks",
        hears_only_last_loop=swarm_type.hears_only_last_loop,
    )
    _within(limits, plan)
    compiler.unread.extend(_ignored(request, swarm_type))
    compiler.notes.extend(_silent(plan, agents))
    compiler.notes.extend(model_warnings(agents.values()))
    return Compiled(plan, swarm_type.name, _warnings(request, compiler), compiler.mcp_servers)


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
    _is_for_now(request)
    if not _given(request.task) and not request.history:
        raise NoTask("give a task, or a history that ends with one", location=("task",))
    _few_agents(limits, [request.agent_config], ("agent_config", "handoffs"))
    names = agent_names({("agent_config",): request.agent_config})
    needs_prices = request.max_cost_usd is not None
    compiler = AgentCompiler(models, tools or ToolAccess(), names, None, own_tools or {}, needs_prices)
    enabled = compiler.selected(request.tools_enabled, ("tools_enabled",))
    agent = compiler.agent(request.agent_config, ("agent_config",), enabled=enabled)
    opening = _conversation(request.history, ("history",))
    images = _images(request)
    if request.task is not None and _given(request.task):
        opening.append(_user(request.task, images))
    elif images:
        raise NoTask("images need a task", location=("task",))
    plan = Plan(stages=(Stage((agent,)),), openings=(tuple(opening),))
    _within(limits, plan)
    compiler.notes.extend(model_warnings([agent]))
    return Compiled(plan, None, _warnings(request, compiler), compiler.mcp_servers)


def _is_for_now(request: RunSpec) -> None:
    for name, value in (request.model_extra or {}).items():
        if name in REFUSED and value:
            raise UnsupportedOption(REFUSED[name], location=(name,))


def _swarm_type(request: SwarmRequest) -> SwarmType:
    asked = request.swarm_type or ("AgentRearrange" if request.rearrange_flow else "SequentialWorkflow")
    try:
        return SWARM_TYPES[asked]
    except KeyError:
        raise UnknownSwarmType(
            f"this server does not run {quote(asked)}; it runs {', '.join(SWARM_TYPES)}", location=("swarm_type",)
        ) from None


def _source(request: SwarmRequest) -> Literal["task", "messages", "tasks", "history"]:
    """What the swarm works on: `task` wins over `messages` wins over `tasks`, which win over a `history` by itself."""
    if _given(request.task):
        return "task"
    if request.messages:
        return "messages"
    if request.tasks:
        return "tasks"
    if request.history:
        return "history"
    raise NoTask("give a task, messages or tasks", location=("task",))


def _openings(request: SwarmRequest) -> tuple[tuple[ChatMessage, ...], ...]:
    images = _images(request)
    history = _conversation(request.history, ("history",))
    match _source(request):
        case "task":
            return ((*history, _user(request.task or "", images)),)
        case "messages" | "history":
            messages = [*history, *_conversation(request.messages, ("messages",))]
            return ((*messages, {"role": "user", "content": images}),) if images else (tuple(messages),)
        case "tasks":
            for index, task in enumerate(request.tasks):
                if not _given(task):
                    raise NoTask("a task is empty", location=("tasks", index))
            return tuple((_user(task, images),) for task in request.tasks)


def _images(request: RunSpec) -> list[dict[str, Any]]:
    named = [(request.img, ("img",)), *((image, ("imgs", index)) for index, image in enumerate(request.imgs))]
    return [_image(image, at) for image, at in named if image]


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


def _ignored(request: SwarmRequest, swarm_type: SwarmType) -> Iterator[Unread]:
    """The fields that another field made pointless."""
    source = _source(request)
    losing = {"task": ("messages", "tasks"), "messages": ("tasks",), "tasks": (), "history": ()}[source]
    for name in losing:
        if getattr(request, name):
            yield Unread((name,), f"ignored: {source} wins", is_known=True)
    if source == "tasks" and request.history:
        yield Unread(("history",), "ignored: each of the tasks begins a fresh conversation", is_known=True)
    if request.rearrange_flow is not None and swarm_type.name != "AgentRearrange":
        yield Unread(("rearrange_flow",), f"ignored: {swarm_type.name} has no flow", is_known=True)


def _silent(plan: Plan, agents: dict[str, Agent]) -> list[str]:
    speaking = {agent.name for stage in plan.stages for agent in stage.agents}
    return [f"agent {quote(name)} is not in the flow" for name in agents if name not in speaking]


def _warnings(request: RunSpec, compiler: AgentCompiler) -> tuple[str, ...]:
    """What the client should know.

    Raises:
        InvalidRequest: some of it is in vain, and the client wanted no such request to run.
    """
    unread = list(islice(chain(unread_fields(request), compiler.unread), _MAX_WARNINGS))
    if request.strict and unread:
        raise _refused(unread)
    notes = [*compiler.names.notes(), *(each.warning for each in unread), *compiler.notes]
    return tuple(_cut(note, _MAX_WARNING_LENGTH) for note in notes[:_MAX_WARNINGS])


def _refused(unread: Sequence[Unread]) -> InvalidRequest:
    """The refusal that names these fields, so many of them as fit."""
    detail = "nothing would act on these fields (strict is set):"
    for index, each in enumerate(unread):
        hint = f" ({each.hint})" if each.hint and not each.is_known else ""
        named = f"{',' if index else ''} {each.path}{hint}"
        if len((detail + named).encode()) > _MAX_STRICT_BYTES:
            detail += ", …"
            break
        detail += named
    return InvalidRequest(detail, location=unread[0].at)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
