"""Events of a run, as one union. The first is `RunDescribed`, the last always `RunEnded`.

The journal stores these as they are, so a field is never renamed; `swarmstream.wire` makes of them what clients see.
Times are `t_ms`, milliseconds since the run began. `turn`, `stage`, `loop` and `step` count from 1, `task_index` from
0.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

RunKind: TypeAlias = Literal["swarm", "agent"]
TurnStatus: TypeAlias = Literal["success", "failed", "cancelled"]
EndStatus: TypeAlias = Literal["success", "failed", "cancelled", "timed_out", "budget_exceeded", "interrupted"]

MAX_EVENT_ID = (1 << 53) - 1
"""The largest integer that JavaScript reads exactly."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and their cost. `input_tokens` includes the cached ones, `output_tokens` the reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    input_cost_usd: float = 0.0
    output_cost_usd: float = 0.0
    priced: bool = True
    """False: some of it has no known price and counts 0."""
    estimated: bool = False
    """True: some of it was counted by us because the provider gave no figures."""

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> float:
        return self.input_cost_usd + self.output_cost_usd

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            input_cost_usd=self.input_cost_usd + other.input_cost_usd,
            output_cost_usd=self.output_cost_usd + other.output_cost_usd,
            priced=self.priced and other.priced,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class RunDescribed:
    """Always first: the run's id and the description that its payload gives of it."""

    t_ms: int
    job_id: str
    kind: RunKind
    name: str | None
    description: str | None
    swarm_type: str | None
    number_of_agents: int
    service_tier: str
    temperature: float | None
    created_at: datetime
    warnings: tuple[str, ...]
    metadata: dict[str, Any] | None
    max_calls: int | None = None
    """The bound on calls of models; None in the records of releases that had none."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Always second, stored before the first model call."""

    t_ms: int


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """An agent's turn begins."""

    t_ms: int
    agent: str
    turn: int
    stage: int
    loop: int
    task_index: int | None
    model: str
    lane: str


class TextDelta(Struct, frozen=True, gc=False, array_like=True):
    """A delta of a provider's text. A struct, for building one must cost next to nothing."""

    t_ms: int
    agent: str
    turn: int
    text: str
    step: int = 1
    """The model call within the turn."""


class ReasoningDelta(Struct, frozen=True, gc=False, array_like=True):
    """A delta of a model's thinking."""

    t_ms: int
    agent: str
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for. `arguments` is its own text, JSON if it can write that."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool begins to run."""

    t_ms: int
    agent: str
    turn: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool has ended; `output` is what the model is sent."""

    t_ms: int
    agent: str
    turn: int
    tool_call_id: str
    tool: str
    output: str
    is_error: bool
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """Something that a tool wrote to the stream, or the place of an autonomous agent in its plan."""

    t_ms: int
    agent: str
    turn: int
    name: str
    data: Any
    """Any JSON value."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a turn or a run failed; no text of a provider's is in it."""

    code: str
    message: str
    status: int
    """The HTTP status, should no byte of the answer have been sent."""
    retryable: bool


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """Just before the `TurnEnded` of a turn that failed."""

    t_ms: int
    agent: str
    turn: int
    failure: Failure
    attempts: int
    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class TurnRestarted:
    """Only after a crash: a turn that was interrupted begins again. Its events from `discard_from` on do not count."""

    t_ms: int
    agent: str
    turn: int
    attempt: int
    discard_from: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over; `output` is its final answer, or what there was of it."""

    t_ms: int
    agent: str
    turn: int
    task_index: int | None
    model: str
    """The model that answered: the agent's own or one of its fallbacks."""
    output: str
    status: TurnStatus
    finish_reason: str | None
    usage: Usage
    duration_seconds: float
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the client is to run, where the agent has client tools."""
    handed_to: str | None = None
    """The agent that the turn was handed off to, whose answer stands for this one's."""
    handed_message: str = ""
    """The message to that agent."""
    stage: int = 1
    loop: int = 1
    position: int = 0
    """Of the agent within its stage; an agent that was handed off to has the position of the first one."""
    warnings: tuple[str, ...] = ()
    """Warnings that came up during the turn: fields that its model refused."""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run itself failed: before `UsageTotalled`."""

    t_ms: int
    failure: Failure
    elapsed_seconds: float
    active_agents: tuple[str, ...]
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """The usage of all turns of one agent."""

    agent: str
    turns: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class UsageTotalled:
    """The usage of the run: once, near the end, also after a failure."""

    t_ms: int
    total: Usage
    agents: tuple[AgentUsage, ...]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The end of the run: exactly once, always last."""

    t_ms: int
    status: EndStatus
    duration_seconds: float
    failed_agents: tuple[str, ...]


Event: TypeAlias = (
    RunDescribed
    | RunStarted
    | TurnStarted
    | TurnRestarted
    | TextDelta
    | ReasoningDelta
    | ToolStarted
    | ToolEnded
    | CustomEvent
    | TurnFailed
    | TurnEnded
    | RunFailed
    | UsageTotalled
    | RunEnded
)
