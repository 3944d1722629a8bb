"""The deltas in litellm's chunks."""

from collections.abc import Iterator, Mapping
from typing import Any

from swarmstream.llm.base import Delta, Reasoning, TokenCount, ToolCallDelta

_SIGNATURE = "__thought__"
"""Separator that litellm puts between the id of a tool call and a signature."""


class Thoughts:
    """A model's thoughts as it wants them back with the results of its tools."""

    def __init__(self) -> None:
        self._signed: list[dict[str, Any]] = []
        """Claude's, which come in pieces and go back whole (Anthropic, "Preserving thinking blocks")."""
        self._pieces: list[str] = []
        self._items: list[Any] = []
        """Those of OpenAI's responses, encrypted."""
        self._signatures: list[Any] = []
        """Gemini's, of its text ("Thought signatures"); those of its tool calls go with these."""

    def add(self, delta: Any) -> None:
        """Keep what a delta of litellm's holds of them."""
        for block in getattr(delta, "thinking_blocks", None) or ():
            self._add_block(block)
        # A provider that keeps nothing does not know the others when they come back.
        self._items += [item for item in getattr(delta, "reasoning_items", None) or () if item.get("encrypted_content")]
        if not delta.tool_calls and (fields := getattr(delta, "provider_specific_fields", None)):
            self._signatures += fields.get("thought_signatures") or ()

    def echo(self) -> dict[str, Any]:
        """Return the fields of the message that litellm takes them back in; empty if there are none."""
        fields: dict[str, Any] = {}
        if self._signed:
            fields["thinking_blocks"] = self._signed
        if self._items:
            fields["reasoning_items"] = self._items
        if self._signatures:
            fields["provider_specific_fields"] = {"thought_signatures": self._signatures}
        return fields

    def _add_block(self, block: Mapping[str, Any]) -> None:
        if block.get("type") != "thinking":
            self._signed.append(dict(block))
            return
        self._pieces.append(block.get("thinking") or "")
        if signature := block.get("signature"):
            self._signed.append({"type": "thinking", "thinking": "".join(self._pieces), "signature": signature})
            self._pieces.clear()


def chunk_deltas(chunk: Any, thoughts: Thoughts) -> Iterator[Delta]:
    """Yield the deltas of a chunk; its thoughts are added to `thoughts`, too."""
    for choice in chunk.choices:
        if choice.index:
            continue  # we ask for one answer; of several, the first counts
        delta = choice.delta
        thoughts.add(delta)
        if thought := getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None):
            yield Reasoning(thought)
        if text := delta.content or getattr(delta, "refusal", None):
            yield text
        for call in delta.tool_calls or ():
            yield _tool_call(call)


def token_count(stream: Any) -> TokenCount | None:
    """Return the provider's own figures.

    Where they are missing, litellm makes some up; where they are not numbers, it makes a 0 of them, and there is no
    call without input.
    """
    for chunk in reversed(getattr(stream, "chunks", ())):  # there are none as long as it is not unwrapped
        if usage := getattr(chunk, "usage", None):
            prompt = getattr(usage, "prompt_tokens_details", None)
            completion = getattr(usage, "completion_tokens_details", None)
            count = TokenCount.from_figures(
                usage.prompt_tokens,
                usage.completion_tokens,
                getattr(prompt, "cached_tokens", None),
                getattr(completion, "reasoning_tokens", None),
            )
            if count is not None and count.input_tokens:
                return count
    return None


def _tool_call(call: Any) -> ToolCallDelta:
    """Return a piece of a call. litellm puts Gemini's signature of the thought behind it into its id, and beside it."""
    fields = getattr(call, "provider_specific_fields", None)
    extra = {"provider_specific_fields": fields} if fields else None
    call_id = call.id.partition(_SIGNATURE)[0] if call.id else None
    return ToolCallDelta(call.index, call_id, call.function.name, call.function.arguments or "", extra)
