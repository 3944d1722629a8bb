"""The reply to a model call, put together from the deltas of its stream."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from swarmstream.errors import UpstreamInvalid
from swarmstream.events import ToolCall
from swarmstream.llm.base import TokenCount, ToolCallDelta
from swarmstream.llm.model_ref import ModelRef
from swarmstream.unicode import SurrogateJoiner, replace_lone_surrogates

_MAX_DELTA_LENGTH = 1 << 20
_MAX_REPLY_LENGTH = 16 << 20
"""Of text, reasoning and tool calls together: ten times the longest that models give."""
_MAX_TOOL_CALLS = 128
_MAX_ID_LENGTH = 64
"""OpenAI's limit. A provider whose ids are longer (some proxies put signed thoughts into them) gets its own back."""
_MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """A replace_lone_surrogates reply."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the message that the provider wants back when the calls are answered."""
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """The same of the calls, by their ids; `id` itself where clients see another one than the provider's."""


@dataclass(slots=True)
class _PartialToolCall:
    """A tool call so far."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def is_complete_before(self, delta: ToolCallDelta) -> bool:
        """Return True if this delta begins another call: some providers number all of them 0, some without ids."""
        if delta.id and self.id:
            return delta.id != self.id
        return bool(delta.name and self.arguments) and _is_json("".join(self.arguments))

    def add(self, delta: ToolCallDelta) -> None:
        """Add a delta of this call. A provider may repeat id and name with each."""
        self.id = self.id or (delta.id or "")
        if delta.name and delta.name != self.name:
            self.name += delta.name
        self.arguments.append(delta.arguments)
        self.extra |= delta.extra or {}


@dataclass(slots=True)
class PartialReply:
    """A reply so far, and the model that gives it."""

    model: ModelRef
    is_opened: bool = False
    """The provider has accepted the request, and may charge it."""
    deltas: int = 0
    """Of text, reasoning and tool calls. From the first one on, nothing is repeated."""
    length: int = 0
    """Of all deltas, in characters."""
    reasoning_length: int = 0
    arguments_length: int = 0
    finish_reason: str | None = None
    token_count: TokenCount | None = None
    pieces: list[str] = field(default_factory=list[str])
    """The text, as it was passed on."""
    echo: dict[str, Any] = field(default_factory=dict[str, Any])
    text_joiner: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    reasoning_joiner: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    _tool_calls: list[_PartialToolCall] = field(default_factory=list[_PartialToolCall])
    _by_index: dict[int, _PartialToolCall] = field(default_factory=dict[int, _PartialToolCall])

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)

    def count_delta(self, length: int) -> None:
        """Count a delta of this length.

        Raises:
            UpstreamInvalid: it is too large, or all of them together are.
        """
        self.deltas += 1
        self.length += length
        if length > _MAX_DELTA_LENGTH or self.length > _MAX_REPLY_LENGTH:
            raise UpstreamInvalid("the provider sent more than an answer can be")

    def add_tool_call(self, delta: ToolCallDelta) -> None:
        """Add a piece of a tool call.

        Raises:
            UpstreamInvalid: there are too many calls.
        """
        call = self._by_index.get(delta.index)
        if call is None or call.is_complete_before(delta):
            if len(self._tool_calls) >= _MAX_TOOL_CALLS:
                raise UpstreamInvalid("the provider sent more tool calls than an answer can have")
            call = self._by_index[delta.index] = _PartialToolCall()
            self._tool_calls.append(call)
        call.add(delta)
        self.arguments_length += len(delta.arguments)

    def finished(self, step: int, taken: Collection[str]) -> Reply:
        """Return the reply to the turn's call of this number, its tool calls in the model's order.

        Each tool call has an id of its own that is not among the `taken` ones, so that clients can tell all tool calls
        of a turn apart.
        """
        calls: dict[str, ToolCall] = {}
        extras: dict[str, Mapping[str, Any]] = {}
        for number, partial in enumerate(self._tool_calls, start=1):
            call_id = provider_id = replace_lone_surrogates(partial.id)
            if len(provider_id) > _MAX_ID_LENGTH:
                call_id = f"call_{step}_{number}"
                partial.extra["id"] = provider_id
            elif not call_id or call_id in calls or call_id in taken:
                call_id = f"call_{step}_{number}_{call_id}".rstrip("_")[:_MAX_ID_LENGTH]
            name = replace_lone_surrogates(partial.name)[:_MAX_NAME_LENGTH]
            calls[call_id] = ToolCall(call_id, name, replace_lone_surrogates("".join(partial.arguments)))
            if partial.extra:
                extras[call_id] = partial.extra
        return Reply(self.text, tuple(calls.values()), self.echo, extras)


def _is_json(text: str) -> bool:
    try:
        from_json(text.encode(errors="surrogatepass"))
    except ValueError:
        return False
    return True
