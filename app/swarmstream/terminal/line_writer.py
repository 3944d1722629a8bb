"""Lines on a text stream."""

from typing import TextIO


class LineWriter:
    """Gathers text for a stream, and knows whether its last line is open.

    Characters that the stream's encoding lacks are replaced.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._gathered: list[str] = []
        self._in_line = False
        self._section: object = None
        self.has_failed = False
        """True once the stream was closed at the other end."""

    def write(self, text: str) -> None:
        """Continue the open line, or begin one; the text may hold any number of lines."""
        self._gathered.append(text)
        self._in_line = not text.endswith("\n")

    def write_line(self, line: str) -> None:
        """Write a whole line of its own."""
        self.end_line()
        self._gathered.append(f"{line}\n")

    def end_line(self) -> None:
        """End the open line, if there is one."""
        if self._in_line:
            self._gathered.append("\n")
            self._in_line = False

    def begin_section(self, key: object, heading: str) -> None:
        """Write the heading, unless what is written last stands in this section already."""
        if self._section != key:
            self.write_line(heading)
            self._section = key

    def leave_section(self) -> None:
        """End the open line and the section."""
        self.end_line()
        self._section = None

    def end_section(self, key: object) -> None:
        """Write an empty line and end the section, if it is this one."""
        if self._section == key:
            self._gathered.append("\n")
            self._section = None

    def flush(self) -> None:
        """Pass what was gathered to the stream, and flush that.

        Raises:
            OSError: the stream is closed at the other end.
        """
        if not self._gathered:
            return
        text = "".join(self._gathered)
        self._gathered.clear()
        try:
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
            self._stream.flush()
        except OSError:
            self.has_failed = True
            raise
