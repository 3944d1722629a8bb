"""The payloads that clients post (WIRE.md, section 2).

Optional fields accept `null` as "not given", numbers and booleans also as strings; unknown fields are kept aside to be
named in `warnings`.
"""

import unicodedata
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

_METADATA_BYTES = 4096

MAX_COALESCE_MS = 10_000
MAX_PARTS = 1000
"""Of a message, and images of a task."""
MAX_HEADERS = 64
"""Of an MCP server."""
MAX_LOOPS = 1_000_000
MAX_TOKENS = 1_000_000_000
MAX_SECONDS = 1_000_000_000
"""Thirty years."""
MAX_COST_USD = 1_000_000_000
MAX_FALLBACKS = 8

DEFAULT_MAX_TOKENS = 8192
"""The hosted API's."""

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
"""What some model knows as its `reasoning_effort`."""


def _without_controls(name: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in name):
        raise ValueError("must not contain control characters or line separators")
    return name


def _few_headers(headers: Any) -> Any:
    """Refused before they are looked at: each wrong one would be a complaint."""
    if isinstance(headers, dict) and len(headers) > MAX_HEADERS:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"must be at most {MAX_HEADERS} headers")
    return headers  # pyright: ignore[reportUnknownVariableType]


def _as_list(messages: Any) -> Any:
    """A list of messages, also of one message by itself, or of `{"k": message}`."""
    if not isinstance(messages, dict):
        return messages
    return [messages] if isinstance(messages.get("role"), str) else list(messages.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]


def _number(value: Any) -> Any:
    """Pydantic's lax numbers would count true as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic wants one
    return value


def _without_nulls(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in fields.items() if value is not None}


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_without_controls),
]
OptionalName = Annotated[str, StringConstraints(max_length=100), AfterValidator(_without_controls)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_without_controls)]
Flag = Annotated[bool, Field(strict=False)]
"""`true` or what pydantic's lax mode takes for it, as FastAPI does: "true", "yes", 1, …"""
WholeNumber = Annotated[int, BeforeValidator(_number), Field(strict=False)]
"""A number or a string that is one: what programs have read from forms and from the environment."""
Number = Annotated[float, BeforeValidator(_number), Field(strict=False, allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0, le=MAX_SECONDS)]
Loops = Annotated[WholeNumber, Field(ge=1, le=MAX_LOOPS)]
Tokens = Annotated[WholeNumber, Field(ge=1, le=MAX_TOKENS)]

MAX_EFFORT_LENGTH = 100
Effort = Annotated[str, StringConstraints(max_length=MAX_EFFORT_LENGTH), AfterValidator(_without_controls)]

ItemT = TypeVar("ItemT")
Items = Annotated[list[ItemT], Field(fail_fast=True)]
"""A list that is given up at its first wrong item: a body holds half a million, and each would be a complaint."""


class Payload(BaseModel):
    """Base of everything a client posts: strict types, nulls dropped, unknown fields remembered."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_not_given(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None}  # pyright: ignore[reportUnknownVariableType]


class TextPart(Payload):
    type: Literal["text"]
    text: str


class ImageUrl(Payload):
    url: str
    detail: str | None = None


def _as_image_url(image: Any) -> Any:
    return {"url": image} if isinstance(image, str) else image


class ImagePart(Payload):
    """An image; `image_url` may be the bare URL. What counts as one, see `app.swarm.images`."""

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_as_image_url)]


class InputAudio(Payload):
    data: str
    format: str


class AudioPart(Payload):
    """Sound, as base64."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class RefusalPart(Payload):
    """What a model said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


ContentPart = Annotated[TextPart | ImagePart | AudioPart | RefusalPart, Field(discriminator="type")]
"""Parts that name a file or hold a document are none: adapters would read files and reach hosts on their own."""


class FunctionCall(Payload):
    name: str
    arguments: str


class ToolCall(Payload):
    """A call that a model asked for in an earlier turn of the conversation."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Payload):
    """One message of a conversation, in OpenAI's chat format."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[Items[ContentPart], Field(max_length=MAX_PARTS)] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[Items[ToolCall], Field(max_length=MAX_PARTS)] | None = None
    tool_call_id: str | None = None


Messages = Annotated[
    Items[Message],
    BeforeValidator(_as_list, json_schema_input_type=list[Message] | dict[str, Message] | Message),
]


class McpConfig(Payload):
    """An MCP server that lends an agent its tools."""

    url: str | None = None
    transport: str = "streamable_http"
    type: str = "mcp"
    authorization_token: str | None = None
    headers: Annotated[dict[str, str], BeforeValidator(_few_headers)] = {}
    timeout: Seconds | None = None
    """Of one call of a tool."""


class McpConfigs(Payload):
    """The hosted API's way to write a list."""

    connections: Items[McpConfig] = []


