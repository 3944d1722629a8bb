"""Framings: how an event's id, name and data are laid out as bytes (docs/wire.md, section 4)."""

from abc import ABC, abstractmethod


class Framing(ABC):
    """A layout of frames. All of a frame is ASCII, for common parsers take U+2028 and U+0085 for line ends.

    A frame is `opening`, the id, `head(name)`, the data and `closing`, joined: an encoder that writes many frames of
    one name makes the head once.
    """

    media_type: str
    opening: str
    closing: str
    heartbeat: bytes
    """The bytes that fill a silence; no parser makes an event of them."""
    preamble: bytes = b""
    """The bytes before the first frame of an answer."""

    @abstractmethod
    def head(self, name: str) -> str:
        """Return the text between the id and the data of an event of this name."""

    @abstractmethod
    def frame_without_id(self, name: str, data: str) -> bytes:
        """Return the frame of an event that nothing resumes from."""


class SseFraming(Framing):
    r"""Server-Sent Events: `id: 1\nevent: start\ndata: {…}\n\n`."""

    media_type = "text/event-stream; charset=utf-8"
    opening = "id: "
    closing = "\n\n"
    heartbeat = b": ping\n"
    """A comment without a blank line: after an `id:`, one makes the official SDK's decoder dispatch an empty event."""
    preamble = b"retry: 3000\n"
    """Milliseconds that a browser waits before it connects again."""

    def head(self, name: str) -> str:
        return f"\nevent: {name}\ndata: "

    def frame_without_id(self, name: str, data: str) -> bytes:
        return f"event: {name}\ndata: {data}\n\n".encode("ascii")


class NdjsonFraming(Framing):
    r"""JSON lines: `{"id":1,"event":"start","data":{…}}\n`."""

    media_type = "application/x-ndjson"
    opening = '{"id":'
    closing = "}\n"
    heartbeat = b" "
    """White space before the next line's JSON: parsers skip it, and every proxy passes it on."""

    def head(self, name: str) -> str:
        return f',"event":"{name}","data":'

    def frame_without_id(self, name: str, data: str) -> bytes:
        return f'{{"event":"{name}","data":{data}}}\n'.encode("ascii")


SSE = SseFraming()
NDJSON = NdjsonFraming()


def gap_frame(framing: Framing, *, requested: int, first_available: int) -> bytes:
    """Return the frame that tells a reader which events it cannot have any more."""
    return framing.frame_without_id("gap", f'{{"requested":{requested},"first_available":{first_available}}}')
