"""Lines of a byte stream that is cut anywhere."""

MAX_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class LineReader:
    """Gathers bytes to lines, without their line feed; a carriage return stays at a line's end.

    A byte order mark at the beginning of the stream is left out, as Server-Sent Events want it (WHATWG HTML, 9.2.5).
    """

    def __init__(self) -> None:
        self.is_too_long = False
        """True once a line is longer than `MAX_LINE_BYTES`; nothing is to be read from then on."""
        self._parts: list[bytes] = [b""]
        """The beginning of a line. Not empty before the first line, which is looked at closely."""
        self._length = 0
        self._is_begun = False

    def feed(self, received: bytes) -> list[bytes]:
        """Return the lines that these bytes complete, before one that is too long."""
        end = received.rfind(b"\n")
        if end < 0:
            self._keep(received)
            return []
        whole = received[:end]
        if self._parts:
            whole = b"".join((*self._parts, whole))
            self._parts, self._length = [], 0
            if not self._is_begun:
                self._is_begun = True
                whole = whole.removeprefix(_BOM)
        lines = whole.split(b"\n")
        if len(whole) > MAX_LINE_BYTES and len(max(lines, key=len)) > MAX_LINE_BYTES:
            self.is_too_long = True
            return []
        if end + 1 < len(received):
            self._keep(received[end + 1 :])
        return lines

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        self.is_too_long = self._length > MAX_LINE_BYTES
        if not self.is_too_long:
            self._parts.append(part)
