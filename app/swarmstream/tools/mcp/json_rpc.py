"""The JSON-RPC messages of MCP, as far as the transport reads them."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic_core import from_json, to_json


class Message(NamedTuple):
    """A message that is sent to a server."""

    id: Any = None
    method: str = ""
    expects_answer: bool = False

    def error(self, problem: str, mark: str) -> dict[str, Any]:
        """Return an error of ours as the answer. `mark` tells it from errors of the server."""
        return {"jsonrpc": "2.0", "id": self.id, "error": {"code": -32000, "message": problem, "data": mark}}


def parse_message(body: bytes) -> Message:
    """Parse a message of the SDK's; an empty body has none."""
    fields: Mapping[str, Any] = from_json(body) if body else {}
    method = fields.get("method", "")
    return Message(fields.get("id"), method, bool(method) and "id" in fields)


def answer_to(message: Message, body: bytes) -> bytes | None:
    """Return a server's body if it answers the message; None otherwise.

    An error without an id gets that of the message: servers that cannot read a request do not know its id.
    """
    try:
        answer: Any = from_json(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    fields = cast("dict[str, Any]", answer)
    if isinstance(fields.get("error"), dict) and fields.get("id") is None:
        return to_json({**fields, "id": message.id})
    return body if fields.get("id") == message.id and ("result" in fields or "error" in fields) else None


def whole_events(held: bytearray, start: int) -> int:
    """Return the length of the whole server-sent events in `held`; the search for their end begins at `start`."""
    ends = (held.rfind(blank, start) + len(blank) for blank in (b"\n\n", b"\r\n\r\n", b"\r\r") if blank in held[start:])
    return max(ends, default=0)
