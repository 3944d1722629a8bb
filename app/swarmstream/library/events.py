"""A run's frames, and the events that programs get of them."""

from typing import Any, TypeAlias

Frame: TypeAlias = dict[str, Any]
"""`{"id", "event", "data"}`, as on the wire."""


def event_of(frame: Frame) -> Any:
    """Return the frame's data with the event's name as `type`; a `chunk` becomes a `token` (see `event_types`)."""
    data: dict[str, Any] = frame["data"]
    if frame["event"] != "chunk":
        return {**data, "type": frame["event"]}
    return {"type": "token", **{("token" if name == "content" else name): value for name, value in data.items()}}
