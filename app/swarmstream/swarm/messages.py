"""Conversations that clients post, in OpenAI's chat format."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from swarmstream.swarm.fields import Items, Payload

MAX_PARTS = 1000
"""Of a message, and images of a task."""


def _as_list(messages: Any) -> Any:
    """Return a list of messages, also for one message by itself, or for `{"k": message}`."""
    if not isinstance(messages, dict):
        return messages
    return [messages] if isinstance(messages.get("role"), str) else list(messages.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]


class TextPart(Payload):
    type: Literal["text"]
    """Marks a part that is text."""
    text: str
    """What is said."""


class ImageUrl(Payload):
    url: str
    """An http(s) URL, a `data:image/…` URL, or base64 of an image."""
    detail: str | None = None
    """How closely the model looks, as OpenAI has it: `auto`, `low` or `high`; null leaves it to the provider."""


def _as_image_url(image: Any) -> Any:
    return {"url": image} if isinstance(image, str) else image


class ImagePart(Payload):
    """An image; `image_url` may be the bare URL. What counts as one, see `swarmstream.swarm.images`."""

    type: Literal["image_url"]
    """Marks a part that is an image."""
    image_url: Annotated[ImageUrl, BeforeValidator(_as_image_url, json_schema_input_type=ImageUrl | str)]
    """The image, as an object or as its bare URL."""


class InputAudio(Payload):
    data: str
    """The sound, as base64."""
    format: str
    """The format of the sound, such as `wav` or `mp3`."""


class AudioPart(Payload):
    """Sound, as base64."""

    type: Literal["input_audio"]
    """Marks a part that is sound."""
    input_audio: InputAudio
    """The sound with its format."""


class RefusalPart(Payload):
    """What a model said instead of an answer."""

    type: Literal["refusal"]
    """Marks a part that is a refusal."""
    refusal: str
    """The words in which the model refused."""


ContentPart = Annotated[TextPart | ImagePart | AudioPart | RefusalPart, Field(discriminator="type")]
"""Parts that name a file or hold a document are refused: adapters would read files and reach hosts on their own."""


class FunctionCall(Payload):
    name: str
    """The name of the tool."""
    arguments: str
    """The model's own text: JSON, if it could write that."""


class ToolCall(Payload):
    """A call that a model asked for in an earlier turn of the conversation."""

    id: str
    """What the message with the result gives as its `tool_call_id`."""
    type: Literal["function"] = "function"
    """The kind of tool; there is one."""
    function: FunctionCall
    """The tool that was called, and with what."""


class Message(Payload):
    """One message of a conversation, in OpenAI's chat format."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    """Who speaks: `tool` is the result of a tool call."""
    content: str | Annotated[Items[ContentPart], Field(max_length=MAX_PARTS)] | None = None
    """What is said, as text or as at most 1,000 parts; null where a message only calls tools."""
    name: str | None = None
    """The name of the speaker, which is handed on to the provider."""
    refusal: str | None = None
    """What a model said instead of an answer."""
    tool_calls: Annotated[Items[ToolCall], Field(max_length=MAX_PARTS)] | None = None
    """The tools that a message of role `assistant` called; at most 1,000."""
    tool_call_id: str | None = None
    """The call that a message of role `tool` answers; it has to stand in an earlier message."""


Messages = Annotated[
    Items[Message],
    BeforeValidator(_as_list, json_schema_input_type=list[Message] | dict[str, Message] | Message),
]