class AgentSpec(Payload):
    """One agent: who it is, which model speaks for it, how it is sampled."""

    agent_name: Name | None = None
    """The name by which flows, events and outputs call the agent: 1 to 100 characters without control characters,
    unique in its swarm; null: `Agent 1`, `Agent 2`, … by its position."""
    description: str | None = None
    system_prompt: str | None = None
    model_name: ModelName | None = None
    role: str = "worker"
    max_loops: Loops | Literal["auto"] = 1
    max_tokens: Tokens = DEFAULT_MAX_TOKENS
    temperature: Number | None = None
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
    streaming_on: Flag = False
    timeout: Seconds | None = None
    num_retries: Annotated[WholeNumber, Field(ge=0, le=5)] = 2
    fallbacks: Annotated[Items[ModelName], Field(max_length=MAX_FALLBACKS)] = []
    response_format: dict[str, JsonValue] | None = None
    tools_list_dictionary: Items[dict[str, JsonValue]] | None = None
    tools_dictionary: Items[dict[str, JsonValue]] | None = None
    """The old name of `tools_list_dictionary`, which wins."""
    selected_tools: str | Items[str] | None = None
    mcp_url: str | None = None
    mcp_config: McpConfig | None = None
    mcp_configs: McpConfigs | Items[McpConfig] | None = None
    handoffs: Items["AgentSpec"] | None = None


class StreamOptions(Payload):
    """How the stream is written for the client who posted the run."""

    include_output: Flag = True
    """Whether each `chunk` repeats what its turn has said so far."""
    coalesce_ms: Annotated[WholeNumber, Field(ge=0, le=MAX_COALESCE_MS)] = 0
    """Joins neighbouring deltas of one turn over a window of this many milliseconds."""


def _small(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(orjson.dumps([metadata])) - len("[]")  # one level down, as it stands in answers
    except orjson.JSONEncodeError:
        raise ValueError("is nested too deeply") from None
    if size > _METADATA_BYTES:
        raise ValueError(f"must be at most {_METADATA_BYTES} bytes of JSON")
    return metadata


class RunSpec(Payload):
    """The options that both completion routes share (WIRE.md, "Run options")."""

    stream: Flag = False
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    on_error: Literal["fail", "continue"] = "fail"
    timeout: Seconds | None = None
    metadata: Annotated[dict[str, JsonValue], AfterValidator(_small)] | None = None
    stream_options: StreamOptions = StreamOptions()
    background: Flag = False
    strict: Flag = False
    """Whether fields that nothing would act on (unknown, misspelt, without a function here) are refused with 400;
    else they are named in `warnings`."""
    max_cost_usd: Annotated[Number, Field(gt=0, le=MAX_COST_USD)] | None = None
    max_total_tokens: Tokens | None = None
    img: str | None = None
    imgs: Annotated[Items[str], Field(max_length=MAX_PARTS)] = []
    """More images, each as `img`; at most 1,000."""
    history: Messages = []
    """What was said before the task, in OpenAI's chat format: a list, an object of messages, or one message."""
    tools_enabled: Items[str] = []
    """The built-in and the operator's tools that its agents get beside those that they select; agents to hand off to
    have their own alone."""


class AgentRequest(RunSpec):
    """The body of `POST /v1/agent/completions`."""

    agent_config: AgentSpec
    task: str | None = None

    @property
    def streams(self) -> bool:
        return self.stream or self.agent_config.streaming_on


class SwarmRequest(RunSpec):
    """The body of `POST /v1/swarm/completions`."""

    name: OptionalName | None = None
    description: str | None = None
    agents: Items[AgentSpec] = []
    swarm_type: str | None = None
    rearrange_flow: str | None = None
    task: str | None = None
    tasks: Items[str] = []
    messages: Messages = []
    max_loops: Loops = 1
    rules: str | None = None
    service_tier: str = "standard"
    return_history: Flag | None = None
