"""One model call as far as it has come: what it has said, thought and asked for, put together from its deltas."""

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
_MAX_ANSWER_LENGTH = 16 << 20
"""Of text, thoughts and tool calls together: ten times what any model gives."""
_MAX_TOOL_CALLS = 128
_MAX_ID_LENGTH = 64
"""What OpenAI takes. A provider whose ids are longer (some proxies put signed thoughts into them) gets its own back."""
_MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said to one call."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the message that the provider wants back when the calls are answered."""
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """The same of the calls, by their ids; `id` itself where the provider's own is not what clients see."""


@dataclass(slots=True)
class _ToolCallParts:
    """A tool call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def is_over(self, delta: ToolCallDelta) -> bool:
        """Whether this piece is of another call: some providers number all of them 0, and some give them no ids."""
        if delta.id and self.id:
            return delta.id != self.id
        return bool(delta.name and self.arguments) and _is_json("".join(self.arguments))


@dataclass(slots=True)
class Call:
    """One model call as far as it has come."""

    model: ModelRef
    opened: bool = False
    heard: int = 0
    """How many deltas it has given: from the first one on, nothing is repeated."""
    length: int = 0
    """Of all that it has said, thought and asked for."""
    thought_length: int = 0
    arguments_length: int = 0
    finish_reason: str | None = None
    count: TokenCount | None = None
    pieces: list[str] = field(default_factory=list[str])
    echo: dict[str, Any] = field(default_factory=dict[str, Any])
    text: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    thought: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    _asked_for: list[_ToolCallParts] = field(default_factory=list[_ToolCallParts])
    _by_index: dict[int, _ToolCallParts] = field(default_factory=dict[int, _ToolCallParts])

    def hear(self, length: int) -> None:
        """A delta of this length has come.

        Raises:
            UpstreamInvalid: it is too large, or all of them are.
        """
        self.heard += 1
        self.length += length
        if length > _MAX_DELTA_LENGTH or self.length > _MAX_ANSWER_LENGTH:
            raise UpstreamInvalid("the provider sent more than an answer can be")

    def take(self, delta: ToolCallDelta) -> None:
        """A piece of a tool call has come. Some providers number all calls 0: another id is another call."""
        parts = self._by_index.get(delta.index)
        if parts is None or parts.is_over(delta):
            if len(self._asked_for) >= _MAX_TOOL_CALLS:
                raise UpstreamInvalid("the provider sent more tool calls than an answer can have")
            parts = self._by_index[delta.index] = _ToolCallParts()
            self._asked_for.append(parts)
        parts.id = parts.id or (delta.id or "")
        if delta.name and delta.name != parts.name:
            parts.name += delta.name
        parts.arguments.append(delta.arguments)
        parts.extra |= delta.extra or {}
        self.arguments_length += len(delta.arguments)

    def reply(self, step: int, taken: Collection[str]) -> Reply:
        """What it came to. Tool calls are in its order, each with an id of its own, none of which is `taken`."""
        calls: dict[str, ToolCall] = {}
        extras: dict[str, Mapping[str, Any]] = {}
        for number, parts in enumerate(self._asked_for, start=1):
            call_id = its_id = replace_lone_surrogates(parts.id)
            if len(its_id) > _MAX_ID_LENGTH:
                call_id = f"call_{step}_{number}"
                parts.extra["id"] = its_id
            elif not call_id or call_id in calls or call_id in taken:
                call_id = f"call_{step}_{number}_{call_id}".rstrip("_")[:_MAX_ID_LENGTH]
            calls[call_id] = ToolCall(
                call_id,
                replace_lone_surrogates(parts.name)[:_MAX_NAME_LENGTH],
                replace_lone_surrogates("".join(parts.arguments)),
            )
            if parts.extra:
                extras[call_id] = parts.extra
        return Reply("".join(self.pieces), tuple(calls.values()), self.echo, extras)


def _is_json(text: str) -> bool:
    try:
        from_json(text.encode(errors="surrogatepass"))
    except ValueError:
        return False
    return True
