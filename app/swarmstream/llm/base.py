"""The port to models: a call, the deltas of its answer, and the protocol of a backend."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.traits import EFFORT, THINKING, Fitted, fit

if TYPE_CHECKING:
    from swarmstream.llm.messages import ChatMessage, JsonObject

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
        """Return the client's limit; else the default, lowered to the model's own limit."""
        return self.max_tokens or min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)

    def fields(self, model: ModelRef, without: Collection[str] = ()) -> Fitted:
        """Return the parameters under OpenAI's names, fitted to the model; `without` has more names to leave out."""
        fields: dict[str, Any] = {"max_tokens": self.max_tokens_for(model), **self.llm_args}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.reasoning_effort is not None:
            fields[EFFORT] = self.reasoning_effort
        if self.thinking_tokens is not None:
            fields[THINKING] = {"type": "enabled", "budget_tokens": self.thinking_tokens}
        return fit(fields, model.traits, without)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A request to a model."""

    model: ModelRef
    messages: "Sequence[ChatMessage]"
    sampling: Sampling
    tools: "Sequence[JsonObject]" = ()
    """Tools that the model may call, in the format of OpenAI's API."""
    response_format: "JsonObject | None" = None
    """The format that the answer must have, as OpenAI's API describes it."""

    without: Collection[str] = ()
    """Parameters to leave out: the provider has refused them."""

    def fields(self) -> dict[str, Any]:
        """Return the parameters under OpenAI's names."""
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
    """The request is made once more: a kept connection proved to be closed, or the provider refused an argument that
    was added to the call."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A delta of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. Pieces with the same `index` make up one call, in their order."""

    index: int
    id: str | None
    """With the first piece of a call, as `name`."""
    name: str | None
    arguments: str
    """A piece of the JSON text; the pieces are joined."""
    extra: dict[str, Any] | None = None
    """Fields that the provider wants back with the call, such as a signature of the thought behind it."""


@dataclass(frozen=True, slots=True)
class Echo:
    """Fields of the message, such as signed thoughts, that the provider wants back with the results of tool calls."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. `reason` is the provider's: `stop`, `length`, `tool_calls`, …"""

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
        """Return the count of a provider's figures; None if one of the first two is not a number."""
        read, written = _tokens(input_tokens), _tokens(output_tokens)
        if read is None or written is None:
            return None
        return cls(read, written, _tokens(cached) or 0, _tokens(reasoning) or 0)


def _tokens(figure: object) -> int | None:
    """Return the figure as a count; None if it cannot be one."""
    if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure <= _MAX_TOKENS:
        return None
    return int(figure)


Delta: TypeAlias = str | Opened | Repeated | Reasoning | ToolCallDelta | Echo | Finished | TokenCount
"""A piece of a model's stream. A `str` is text of the answer, never empty; it may end in half a surrogate pair."""


OnDeltas: TypeAlias = Callable[[Sequence[Delta]], None]
"""Called with the deltas that came at once. An exception from it ends the stream."""


class ChatModel(Protocol):
    """A backend: a way to call models."""

    async def ready(self) -> None:
        """Prepare for the first call, off the event loop. No timeout of a call runs meanwhile."""
        ...

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        """Pass the answer to `on_deltas` as it arrives, and return at its end.

        The order: `Repeated` for each repetition, `Opened`, then text, reasoning and tool calls, an `Echo` if there is
        one, `Finished`, and a `TokenCount` if there is one. Figures may come earlier and several times: the last count.

        Cancelling the task closes the provider's connection. A backend repeats a request only as `Repeated` describes;
        it has no timeouts, and yields to the event loop however fast its provider is.

        Raises:
            ModelError: the call failed. A stream that ends without a finish reason raises `UpstreamTruncated`; an error
                that the provider reports in it before the first token raises the error of its status.
        """
        ...
