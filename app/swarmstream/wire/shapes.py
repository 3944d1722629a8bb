"""The shapes that clients receive: the `data` of every event and the JSON answers (docs/wire.md, sections 3 and 4).

What we make ourselves is typed and not validated; a test holds what is sent to the document that is made from these.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from swarmstream.events import EndStatus, RunKind, TurnStatus


class Frame(TypedDict):
    """The `data` of an event. `t` is milliseconds since the run began, as stored."""

    t: int
    """Milliseconds from the run's beginning to the event, as stored."""


# --- Usage ----------------------------------------------------------------------------------------------------------


class AgentUsageRow(TypedDict):
    """What one agent consumed, in tokens and USD."""

    agent: str
    """The agent's name."""
    turns: int
    """How many turns the agent had, failed and cancelled ones included."""
    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    cached_input_tokens: int
    """Of the input tokens, those that the provider had in its cache."""
    reasoning_tokens: int
    """Of the output tokens, those of the model's thinking."""
    cost_usd: float
    """What that cost, in USD; a model without a known price counts 0."""


class RunUsage(TypedDict):
    """What both kinds of usage have in common. `priced` is false where a model has no known price and counts 0;
    `estimated` is true where a provider gave no figures and we counted."""

    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    total_tokens: int
    """Input and output tokens together."""
    agents: list[AgentUsageRow]
    """The same by agent."""
    priced: bool
    """False where some model has no known price, so that its cost counts 0."""
    estimated: bool
    """True where a provider gave no figures, so that tokens were counted here."""


class AgentRunUsage(RunUsage):
    """Usage on the agent route. Costs are USD."""

    img_cost: float
    """The hosted API's price of images, in USD: always 0 here, since providers count them as tokens."""
    total_cost: float
    """What the run cost, in USD."""


class TokenCounts(TypedDict):
    total_input_tokens: int
    """Tokens that were sent to models."""
    total_output_tokens: int
    """Tokens that came from models."""
    total_tokens: int
    """Both together."""


class CostBreakdown(TypedDict):
    agent_cost: float
    """The hosted API's fee for agents, in USD: always 0 here."""
    input_token_cost: float
    """What the input tokens cost, in USD."""
    output_token_cost: float
    """What the output tokens cost, in USD."""
    token_counts: TokenCounts
    """The tokens that were paid for."""
    num_agents: int
    """How many agents spoke."""
    night_time_discount_applied: bool
    """Always false: there is no discount here."""


class BillingInfo(TypedDict):
    """The hosted API's bill, in USD; this server sells nothing, so there are no discounts and no fee for agents."""

    cost_breakdown: CostBreakdown
    """What the bill is made of."""
    total_cost: float
    """What the run cost, in USD."""
    discount_active: bool
    """Always false: there is no discount here."""
    discount_type: str
    """Always `none`."""
    discount_percentage: int
    """Always 0."""


class SwarmRunUsage(RunUsage):
    """Usage on the swarm route."""

    billing_info: BillingInfo
    """The bill."""


class TurnUsage(TypedDict):
    """What one turn consumed."""

    input_tokens: int
    """Tokens that were sent to models, the cached ones included."""
    output_tokens: int
    """Tokens that came from models, those of their thinking included."""
    total_tokens: int
    """Input and output tokens together."""
    cached_input_tokens: int
    """Of the input tokens, those that the provider had in its cache."""
    reasoning_tokens: int
    """Of the output tokens, those of the model's thinking."""
    cost_usd: float
    """What that cost, in USD; a model without a known price counts 0."""
    priced: bool
    """False where some model has no known price, so that its cost counts 0."""
    estimated: bool
    """True where a provider gave no figures, so that tokens were counted here."""


# --- Outputs --------------------------------------------------------------------------------------------------------


class ToolCallFunction(TypedDict):
    """`arguments` is the model's own text, JSON if it could write that."""

    name: str
    """The name of the tool."""
    arguments: str
    """The model's own text: JSON, if it could write that."""


class CallerToolCall(TypedDict):
    """A call that the caller is to run, as OpenAI's API has it."""

    id: str
    """What the message with the result gives as its `tool_call_id`."""
    type: Literal["function"]
    """The kind of tool; there is one."""
    function: ToolCallFunction
    """The tool that is called, and with what."""


