"""The body of a chat-completions request, in pieces: what several requests share is encoded once.

Agents that run side by side all get the task and the transcript: from a task of a megabyte, sixty-four of them would
make sixty-four requests of a megabyte. A long message is encoded by the first call that sends it, and the
bytes are shared by all calls that send the same object, until the last of them has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import orjson

from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.prompt_size import FEW_FIELDS, text_bytes

LONG_MESSAGE: Final = 16 * 1024
"""Characters of a message that is worth sharing."""
_FEW_PARTS = 8


class _Encoded:
    """A message as JSON. It holds the message, too, so that no other object gets the same `id` meanwhile."""

    __slots__ = ("__weakref__", "json", "message")

    def __init__(self, message: ChatMessage) -> None:
        self.message = message
        self.json = orjson.dumps(_plain(message))


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A request's body; its sender holds it until it is sent."""

    pieces: Sequence[bytes]
    _shared: Sequence[_Encoded] = ()


class SharedMessages:
    """The long messages of the requests that are being sent."""

    def __init__(self) -> None:
        self._encoded: WeakValueDictionary[int, _Encoded] = WeakValueDictionary()

    @property
    def count(self) -> int:
        """The number of them."""
        return len(self._encoded)

    def encode(self, request: dict[str, Any], messages: Sequence[ChatMessage]) -> RequestBody:
        """Return the body of a request with these messages."""
        if not any(map(_is_long, messages)):
            return RequestBody([orjson.dumps({**request, "messages": [_plain(message) for message in messages]})])
        pieces = [orjson.dumps(request).removesuffix(b"}") + b',"messages":[']
        shared: list[_Encoded] = []
        for is_long, group in groupby(messages, key=_is_long):
            if is_long:
                encoded = [self._shared(message) for message in group]
                shared += encoded
                texts = [each.json for each in encoded]
            else:
                texts = [orjson.dumps([_plain(message) for message in group])[1:-1]]
            for text in texts:
                pieces += [text, b","]
        pieces[-1] = b"]}"
        return RequestBody(pieces, shared)

    def _shared(self, message: ChatMessage) -> _Encoded:
        encoded = self._encoded.get(id(message))
        if encoded is None:
            encoded = self._encoded[id(message)] = _Encoded(message)
        return encoded


def _is_long(message: ChatMessage) -> bool:
    content = message.get("content")
    if isinstance(content, str) and (len(message) <= FEW_FIELDS or len(content) >= LONG_MESSAGE):
        return len(content) >= LONG_MESSAGE
    # To measure many parts takes as long as to encode them.
    parts = cast("list[object]", content) if isinstance(content, list) else ()
    if len(parts) > _FEW_PARTS or len(message.get("tool_calls") or ()) > _FEW_PARTS:
        return True
    return text_bytes(message) >= LONG_MESSAGE


def _plain(message: ChatMessage) -> ChatMessage:
    """Return the message in the older form, which every provider takes; OpenAI's own take the newer one, too."""
    role, content = message["role"], message.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in cast(list[ChatMessage], content)):
        content = "".join(part["text"] for part in cast(list[ChatMessage], content))
    elif role != "developer":
        return message
    return {**message, "role": "system" if role == "developer" else role, "content": content}
