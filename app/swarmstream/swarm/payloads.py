"""The payloads that clients post (docs/wire.md, section 2)."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints

from swarmstream.events import MAX_EVENT_ID
from swarmstream.llm.base import DEFAULT_MAX_TOKENS
from swarmstream.swarm.fields import (
    Flag,
    Items,
    Loops,
    ModelName,
    Name,
    Number,
    OptionalName,
    Payload,
    Seconds,
    Tokens,
    WholeNumber,
    without_controls,
)
from swarmstream.swarm.messages import MAX_PARTS, Messages

_METADATA_BYTES = 4096

MAX_COALESCE_MS = 10_000
MAX_HEADERS = 64
"""Of an MCP server."""
MAX_COST_USD = 1_000_000_000
MAX_FALLBACKS = 8
MAX_EFFORT_LENGTH = 100

LLM_ARGS = frozenset(
    [
        "top_p",
        "top_k",
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
"""Parameters that `llm_args` passes on to the model."""
OWN_ARGS = ("temperature", "max_tokens", "reasoning_effort", "thinking_tokens", "response_format")
"""Fields of an agent that may also stand in its `llm_args`, where other programs have them."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""All values of `reasoning_effort` that any model knows."""

Effort = Annotated[str, StringConstraints(max_length=MAX_EFFORT_LENGTH), AfterValidator(without_controls)]


def _few_headers(headers: Any) -> Any:
    """Refuse too many headers before they are validated: each wrong one would be an error."""
    if isinstance(headers, dict) and len(headers) > MAX_HEADERS:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"must be at most {MAX_HEADERS} headers")
    return headers  # pyright: ignore[reportUnknownVariableType]


def _without_nulls(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in fields.items() if value is not None}


class McpConfig(Payload):
    """An MCP server that lends an agent its tools."""

    url: str | None = None
    """Where the server listens: http(s), on a host that the operator allows."""
    transport: str = "streamable_http"
    """The way to the server: streamable HTTP, under any of its usual names; another one is refused with 400."""
    type: str = "mcp"
    """Marks the configuration as one of MCP; it has no effect."""
    authorization_token: str | None = None
    """What is sent to the server as `Authorization: Bearer`."""
    headers: Annotated[dict[str, str], BeforeValidator(_few_headers, json_schema_input_type=dict[str, str])] = {}
    """Headers that are sent to the server with every request; at most 64."""
    timeout: Seconds | None = None
    """The seconds that one call of a tool may take; null: 30."""


class McpConfigs(Payload):
    """The hosted API's way to write a list."""

    connections: Items[McpConfig] = []
    """The servers; at most 8 of one agent."""


