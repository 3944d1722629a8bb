"""The shapes of events: the `data` of each (docs/wire.md, section 4)."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from swarmstream.events import EndStatus, TurnStatus
from swarmstream.wire.shapes.outputs import AgentOutput, CallerToolCall, SwarmOutput
from swarmstream.wire.shapes.usage import AgentRunUsage, SwarmRunUsage, TurnUsage


class Frame(TypedDict):
    """The `data` of an event. `t` is milliseconds since the run began, as stored."""

    t: int
    """Milliseconds from the run's beginning to the event, as stored."""


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
