"""The shapes that clients receive: the `data` of every event and the JSON answers (WIRE.md, sections 3 and 4).

What we make ourselves is typed and not validated; a test holds what is sent to the document that is made from these.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from app.events import EndStatus, RunKind, TurnStatus


class Frame(TypedDict):
    """The `data` of an event. `t` is milliseconds since the run began, as stored."""

    t: int


# --- Usage ----------------------------------------------------------------------------------------------------------


class AgentUsageRow(TypedDict):
    """What one agent consumed, in tokens and USD."""

    agent: str
    turns: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float


class RunUsage(TypedDict):
    """What both kinds of usage have in common. `priced` is false where a model has no known price and counts 0;
    `estimated` is true where a provider gave no figures and we counted."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    agents: list[AgentUsageRow]
    priced: bool
    estimated: bool


class AgentRunUsage(RunUsage):
    """Usage on the agent route. Costs are USD."""

    img_cost: float
    total_cost: float


class TokenCounts(TypedDict):
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int


class CostBreakdown(TypedDict):
    agent_cost: float
    input_token_cost: float
    output_token_cost: float
    token_counts: TokenCounts
    num_agents: int
    night_time_discount_applied: bool


class BillingInfo(TypedDict):
    """The hosted API's bill, in USD; this server sells nothing, so there are no discounts and no fee for agents."""

    cost_breakdown: CostBreakdown
    total_cost: float
    discount_active: bool
    discount_type: str
    discount_percentage: int


class SwarmRunUsage(RunUsage):
    """Usage on the swarm route."""

    billing_info: BillingInfo


class TurnUsage(TypedDict):
    """What one turn consumed."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float
    priced: bool
    estimated: bool


# --- Outputs --------------------------------------------------------------------------------------------------------


class ToolCallFunction(TypedDict):
    """`arguments` is the model's own text, JSON if it could write that."""

    name: str
    arguments: str


class CallerToolCall(TypedDict):
    """A call that the caller is to run, as OpenAI's API has it."""

    id: str
    type: Literal["function"]
    function: ToolCallFunction


class SwarmOutput(TypedDict):
    """One turn's answer; `role` is the agent's name, `content` its text or the tool calls that the caller is to run."""

    role: str
    content: str | list[CallerToolCall]
    text: NotRequired[str]
    """What was said beside the tool calls."""
    task_index: NotRequired[int]


class AgentOutput(TypedDict):
    """The agent's answer; `role` is its name, `content` its text or the tool calls that the caller is to run."""

    role: str
    content: str | list[CallerToolCall]
    text: NotRequired[str]
    """What was said beside the tool calls."""
    timestamp: str
    message_id: str


# --- Frames ---------------------------------------------------------------------------------------------------------


class SwarmMetadataFrame(Frame):
    """`metadata` on the swarm route."""

    type: Literal["metadata"]
    job_id: str
    swarm_name: str | None
    swarm_type: str
    number_of_agents: int
    description: str | None
    service_tier: str
    warnings: list[str]
    metadata: dict[str, Any] | None
    max_calls: int | None
    """How many model calls the run may make."""


class AgentMetadataFrame(Frame):
    """`metadata` on the agent route."""

    type: Literal["metadata"]
    job_id: str
    name: str | None
    description: str | None
    temperature: float | None
    timestamp: str
    success: Literal[True]
    stream: Literal[True]
    warnings: list[str]
    metadata: dict[str, Any] | None
    max_calls: int | None
    """How many model calls the run may make."""


class StartFrame(Frame):
    """`start`."""

    message: str
    status: Literal["started"]


class AgentStartFrame(Frame):
    """`agent_start`. `turn` counts the invocations of the run from 1; `lane` is the way the model is reached."""

    agent: str
    turn: int
    stage: int
    loop: int
    task_index: NotRequired[int]
    model: str
    lane: str


class TurnRestartFrame(Frame):
    """`turn_restart`: after a crash, an interrupted turn begins again; what it said from the event `discard_from` on
    does not count."""

    agent: str
    turn: int
    attempt: int
    discard_from: int


