"""The JSON of a chat with a model: its messages, and the objects of which they and tools are made."""

from typing import Any, TypeAlias

from pydantic import JsonValue

JsonObject: TypeAlias = dict[str, JsonValue]

ChatMessage: TypeAlias = dict[str, Any]
"""One message in OpenAI's chat format."""
