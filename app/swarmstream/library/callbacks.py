"""Adapters that call a program's callback with what it wants of a run's frames.

Each adapter is made for one run, takes frames, and returns what the callback returned, which may be awaitable.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from swarmstream.library.events import Frame

Callback: TypeAlias = Callable[..., Any]


def with_tokens(callback: Callback) -> Callback:
    """Adapt `callback(token)`."""

    def on_frame(frame: Frame) -> Any:
        return callback(frame["data"]["content"]) if frame["event"] == "chunk" else None

    return on_frame


def with_agent_names(callback: Callback) -> Callback:
    """Adapt `callback(agent, chunk, is_final)`; the last call of a turn has no text."""

    def on_frame(frame: Frame) -> Any:
        data = frame["data"]
        if frame["event"] == "chunk":
            return callback(data["agent"], data["content"], False)
        return callback(data["agent"], "", True) if frame["event"] == "agent_end" else None

    return on_frame


def with_details(callback: Callback) -> Callback:
    """Adapt `callback({"content", "token", "token_index", "type", "agent"})`, called for each token.

    At the end of a turn it is called once more, without text, with its `finish_reason` and its `usage`. Indices count
    the run's tokens from 0.
    """
    token_count = 0

    def on_frame(frame: Frame) -> Any:
        nonlocal token_count
        data = frame["data"]
        if frame["event"] not in ("chunk", "agent_end"):
            return None
        is_token = frame["event"] == "chunk"
        text: str = data["content"] if is_token else ""
        details: dict[str, Any] = {
            "content": text,
            "token": text,
            "token_index": token_count,
            "type": "token" if is_token else "agent_end",
            "agent": data["agent"],
        }
        token_count += is_token
        if not is_token:
            details |= {name: data[name] for name in ("finish_reason", "usage") if data[name] is not None}
        return callback(details)

    return on_frame