class SwarmOutput(TypedDict):
    """One turn's answer; `role` is the agent's name, `content` its text or the tool calls that the caller is to run."""

    role: str
    """The agent's name."""
    content: str | list[CallerToolCall]
    """The agent's answer, or the tool calls that the caller is to run."""
    text: NotRequired[str]
    """What was said beside the tool calls; there only with them."""
    task_index: NotRequired[int]
    """The task that the turn works on, from 0; there only where the request had `tasks`."""


class AgentOutput(TypedDict):
    """The agent's answer; `role` is its name, `content` its text or the tool calls that the caller is to run."""

    role: str
    """The agent's name."""
    content: str | list[CallerToolCall]
    """The agent's answer, or the tool calls that the caller is to run."""
    text: NotRequired[str]
    """What was said beside the tool calls; there only with them."""
    timestamp: str
    """When the turn ended, as ISO 8601 in UTC."""
    message_id: str
    """An id of the answer: the run's with the turn's number."""


# --- Frames ---------------------------------------------------------------------------------------------------------


class SwarmMetadataFrame(Frame):
    """`metadata` on the swarm route."""

    type: Literal["metadata"]
    """Says again what event this is."""
    job_id: str
    """The run's id."""
    swarm_name: str | None
    """The swarm's name as it was posted; null: none."""
    swarm_type: str
    """The kind of swarm that runs."""
    number_of_agents: int
    """How many agents the request has."""
    description: str | None
    """The description as it was posted; null: none."""
    service_tier: str
    """The `service_tier` as it was posted."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    max_calls: int | None
    """How many calls of models the run may make in all; null for runs of releases that had no such bound."""


class AgentMetadataFrame(Frame):
    """`metadata` on the agent route."""

    type: Literal["metadata"]
    """Says again what event this is."""
    job_id: str
    """The run's id."""
    name: str | None
    """The agent's name."""
    description: str | None
    """The description as it was posted; null: none."""
    temperature: float | None
    """The temperature as it was posted; null: none, so that the model's own holds."""
    timestamp: str
    """When the run was taken on, as ISO 8601 in UTC."""
    success: Literal[True]
    """Always true: the run was taken on; `end` tells how it went."""
    stream: Literal[True]
    """Always true."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    max_calls: int | None
    """How many calls of models the run may make in all; null for runs of releases that had no such bound."""


class StartFrame(Frame):
    """`start`."""

    message: str
    """A sentence for people."""
    status: Literal["started"]
    """Always `started`."""


class AgentStartFrame(Frame):
    """`agent_start`. `turn` counts the invocations of the run from 1; `lane` is the way the model is reached."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    stage: int
    """The stage of the flow, from 1."""
    loop: int
    """The pass through the flow, from 1."""
    task_index: NotRequired[int]
    """The task that the turn works on, from 0; there only where the request had `tasks`."""
    model: str
    """The model that is asked first, as the request names it."""
    lane: str
    """The way the model is reached: `direct`, `litellm` or `demo`."""


class TurnRestartFrame(Frame):
    """`turn_restart`: after a crash, an interrupted turn begins again; what it said from the event `discard_from` on
    does not count."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    attempt: int
    """How often the turn has begun by now, from 2."""
    discard_from: int
    """The id of an event: what this turn said from it on does not count."""


class ChunkFrame(Frame):
    """`chunk`. `output` is all that this turn has streamed so far; `step` is there from the second model call on."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    content: str
    """The new piece of text."""
    step: NotRequired[int]
    """The call of the model within its turn; there from the second one on."""
    output: NotRequired[str]
    """All that the turn has streamed so far; not there with `include_output: false`."""


class ReasoningFrame(Frame):
    """`reasoning`: a piece of the model's thinking."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    content: str
    """The new piece of the model's thinking."""


class ToolStartFrame(Frame):
    """`tool_start`. `arguments` is an object; the model's own text where it wrote none."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    tool_call_id: str
    """The call's id, which `tool_end` repeats."""
    tool: str
    """The name of the tool."""
    arguments: dict[str, Any] | str
    """What the tool is called with: an object, or the model's own text where it wrote none."""


class ToolEndFrame(Frame):
    """`tool_end`. `output` is what the model is told; `duration` is in seconds."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    tool_call_id: str
    """The call's id, as in its `tool_start`."""
    tool: str
    """The name of the tool."""
    output: str
    """What the model is told, at most 32 kB."""
    is_error: bool
    """Whether the call failed; the model is told why."""
    duration: float
    """How long the call took, in seconds."""


