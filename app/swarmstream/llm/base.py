"""The port to models: what the engine asks of one, whichever way it is reached."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from pydantic import JsonValue

from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.traits import EFFORT, THINKING, Fitted, fitted

JsonObject: TypeAlias = dict[str, JsonValue]

ChatMessage: TypeAlias = dict[str, Any]
"""One message in OpenAI's chat format."""

DEFAULT_MAX_TOKENS: Final = 8192
"""The hosted API's."""
_MAX_TOKENS = 1 << 40


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters of an agent's model calls; None and absent keys are not sent."""

    max_tokens: int | None
    temperature: float | None
    reasoning_effort: str | None
    thinking_tokens: int | None
    llm_args: dict[str, Any]

    def max_tokens_for(self, model: ModelRef) -> int:
        """What the client asked for; else the default, only as far as the model goes."""
        return self.max_tokens or min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)

    def fields(self, model: ModelRef, without: Collection[str] = ()) -> Fitted:
        """The parameters under the names that OpenAI's requests have for them, but for what the model refuses;
        `without` is more of that."""
        fields: dict[str, Any] = {"max_tokens": self.max_tokens_for(model), **self.llm_args}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.reasoning_effort is not None:
            fields[EFFORT] = self.reasoning_effort
        if self.thinking_tokens is not None:
            fields[THINKING] = {"type": "enabled", "budget_tokens": self.thinking_tokens}
        return fitted(fields, model.traits, without)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One request to a model."""

    model: ModelRef
    messages: Sequence[ChatMessage]
    sampling: Sampling
    tools: Sequence[JsonObject] = ()
    """The tools that it may call, in the format of OpenAI's API."""
    response_format: JsonObject | None = None
    """What its answer is held to, in the format of OpenAI's API."""

    without: Collection[str] = ()
    """Parameters that are left out: the provider has refused them."""

    def fields(self) -> dict[str, Any]:
        """The parameters under the names that OpenAI's requests have for them."""
        fields = self.sampling.fields(self.model, self.without).fields
        if self.tools:
            fields["tools"] = list(self.tools)
        else:
            fields.pop("parallel_tool_calls", None)  # refused where there is nothing to call
        if self.response_format is not None:
            fields["response_format"] = self.response_format
        return fields


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider accepted the call; from here on it may be billed."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The request is made once more: the connection that was kept from an earlier call proved to be closed, or the
    provider refused something that was asked for beside the call."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A delta of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the model's call of a tool. Pieces with the same `index` make up one call, in their order."""

    index: int
    id: str | None
    """With the first piece of a call, as `name`."""
    name: str | None
    arguments: str
    """A piece of the JSON text; the pieces are joined."""
    extra: dict[str, Any] | None = None
    """Fields of the call that the provider wants back with it, such as a signature of the thought behind it."""


@dataclass(frozen=True, slots=True)
class Echo:
    """Fields of the model's message that the provider wants back when its tool calls are answered: thoughts, signed."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider said that its answer is complete, and why: `stop`, `length`, `tool_calls`, …"""

    reason: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The provider's own figures for the call."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def from_figures(
        cls, input_tokens: object, output_tokens: object, cached: object = None, reasoning: object = None
    ) -> "TokenCount | None":
        """What a provider's figures come to; None where one of the first two is no figure, as if it had given none."""
        given, said = _tokens(input_tokens), _tokens(output_tokens)
        if given is None or said is None:
            return None
        return cls(given, said, _tokens(cached) or 0, _tokens(reasoning) or 0)


def _tokens(figure: object) -> int | None:
    """A count; None for what cannot be one."""
    if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure <= _MAX_TOKENS:
        return None
    return int(figure)


Delta: TypeAlias = str | Opened | Repeated | Reasoning | ToolCallDelta | Echo | Finished | TokenCount
"""What a model's stream is made of. A `str` is a piece of the answer, never empty; it may end in half a pair."""


OnDeltas: TypeAlias = Callable[[Sequence[Delta]], None]
"""Takes what has come at once. What it raises ends the stream."""


class ChatModel(Protocol):
    """A way to reach models."""

    async def ready(self) -> None:
        """Do what has to be done once before the first call, off the event loop; no clock runs meanwhile."""
        ...

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        """Let `on_deltas` have the answer as it arrives, and return at its end.

        `Opened` is first, but for each `Repeated`; then text, reasoning and tool calls, an `Echo` if there is one,
        `Finished`, and a `TokenCount` if there is one. What a provider counts in between comes in between: the last
        figures count.

        Cancelling the task closes the provider's connection. A model repeats nothing by itself but what it calls
        `Repeated`; it keeps no clock, and lets others have the event loop, however fast its provider is.

        Raises:
            ModelError: the call failed. A stream that ends without `Finished` raises `UpstreamTruncated`. An error that
                the provider reports inside of it, before the first token, raises what its status stands for.
        """
        ...
