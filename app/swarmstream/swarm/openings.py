"""The opening messages of a plan's conversations, from a payload's task, history, messages and images."""

from collections.abc import Sequence
from typing import Any, Literal

from swarmstream.errors import InvalidRequest, Location, NoTask
from swarmstream.llm.messages import ChatMessage
from swarmstream.swarm.fields import Payload
from swarmstream.swarm.images import image_url
from swarmstream.swarm.messages import ImagePart, Message
from swarmstream.swarm.payloads import AgentRequest, RunSpec, SwarmRequest


def agent_opening(request: AgentRequest) -> tuple[ChatMessage, ...]:
    """Return the opening of a single agent: its history, then its task with the images.

    Raises:
        InvalidRequest: a message or an image cannot be used.
        NoTask: there are images without a task.
    """
    opening = _chat_messages(request.history, ("history",))
    images = _images(request)
    if request.task is not None and has_text(request.task):
        opening.append(_user_message(request.task, images))
    elif images:
        raise NoTask("images need a task", location=("task",))
    return tuple(opening)


def swarm_openings(request: SwarmRequest) -> tuple[tuple[ChatMessage, ...], ...]:
    """Return one opening for each conversation of a swarm: one per task of `tasks`, else a single one.

    Raises:
        InvalidRequest: a message or an image cannot be used.
        NoTask: there is nothing to work on, or one of the tasks is empty.
    """
    images = _images(request)
    history = _chat_messages(request.history, ("history",))
    match task_source(request):
        case "task":
            return ((*history, _user_message(request.task or "", images)),)
        case "messages" | "history":
            messages = [*history, *_chat_messages(request.messages, ("messages",))]
            return ((*messages, {"role": "user", "content": images}),) if images else (tuple(messages),)
        case "tasks":
            for index, task in enumerate(request.tasks):
                if not has_text(task):
                    raise NoTask("a task is empty", location=("tasks", index))
            return tuple((_user_message(task, images),) for task in request.tasks)


def task_source(request: SwarmRequest) -> Literal["task", "messages", "tasks", "history"]:
    """Return the field that a swarm works on: `task` wins over `messages`, these over `tasks`, these over a `history`
    by itself.

    Raises:
        NoTask: none of them is given.
    """
    if has_text(request.task):
        return "task"
    if request.messages:
        return "messages"
    if request.tasks:
        return "tasks"
    if request.history:
        return "history"
    raise NoTask("give a task, messages or tasks", location=("task",))


def has_text(task: str | None) -> bool:
    """Return True if a task is more than white space."""
    return bool(task and task.strip())


def _images(request: RunSpec) -> list[dict[str, Any]]:
    located = [(request.img, ("img",)), *((image, ("imgs", index)) for index, image in enumerate(request.imgs))]
    return [_image_part(image, at) for image, at in located if image]


def _user_message(task: str, images: Sequence[dict[str, Any]]) -> ChatMessage:
    return {"role": "user", "content": [{"type": "text", "text": task}, *images] if images else task}


def _chat_messages(messages: Sequence[Message], at: Location) -> list[ChatMessage]:
    """Return messages as providers get them.

    Raises:
        InvalidRequest: the result of a tool answers no call before it, or an image cannot be used.
    """
    call_ids: set[str] = set()
    for index, message in enumerate(messages):
        call_ids.update(call.id for call in message.tool_calls or ())
        if message.role == "tool" and message.tool_call_id not in call_ids:
            raise InvalidRequest(
                "a tool's message answers a call: its tool_call_id is that of a tool call before it",
                location=(*at, index, "tool_call_id"),
            )
    return [_chat_message(message, at=(*at, index)) for index, message in enumerate(messages)]


def _chat_message(message: Message, *, at: Location) -> ChatMessage:
    """Return the fields of a message that OpenAI's protocol knows, its images as URLs."""
    fields: ChatMessage = {
        name: value for name in Message.model_fields if (value := getattr(message, name)) is not None
    }
    if isinstance(message.content, list):
        fields["content"] = [
            _image_part(part.image_url.url, (*at, "content", index), detail=part.image_url.detail)
            if isinstance(part, ImagePart)
            else _known_fields(part)
            for index, part in enumerate(message.content)
        ]
    if message.tool_calls:
        fields["tool_calls"] = [
            {**_known_fields(call), "function": _known_fields(call.function)} for call in message.tool_calls
        ]
    # OpenAI's protocol has the key also where it is null: an assistant message that only calls tools.
    return {"content": None, **fields}


def _known_fields(payload: Payload) -> dict[str, Any]:
    """Return the declared fields that are given."""
    return payload.model_dump(include=set(type(payload).model_fields), exclude_none=True)


def _image_part(image: str, at: Location, *, detail: str | None = None) -> dict[str, Any]:
    url = {"url": image_url(image, location=at)}
    return {"type": "image_url", "image_url": {**url, "detail": detail} if detail else url}
