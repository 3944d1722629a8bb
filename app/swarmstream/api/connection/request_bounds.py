"""Bounds on the bytes of a request that are not its body: head, trailers, chunk extensions.

The parser has no bound of its own and would keep a head of any length. So it is fed piece by piece, never more of a
head than is allowed. The end of a head is looked for here, so that a body in the same packet does not count towards it.

What the parser is fed beyond the head, less what it reports as body and as the sizes of chunks, is framing: trailers
and chunk extensions.
"""

from swarmstream.errors import HeadTooLarge
from swarmstream.settings import ENV_PREFIX

_MAX_FRAMING_BYTES = 8192
"""Trailers and chunk extensions of one request."""
_LEAST_PIECE_BYTES = 512
_CHUNK_FRAMING_BYTES = 12
"""A chunk's size and two line ends: so much of each chunk is not an extension."""


class RequestBounds:
    """The count of one connection's bytes. The connection reports each piece and what the parser finds in it."""

    __slots__ = ("_began_in_head", "_framing_bytes", "_max_head_bytes", "head_bytes", "in_head")

    def __init__(self, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._framing_bytes = 0
        self._began_in_head = True
        self.in_head = True
        """True until a whole head has come, and again once its request is complete."""
        self.head_bytes = 0
        """Bytes of the head that is under way."""

    def next_piece(self, data: bytes, at: int) -> bytes:
        """Return the piece of the data, from `at` on, that the parser may have next, and count it."""
        self._began_in_head = self.in_head
        if not self.in_head:
            # The whole rest of what is allowed, and a little beyond it: too small a piece would go on for ever.
            piece = data[at : at + max(_MAX_FRAMING_BYTES - self._framing_bytes, _LEAST_PIECE_BYTES)]
            self._framing_bytes += len(piece)
            return piece
        end = data.find(b"\r\n\r\n", at) + 4
        most = at + self._max_head_bytes - self.head_bytes
        piece = data[at : min(end if end > 3 else len(data), most)]
        self.head_bytes += len(piece)
        return piece

    def on_head_complete(self) -> None:
        """Take what follows for the body and its framing."""
        self.in_head = False
        self._framing_bytes = 0

    def on_body(self, length: int) -> None:
        """Leave so many bytes, which are body, out of the framing."""
        self._framing_bytes -= length

    def on_chunk_header(self) -> None:
        """Leave the first line of a chunk out of the framing, as long as it has no extension."""
        self._framing_bytes -= _CHUNK_FRAMING_BYTES

    def on_message_complete(self) -> None:
        """Take what follows for the next request's head."""
        self.in_head = True
        self.head_bytes = 0

    def violation(self) -> HeadTooLarge | None:
        """Return the error of a request that is over its bounds, once the parser has had the piece."""
        self._framing_bytes = 0 if self._began_in_head else max(0, self._framing_bytes)
        if self.in_head and self.head_bytes >= self._max_head_bytes:
            limit = f"{self._max_head_bytes} bytes ({ENV_PREFIX}MAX_HEAD_BYTES)"
            return HeadTooLarge(f"the request's head is larger than {limit}")
        if not self.in_head and self._framing_bytes > _MAX_FRAMING_BYTES:
            return HeadTooLarge(f"trailers and chunk extensions are larger than {_MAX_FRAMING_BYTES} bytes")
        return None