class CustomFrame(Frame):
    """`custom`: what a tool wrote to the stream, or where an autonomous agent is with its plan."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    name: str
    """What the writer calls it; `plan`, `subtask_start` and `subtask_end` tell where an autonomous agent is."""
    data: Any
    """Any JSON value."""


class AgentEndFrame(Frame):
    """`agent_end`. `output` is the final answer, which is handed on; `tool_calls` is there where the caller has to run
    some; `duration` is in seconds."""

    agent: str
    """The agent's name."""
    turn: int
    """The number of the turn in its run, from 1."""
    task_index: NotRequired[int]
    """The task that the turn works on, from 0; there only where the request had `tasks`."""
    model: str
    """The model that answered: the agent's own or one of its fallbacks."""
    output: str
    """The final answer, which is handed on; of a turn that failed, what there was of it."""
    status: TurnStatus
    """How the turn ended."""
    finish_reason: str | None
    """Why the model stopped, in OpenAI's words: `stop`, `length`, `tool_calls`, `content_filter`; null where it was not
    heard to the end."""
    usage: TurnUsage
    """What the turn consumed, its retries included."""
    duration: float
    """How long the turn took, in seconds."""
    tool_calls: NotRequired[list[CallerToolCall]]
    """The calls that the caller is to run; there only where there are some."""
    warnings: NotRequired[list[str]]
    """What was learnt after `metadata`, such as a parameter that the model refused; only if there is any."""


class ErrorFrame(Frame):
    """`error`. With `agent` and `turn` where a turn failed; `timeout` and `active_agents` where the run timed out."""

    error: str
    """One sentence for people."""
    code: str
    """One of the codes that docs/errors.md lists, such as `provider_rate_limited`."""
    retryable: bool
    """Whether the same request may succeed later, unchanged."""
    elapsed_seconds: float
    """How long the turn or the run had taken by then, in seconds."""
    agent: NotRequired[str]
    """The agent whose turn failed; not there where the run did."""
    turn: NotRequired[int]
    """The number of the turn that failed, from 1; not there where the run did."""
    attempts: NotRequired[int]
    """How often the model was called for the turn's last answer, retries and fallbacks included; not there where the
    run failed."""
    timeout: NotRequired[float]
    """The limit that the run reached, in seconds; there only with `timed_out`."""
    active_agents: NotRequired[list[str]]
    """The agents that were speaking then; there only with `timed_out`."""


class AgentUsageFrame(AgentRunUsage, Frame):
    """`usage` on the agent route."""


class SwarmUsageFrame(SwarmRunUsage, Frame):
    """`usage` on the swarm route."""


class SwarmEndFrame(Frame):
    """`end` on the swarm route. `execution_time` is in seconds."""

    job_id: str
    """The run's id."""
    status: EndStatus
    """How the run ended."""
    execution_time: float
    """How long the run took, in seconds."""
    output: list[SwarmOutput]
    """One entry for each turn that ended, in flow order."""
    failed_agents: list[str]
    """The names of the agents whose turns failed."""


class AgentRunEndFrame(Frame):
    """`end` on the agent route. `complete` says whether the answer is whole."""

    job_id: str
    """The run's id."""
    status: EndStatus
    """How the run ended."""
    execution_time: float
    """How long the run took, in seconds."""
    outputs: list[AgentOutput]
    """The agent's answer; after a handoff, also those of the others."""
    usage: AgentRunUsage
    """What the run consumed."""
    complete: bool
    """Whether the answer is whole."""
    timestamp: str
    """When the run ended, as ISO 8601 in UTC."""
    failed_agents: list[str]
    """The names of the agents whose turns failed."""


class GapFrame(TypedDict):
    """`gap`: a reader asked for events that the log no longer has. It has no `id`, for nothing resumes from it."""

    requested: int
    """The id of the first event that the reader asked for."""
    first_available: int
    """The id of the first event that there still is."""


# --- Runs ---


class QueuedRun(TypedDict):
    """The answer of a completion route in the background."""

    job_id: str
    """The run's id, by which `GET /v1/runs/{job_id}` tells how it stands."""
    status: Literal["queued"]
    """Always `queued`: the run was taken on."""


class RunSoFar(TypedDict):
    """What the problem of a run that failed says beside what every problem does."""

    job_id: str
    """The run's id."""
    output: NotRequired[list[SwarmOutput] | list[AgentOutput]]
    """What the run had come to: an entry for each turn that ended; not there where it goes on."""
    usage: NotRequired[SwarmRunUsage | AgentRunUsage]
    """What the run had consumed; not there where it goes on."""


