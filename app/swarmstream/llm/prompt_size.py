"""The size of prompts, in bytes and about how many tokens."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from swarmstream.llm.messages import ChatMessage

BYTES_PER_TOKEN: Final = 4
"""The rule of thumb that providers give for their tokenizers."""
IMAGE_TOKENS: Final = 1000
"""Providers count an image by its size in pixels: some hundreds to some thousands."""


FEW_FIELDS: Final = 2
"""Of a message: its role and its content."""


class PromptSize(NamedTuple):
    """About the bytes of a request, images included, and about the tokens that a provider counts."""

    bytes: int = 0
    tokens: int = 0


class PromptSizes:
    """A measure of prompts with messages in common. Messages with many parts, as payloads have, are measured once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ChatMessage, PromptSize]] = {}

    def measure(self, messages: Iterable[ChatMessage]) -> PromptSize:
        """Return the size of a prompt."""
        size = tokens = 0
        for message in messages:
            content = message.get("content")
            if isinstance(content, list):
                measured = self._measure_parts(message, cast("list[dict[str, Any]]", content))
                size += measured.bytes
                tokens += measured.tokens
            else:
                # Most have no other text: there may be thousands.
                length = text_bytes(content if len(message) <= FEW_FIELDS else message)
                size += length
                tokens += -(-length // BYTES_PER_TOKEN)
        return PromptSize(size, tokens)

    def _measure_parts(self, message: ChatMessage, parts: list[dict[str, Any]]) -> PromptSize:
        known = self._known.get(id(message))
        if known is None:
            size = text_bytes(message)
            images = [part for part in parts if part.get("type") == "image_url"]
            tokens = -(-(size - text_bytes(images)) // BYTES_PER_TOKEN) + IMAGE_TOKENS * len(images)
            known = self._known[id(message)] = (message, PromptSize(size, tokens))
        return known[1]


def text_bytes(value: object) -> int:
    """Return the length of the texts in a JSON value, in bytes of UTF-8."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if isinstance(value, dict):
        return sum(map(text_bytes, cast("dict[str, object]", value).values()))
    return sum(map(text_bytes, cast("list[object]", value))) if isinstance(value, list) else 0