class ChunkFrame(Frame):
    """`chunk`. `output` is all that this turn has streamed so far; `step` is there from the second model call on."""

    agent: str
    turn: int
    content: str
    step: NotRequired[int]
    output: NotRequired[str]


class ReasoningFrame(Frame):
    """`reasoning`: a piece of the model's thinking."""

    agent: str
    turn: int
    content: str


class ToolStartFrame(Frame):
    """`tool_start`. `arguments` is an object; the model's own text where it wrote none."""

    agent: str
    turn: int
    tool_call_id: str
    tool: str
    arguments: dict[str, Any] | str


class ToolEndFrame(Frame):
    """`tool_end`. `output` is what the model is told; `duration` is in seconds."""

    agent: str
    turn: int
    tool_call_id: str
    tool: str
    output: str
    is_error: bool
    duration: float


class CustomFrame(Frame):
    """`custom`: what a tool wrote to the stream, or where an autonomous agent is with its plan."""

    agent: str
    turn: int
    name: str
    data: Any


class AgentEndFrame(Frame):
    """`agent_end`. `output` is the final answer, which is handed on; `tool_calls` is there where the caller has to run
    some; `duration` is in seconds."""

    agent: str
    turn: int
    task_index: NotRequired[int]
    model: str
    output: str
    status: TurnStatus
    finish_reason: str | None
    usage: TurnUsage
    duration: float
    tool_calls: NotRequired[list[CallerToolCall]]
    warnings: NotRequired[list[str]]
    """What was learnt after `metadata`, such as a parameter that the model refused; only if there is any."""


class ErrorFrame(Frame):
    """`error`. With `agent` and `turn` where a turn failed; `timeout` and `active_agents` where the run timed out."""

    error: str
    code: str
    retryable: bool
    elapsed_seconds: float
    agent: NotRequired[str]
    turn: NotRequired[int]
    attempts: NotRequired[int]
    timeout: NotRequired[float]
    active_agents: NotRequired[list[str]]


class AgentUsageFrame(AgentRunUsage, Frame):
    """`usage` on the agent route."""


class SwarmUsageFrame(SwarmRunUsage, Frame):
    """`usage` on the swarm route."""


class SwarmEndFrame(Frame):
    """`end` on the swarm route. `execution_time` is in seconds."""

    job_id: str
    status: EndStatus
    execution_time: float
    output: list[SwarmOutput]
    failed_agents: list[str]


class AgentRunEndFrame(Frame):
    """`end` on the agent route. `complete` says whether the answer is whole."""

    job_id: str
    status: EndStatus
    execution_time: float
    outputs: list[AgentOutput]
    usage: AgentRunUsage
    complete: bool
    timestamp: str
    failed_agents: list[str]


# --- Runs ---


class RunAnswer(TypedDict):
    """A run as it stands. `output` and `usage` are what there is of them by now."""

    job_id: str
    object: Literal["run"]
    kind: RunKind
    name: str | None
    swarm_type: str | None
    status: Literal["running"] | EndStatus
    created_at: str
    started_at: str | None
    ended_at: str | None
    last_event_id: int
    output: list[SwarmOutput] | list[AgentOutput]
    usage: SwarmRunUsage | AgentRunUsage
    metadata: dict[str, Any] | None


# --- JSON answers ---------------------------------------------------------------------------------------------------


class AgentAnswer(TypedDict):
    """The answer of `POST /v1/agent/completions` that is not streamed."""

    job_id: str
    success: bool
    name: str | None
    description: str | None
    temperature: float | None
    outputs: list[AgentOutput]
    usage: AgentRunUsage
    timestamp: str
    warnings: list[str]
    metadata: dict[str, Any] | None
    failed_agents: list[str]


class SwarmAnswer(TypedDict):
    """The answer of `POST /v1/swarm/completions` that is not streamed. `execution_time` is in seconds."""

    job_id: str
    status: EndStatus
    swarm_name: str | None
    description: str | None
    swarm_type: str
    output: list[SwarmOutput]
    number_of_agents: int
    service_tier: str
    execution_time: float
    usage: SwarmRunUsage
    warnings: list[str]
    metadata: dict[str, Any] | None
    failed_agents: list[str]
