"""What callers of the Python face see of a run's frames: tokens, events, callbacks."""

from collections.abc import Callable
from typing import Any, TypeAlias

Frame: TypeAlias = dict[str, Any]
"""`{"id", "event", "data"}`, as on the wire."""
Callback: TypeAlias = Callable[..., Any]


def event_of(frame: Frame) -> Any:
    """The frame's data, with the event's name as `type`; a `chunk` becomes a `token`. See `event_types`."""
    data: dict[str, Any] = frame["data"]
    if frame["event"] != "chunk":
        return {**data, "type": frame["event"]}
    return {"type": "token", **{("token" if name == "content" else name): value for name, value in data.items()}}


def with_tokens(callback: Callback) -> Callback:
    """Calls `callback(token)`."""

    def hear(frame: Frame) -> Any:
        return callback(frame["data"]["content"]) if frame["event"] == "chunk" else None

    return hear


def with_speakers(callback: Callback) -> Callback:
    """Calls `callback(agent, chunk, is_final)`; the last call of a turn has no text."""

    def hear(frame: Frame) -> Any:
        data = frame["data"]
        if frame["event"] == "chunk":
            return callback(data["agent"], data["content"], False)
        return callback(data["agent"], "", True) if frame["event"] == "agent_end" else None

    return hear


def with_details(callback: Callback) -> Callback:
    """Calls `callback({"content", "token", "token_index", "type", "agent"})` for each token, and once more at the end
    of a turn, without text, with its `finish_reason` and its `usage`. Indices count from 0."""
    spoken = 0

    def hear(frame: Frame) -> Any:
        nonlocal spoken
        data = frame["data"]
        if frame["event"] not in ("chunk", "agent_end"):
            return None
        is_token = frame["event"] == "chunk"
        text: str = data["content"] if is_token else ""
        told: dict[str, Any] = {
            "content": text,
            "token": text,
            "token_index": spoken,
            "type": "token" if is_token else "agent_end",
            "agent": data["agent"],
        }
        spoken += is_token
        if not is_token:
            told |= {name: data[name] for name in ("finish_reason", "usage") if data[name] is not None}
        return callback(told)

    return hear
