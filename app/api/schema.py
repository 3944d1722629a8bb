"""The shapes that clients receive: the `data` of every event and the JSON answers (WIRE.md, sections 3 and 4).

Every frame but `chunk` and `reasoning` is made from these models; those two are written by hand for speed, and a test
holds them to the models here. Fields without a default are always there; a field left unset is absent from the JSON.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.events import EndStatus, TurnStatus


class Shape(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Frame(Shape):
    """The `data` of an event. `t` is milliseconds since the run began, as stored."""

    t: int


# --- Usage ----------------------------------------------------------------------------------------------------------


class AgentUsageRow(Shape):
    """What one agent consumed, in tokens and USD."""

    agent: str
    turns: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float


class RunUsage(Shape):
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

    img_cost: float = 0
    total_cost: float


class TokenCounts(Shape):
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int


class CostBreakdown(Shape):
    agent_cost: float = 0
    input_token_cost: float
    output_token_cost: float
    token_counts: TokenCounts
    num_agents: int
    night_time_discount_applied: bool = False


class BillingInfo(Shape):
    """The hosted API's bill, in USD; this server sells nothing, so there are no discounts and no fee for agents."""

    cost_breakdown: CostBreakdown
    total_cost: float
    discount_active: bool = False
    discount_type: str = "none"
    discount_percentage: int = 0


class SwarmRunUsage(RunUsage):
    """Usage on the swarm route."""

    billing_info: BillingInfo


class TurnUsage(Shape):
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


class SwarmOutput(Shape):
    """One turn's answer; `role` is the agent's name."""

    role: str
    content: str
    task_index: int | None = None


class AgentOutput(Shape):
    """The agent's answer; `role` is its name."""

    role: str
    content: str
    timestamp: str
    message_id: str


# --- Frames ---------------------------------------------------------------------------------------------------------


class SwarmMetadataFrame(Frame):
    """`metadata` on the swarm route."""

    type: Literal["metadata"] = "metadata"
    job_id: str
    swarm_name: str | None
    swarm_type: str
    number_of_agents: int
    description: str | None
    service_tier: str
    warnings: list[str]
    metadata: dict[str, Any] | None


class AgentMetadataFrame(Frame):
    """`metadata` on the agent route."""

    type: Literal["metadata"] = "metadata"
    job_id: str
    name: str | None
    description: str | None
    temperature: float | None
    timestamp: str
    success: Literal[True] = True
    stream: Literal[True] = True
    warnings: list[str]
    metadata: dict[str, Any] | None


class StartFrame(Frame):
    """`start`."""

    message: str
    status: Literal["started"] = "started"


class AgentStartFrame(Frame):
    """`agent_start`. `turn` counts the invocations of the run from 1; `lane` is the way the model is reached."""

    agent: str
    turn: int
    stage: int
    loop: int
    task_index: int | None = None
    model: str
    lane: str


class ChunkFrame(Frame):
    """`chunk`. `output` is all that this turn has streamed so far; `step` is there from the second model call on."""

    agent: str
    turn: int
    content: str
    step: int | None = None
    output: str | None = None


class ReasoningFrame(Frame):
    """`reasoning`: a piece of the model's thinking."""

    agent: str
    turn: int
    content: str


class AgentEndFrame(Frame):
    """`agent_end`. `output` is the final answer, which is handed on; `duration` is in seconds."""

    agent: str
    turn: int
    task_index: int | None = None
    model: str
    output: str
    status: TurnStatus
    finish_reason: str | None
    usage: TurnUsage
    duration: float


class ErrorFrame(Frame):
    """`error`. With `agent` and `turn` where a turn failed; `timeout` and `active_agents` where the run timed out."""

    error: str
    code: str
    retryable: bool
    elapsed_seconds: float
    agent: str | None = None
    turn: int | None = None
    attempts: int | None = None
    timeout: float | None = None
    active_agents: list[str] | None = None


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


# --- JSON answers ---------------------------------------------------------------------------------------------------


class AgentAnswer(Shape):
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


class SwarmAnswer(Shape):
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


class SwarmTypeDetail(Shape):
    name: str
    streams: Literal["token"] = "token"
    description: str


class SwarmsAvailable(Shape):
    """The answer of `GET /v1/swarms/available`."""

    success: bool = True
    status: bool = True
    timestamp: str
    swarm_types: list[str]
    details: list[SwarmTypeDetail]


class ModelsAvailable(Shape):
    """The answer of `GET /v1/models/available`."""

    success: bool = True
    count: int
    models: list[str]


class OpenAIModel(Shape):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModels(Shape):
    """The answer of `GET /v1/models`: OpenAI's list."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class Status(Shape):
    """A word about the server."""

    status: str