class RunAnswer(TypedDict):
    """A run as it stands. `output` and `usage` are what there is of them by now; in a list, `output` is there only with
    `?include=output`."""

    job_id: str
    """The run's id."""
    object: Literal["run"]
    """The kind of object, for clients of OpenAI's API."""
    kind: RunKind
    """The route that the run was posted to."""
    name: str | None
    """The swarm's or the agent's name; null: none."""
    swarm_type: str | None
    """The kind of swarm; null for a single agent."""
    status: Literal["running"] | EndStatus
    """Where the run is: `running`, or how it ended."""
    created_at: str
    """When the run was taken on, as ISO 8601 in UTC."""
    started_at: str | None
    """When it began, as ISO 8601 in UTC; null: not yet."""
    ended_at: str | None
    """When it ended, as ISO 8601 in UTC; null: not yet."""
    last_event_id: int
    """The id of the newest event."""
    output: NotRequired[list[SwarmOutput] | list[AgentOutput]]
    """What there is of the output by now: an entry for each turn that has ended."""
    usage: SwarmRunUsage | AgentRunUsage
    """What the run has consumed by now, in turns that have ended."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""


class RunList(TypedDict):
    """A page of runs, newest first."""

    data: list[RunAnswer]
    """The runs."""
    object: Literal["list"]
    """The kind of object, for clients of OpenAI's API."""
    first_id: str | None
    """The id of the page's first run; null: the page is empty."""
    last_id: str | None
    """The id of the page's last run, which `after` takes for the next page; null: the page is empty."""
    has_more: bool
    """Whether there are more runs behind the last one."""


class SwarmLog(TypedDict):
    """A run as the hosted API lists it."""

    id: str
    """The run's id."""
    created_at: str
    """When the run was taken on, as ISO 8601 in UTC."""
    api_key: str
    """The key that asked, all but its last four characters masked."""
    category: Literal["completion"]
    """Always `completion`."""
    data: RunAnswer
    """The run."""


class SwarmLogs(TypedDict):
    """The latest runs, newest first, as the hosted API lists them."""

    logs: list[SwarmLog]
    """The runs."""
    status: Literal["success"]
    """Always `success`."""
    count: int
    """How many there are."""
    has_more: bool
    """Whether there are more, which the answer has no room for."""
    timestamp: str
    """When this was asked, as ISO 8601 in UTC."""


class StreamToken(TypedDict):
    """What opens a run's stream to a browser's EventSource."""

    token: str
    """What goes into the stream's URL as `?token=`."""
    expires_in: int
    """How many seconds there are to connect."""


# --- JSON answers ---------------------------------------------------------------------------------------------------


class AgentAnswer(TypedDict):
    """The answer of `POST /v1/agent/completions` that is not streamed."""

    job_id: str
    """The run's id."""
    success: bool
    """Always true: a run that failed is answered by a problem."""
    name: str | None
    """The agent's name."""
    description: str | None
    """The description as it was posted; null: none."""
    temperature: float | None
    """The temperature as it was posted; null: none, so that the model's own held."""
    outputs: list[AgentOutput]
    """The agent's answer; after a handoff, also those of the others."""
    usage: AgentRunUsage
    """What the run consumed."""
    timestamp: str
    """When the run ended, as ISO 8601 in UTC."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    failed_agents: list[str]
    """The names of agents whose turns failed, where the run went on."""


class SwarmAnswer(TypedDict):
    """The answer of `POST /v1/swarm/completions` that is not streamed. `execution_time` is in seconds."""

    job_id: str
    """The run's id."""
    status: EndStatus
    """Always `success`: a run that failed is answered by a problem."""
    swarm_name: str | None
    """The swarm's name as it was posted; null: none."""
    description: str | None
    """The description as it was posted; null: none."""
    swarm_type: str
    """The kind of swarm that ran."""
    output: list[SwarmOutput]
    """One entry for each turn, in flow order."""
    number_of_agents: int
    """How many agents the request had."""
    service_tier: str
    """The `service_tier` as it was posted."""
    execution_time: float
    """How long the run took, in seconds."""
    usage: SwarmRunUsage
    """What the run consumed."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    failed_agents: list[str]
    """The names of agents whose turns failed, where the run went on."""
