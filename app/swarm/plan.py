"""What will run: every kind of swarm compiles to one `Plan`; whatever can be wrong is found here, before any byte."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from app.errors import (
    AppError,
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
from app.swarm.conversation import ChatMessage
from app.swarm.flow import parse_flow
from app.swarm.images import image_url
from app.swarm.models import ModelRef, ModelRegistry
from app.swarm.spec import (
    DEFAULT_MAX_TOKENS,
    AgentRequest,
    AgentSpec,
    ImagePart,
    Message,
    Payload,
    RunSpec,
    SwarmRequest,
    unknown_fields,
)

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 100

_LLM_ARGS = frozenset(
    [
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "stop",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "parallel_tool_calls",
    ]
)


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What the operator allows a payload to ask for. `max_turns` counts every agent's every invocation."""

    max_agents: int = 64
    max_stages: int = 256
    max_turns: int = 1000


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters of an agent's model calls; None and absent keys are not sent."""

    max_tokens: int | None
    temperature: float | None
    reasoning_effort: str | None
    thinking_tokens: int | None
    llm_args: dict[str, Any]

    def max_tokens_of(self, model: ModelRef) -> int:
        """What the client asked for; else the default, only as far as the model goes."""
        return self.max_tokens or min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)

    def fields(self, model: ModelRef) -> dict[str, Any]:
        """The parameters under the names that OpenAI's requests have for them."""
        fields: dict[str, Any] = {"max_tokens": self.max_tokens_of(model), **self.llm_args}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        if self.thinking_tokens is not None:
            fields["thinking"] = {"type": "enabled", "budget_tokens": self.thinking_tokens}
        return fields


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent, ready to speak. `models` are tried in order, until one gives its first token."""

    name: str
    system_prompt: str | None
    models: tuple[ModelRef, ...]
    sampling: Sampling
    max_retries: int
    timeout_seconds: float | None


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


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, and what the client should know about the payload."""

    plan: Plan
    swarm_type: str | None
    warnings: tuple[str, ...]


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


def compile_swarm(request: SwarmRequest, models: ModelRegistry, limits: PlanLimits) -> Compiled:
    """The plan of a swarm.

    Raises:
        AppError: anything about the payload that would keep it from running; `location` names the field.
    """
    swarm_type = _swarm_type(request)
    _refuse_what_we_cannot_do(request)
    if not request.agents:
        raise InvalidRequest("a swarm needs at least one agent", location=("agents",))
    if len(request.agents) > limits.max_agents:
        raise LimitExceeded(
            f"{len(request.agents)} agents are more than this server's {limits.max_agents}", location=("agents",)
        )
    agents: dict[str, Agent] = {}
    for index, spec in enumerate(request.agents):
        if spec.agent_name in agents:
            raise DuplicateAgent(
                f"two agents are named {quote(spec.agent_name)}", location=("agents", index, "agent_name")
            )
        agents[spec.agent_name] = _agent(spec, models, at=("agents", index), rules=request.rules)
    _within_sight(limits, request.rearrange_flow or "")
    plan = Plan(
        stages=swarm_type.stages(request, agents),
        openings=_openings(request),
        loops=request.max_loops,
        indexed=_source(request) == "tasks",
        hears_only_last_loop=swarm_type.hears_only_last_loop,
    )
    _within(limits, plan)
    return Compiled(plan, swarm_type.name, _warnings(request, [*_ignored(request, swarm_type), *_silent(plan, agents)]))


def compile_agent(request: AgentRequest, models: ModelRegistry, limits: PlanLimits) -> Compiled:
    """The plan of a single agent: one stage with one turn.

    Raises:
        AppError: as `compile_swarm`.
    """
    _refuse_what_we_cannot_do(request)
    if request.tools_enabled:
        raise UnsupportedOption("this server has no tools", location=("tools_enabled",))
    if not _given(request.task) and not request.history:
        raise NoTask("give a task, or a history that ends with one", location=("task",))
    agent = _agent(request.agent_config, models, at=("agent_config",), rules=None)
    opening = [_message(message, at=("history", index)) for index, message in enumerate(request.history)]
    named = [(request.img, ("img",)), *((image, ("imgs", index)) for index, image in enumerate(request.imgs))]
    images = [_image(image, at) for image, at in named if image]
    if request.task is not None and _given(request.task):
        opening.append(_user(request.task, images))
    elif images:
        raise NoTask("images need a task", location=("task",))
    plan = Plan(stages=(Stage((agent,)),), openings=(tuple(opening),))
    _within(limits, plan)
    return Compiled(plan, None, _warnings(request, []))


def _swarm_type(request: SwarmRequest) -> SwarmType:
    asked = request.swarm_type or ("AgentRearrange" if request.rearrange_flow else "SequentialWorkflow")
    try:
        return SWARM_TYPES[asked]
    except KeyError:
        raise UnknownSwarmType(
            f"this server does not run {quote(asked)}; it runs {', '.join(SWARM_TYPES)}", location=("swarm_type",)
        ) from None


def _refuse_what_we_cannot_do(request: RunSpec) -> None:
    for name in ("background", "max_cost_usd", "max_total_tokens"):
        if getattr(request, name):
            raise UnsupportedOption(f"this server does not support {name}", location=(name,))


def _agent(spec: AgentSpec, models: ModelRegistry, *, at: Location, rules: str | None) -> Agent:
    if spec.max_loops == "auto":
        raise UnsupportedOption('this server does not support max_loops "auto"', location=(*at, "max_loops"))
    for name in (
        "response_format",
        "tools_list_dictionary",
        "selected_tools",
        "mcp_url",
        "mcp_config",
        "mcp_configs",
        "handoffs",
    ):
        if getattr(spec, name):
            raise UnsupportedOption(f"this server does not support {name}", location=(*at, name))
    for name in spec.llm_args:
        if name not in _LLM_ARGS:
            raise UnsupportedOption(
                f"llm_args accepts {', '.join(sorted(_LLM_ARGS))}; not {quote(name)}", location=(*at, "llm_args", name)
            )
    own = _resolve(models, spec.model_name or models.default_model, (*at, "model_name"))
    fallbacks = [_resolve(models, name, (*at, "fallbacks", index)) for index, name in enumerate(spec.fallbacks)]
    return Agent(
        name=spec.agent_name,
        system_prompt="\n\n".join(text for text in (rules, spec.system_prompt) if text) or None,
        models=(own, *fallbacks),
        sampling=Sampling(
            max_tokens=spec.max_tokens if "max_tokens" in spec.model_fields_set else None,
            temperature=spec.temperature,
            reasoning_effort=spec.reasoning_effort,
            thinking_tokens=spec.thinking_tokens,
            llm_args=dict(spec.llm_args),
        ),
        max_retries=spec.num_retries,
        timeout_seconds=spec.timeout,
    )


def _resolve(models: ModelRegistry, name: str, location: Location) -> ModelRef:
    try:
        return models.resolve(name)
    except AppError as error:
        error.location = location
        raise


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
            messages = [_message(message, at=("messages", index)) for index, message in enumerate(request.messages)]
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