class AgentSpec(Payload):
    """One agent: who it is, which model speaks for it, how it is sampled."""

    agent_name: Name | None = None
    """The name by which flows, events and outputs call the agent: 1 to 100 characters without control characters,
    unique in its swarm; null: `Agent 1`, `Agent 2`, … by its position."""
    description: str | None = None
    """What the agent is for; agents that may hand off to it read this."""
    system_prompt: str | None = None
    """What the model is told about who it is, after the swarm's `rules`."""
    model_name: ModelName | None = None
    """The model, as litellm names it, such as `openai/gpt-4.1`, or one of the operator's aliases; null:
    `SWARMSTREAM_DEFAULT_MODEL`."""
    role: str = "worker"
    """A word about the agent's part, which has no effect."""
    max_loops: Loops | Literal["auto"] = 1
    """How often the model may be called in one turn to use tools, at least 1; `auto`: the agent plans its work and
    carries the plan out."""
    max_tokens: Tokens = DEFAULT_MAX_TOKENS
    """How many tokens one answer of the model may have, those of its thinking included; the default only as far as the
    model goes."""
    temperature: Number | None = None
    """How freely the model picks its words, mostly 0 to 2; null: not sent, so that the model's own default holds."""
    top_p: Number | None = None
    """The probability mass from which the model picks its words, as in `llm_args`; null: not sent."""
    llm_args: Annotated[dict[str, JsonValue], AfterValidator(_without_nulls)] = {}
    """More sampling parameters: `top_p`, `top_k`, `frequency_penalty`, `presence_penalty`, `seed`, `stop`,
    `logit_bias`, `logprobs`, `top_logprobs`, `parallel_tool_calls`; `temperature`, `max_tokens`, `reasoning_effort`,
    `thinking_tokens` and `response_format` count as the agent's own; any other is refused with 400."""
    reasoning_effort: Effort | None = None
    """How hard the model thinks: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, as far as it knows them;
    another word is passed on with a warning; null leaves it to the model."""
    thinking_tokens: Tokens | None = None
    """How many tokens the model may think before it answers; null leaves it to the model."""
    streaming_on: Flag = False
    """Whether the answer is streamed, as the request's `stream` says it; on the agent route only."""
    timeout: Seconds | None = None
    """The seconds that one turn may take with its retries and tools; null, or more than that:
    `SWARMSTREAM_TURN_SECONDS`."""
    num_retries: Annotated[WholeNumber, Field(ge=0, le=5)] = 2
    """How often a call of the model that failed before its first token is made again, 0 to 5."""
    fallbacks: Annotated[Items[ModelName], Field(max_length=MAX_FALLBACKS)] = []
    """Models that are tried in order where the agent's own does not begin to answer; at most 8."""
    response_format: dict[str, JsonValue] | None = None
    """The form of the answer: a JSON schema, or OpenAI's object around one; null: text."""
    tools_list_dictionary: Items[dict[str, JsonValue]] | None = None
    """Tools that the caller runs, as OpenAI's function schemas; a call of one ends the turn, and 128 tools are the most
    an agent may have."""
    tools_dictionary: Items[dict[str, JsonValue]] | None = None
    """The old name of `tools_list_dictionary`, which wins."""
    selected_tools: str | Items[str] | None = None
    """The built-in and the operator's tools that the agent may call, by name; `all`: every one that this key may
    use."""
    mcp_url: str | None = None
    """The URL of an MCP server whose tools the agent may call."""
    mcp_config: McpConfig | None = None
    """An MCP server whose tools the agent may call."""
    mcp_configs: McpConfigs | Items[McpConfig] | None = None
    """More MCP servers; an agent may have 8, all agents of a request 16 different ones."""
    handoffs: Items["AgentSpec"] | None = None
    """The agents, at most 32, to whom this one may pass the word, and they to theirs, 8 deep; an answer of theirs
    stands for its own."""


class StreamOptions(Payload):
    """How the stream is written for the client who posted the run."""

    include_output: Flag = True
    """Whether each `chunk` repeats in `output` what its turn has said so far."""
    coalesce_ms: Annotated[WholeNumber, Field(ge=0, le=MAX_COALESCE_MS)] = 0
    """Joins neighbouring deltas of one turn over a window of this many milliseconds, 0 to 10,000; 0: each is sent as it
    comes."""
    starting_after: Annotated[WholeNumber, Field(ge=0, le=MAX_EVENT_ID)] = 0
    """With an `Idempotency-Key`: the last event that the client has of the run; the stream goes on behind it. The
    header `Last-Event-ID` wins. It is no part of what makes two bodies the same."""


def _small(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(orjson.dumps([metadata])) - len("[]")  # one level down, as it stands in answers
    except orjson.JSONEncodeError:
        raise ValueError("is nested too deeply") from None
    if size > _METADATA_BYTES:
        raise ValueError(f"must be at most {_METADATA_BYTES} bytes of JSON")
    return metadata


class RunSpec(Payload):
    """The options that both completion routes share (docs/wire.md, "Run options")."""

    stream: Flag = False
    """Whether the answer is a stream of events; else one JSON document comes at the end."""
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    """What happens when the last reader has gone: the run is cancelled (after `SWARMSTREAM_DISCONNECT_GRACE_SECONDS`),
    or goes on. With `background` or an `Idempotency-Key` it goes on unless this says otherwise."""
    on_error: Literal["fail", "continue"] = "fail"
    """What happens when an agent fails: the run ends once its siblings have ended, or goes on, and the next agents are
    told who failed."""
    timeout: Seconds | None = None
    """The seconds that the whole run may take; null, or more than that: `SWARMSTREAM_RUN_SECONDS`."""
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_small)] | None = None
    """Anything of the caller's that comes back with the run, at most 4,096 bytes of JSON."""
    stream_options: StreamOptions = StreamOptions()
    """How the stream is written."""
    background: Flag = False
    """Whether the run goes on without a client: 202 comes at once, or with `stream` the stream."""
    strict: Flag = False
    """Whether fields that nothing would act on (unknown, misspelt, without a function here) are refused with 400;
    else they are named in `warnings`."""
    max_cost_usd: Annotated[Number, Field(gt=0, le=MAX_COST_USD)] | None = None
    """What the run may cost, in USD; at the limit it ends `budget_exceeded`. Models need a known price then."""
    max_total_tokens: Tokens | None = None
    """How many tokens the run may use, input and output; at the limit it ends `budget_exceeded`."""
    img: str | None = None
    """An image that goes with the task: an http(s) URL, a `data:image/…` URL, or base64."""
    imgs: Annotated[Items[str], Field(max_length=MAX_PARTS)] = []
    """More images, each as `img`; at most 1,000."""
    history: Messages = []
    """What was said before the task, in OpenAI's chat format: a list, an object of messages, or one message."""
    tools_enabled: Items[str] = []
    """The built-in and the operator's tools that its agents get beside those that they select; agents to hand off to
    have their own alone."""

    @property
    def streams(self) -> bool:
        """True if the answer is a stream."""
        return self.stream


class AgentRequest(RunSpec):
    """The body of `POST /v1/agent/completions`."""

    agent_config: AgentSpec
    """The agent."""
    task: str | None = None
    """What there is to do; without it, the `history` has to say."""

    @property
    def streams(self) -> bool:
        return self.stream or self.agent_config.streaming_on


class SwarmRequest(RunSpec):
    """The body of `POST /v1/swarm/completions`."""

    # Told so, not checked so: without them the refusal is one sentence of ours, not a schema's.
    model_config = ConfigDict(json_schema_extra={"required": ["agents"]})

    name: OptionalName | None = None
    """The swarm's name, at most 100 characters, which answers repeat."""
    description: str | None = None
    """What the swarm is for, which answers repeat."""
    agents: Items[AgentSpec] = []
    """The team, in the order in which it speaks unless there is a flow; at least 1, with handoffs at most
    `SWARMSTREAM_MAX_AGENTS`."""
    swarm_type: str | None = None
    """Who speaks when, one of `GET /v1/swarms/available`; null: `AgentRearrange` where there is a `rearrange_flow`,
    else `SequentialWorkflow`."""
    rearrange_flow: str | None = None
    """Stages of agents' names, such as `A, B -> C`: those of one stage speak at once, and a stage begins when the one
    before it has ended."""
    task: str | None = None
    """What there is to do; it wins over `messages` and `tasks`, one of which is needed."""
    tasks: Items[str] = []
    """What there is to do one after another, each in a fresh conversation."""
    messages: Messages = []
    """A conversation to begin with, in OpenAI's chat format; it wins over `tasks`."""
    max_loops: Loops = 1
    """How often the whole flow is gone through, on a conversation that grows."""
    rules: str | None = None
    """What stands before every agent's `system_prompt`."""
    service_tier: str = "standard"
    """A word that answers repeat; it has no effect."""
    return_history: Flag | None = None
    """Accepted for the hosted API's clients; it has no effect."""
