"""A turn of a run as plain text."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from swarmstream.terminal import phrases
from swarmstream.terminal.line_writer import LineWriter
from swarmstream.terminal.sanitize import Cleaner, one_line

_PIECE_MS = 1000
"""Milliseconds that the beginning of a line may wait for its end while other turns go on."""
_MAX_WORD = 40
"""Characters; a longer word is taken for a script without spaces."""

TextKind: TypeAlias = Literal["chunk", "reasoning"]


class PlainTurn:
    """A turn that writes its text below its own heading, or line by line with its name once there are others."""

    def __init__(self, number: object, agent: str, writer: LineWriter, *, among_others: bool) -> None:
        self.among_others = among_others
        self._number = number
        self._agent = agent
        self._writer = writer
        self._kind: TextKind = "chunk"
        """Kind of the last text."""
        self._has_text = False
        self._line: list[str] = []
        """Among others: the open line, as far as it is not written."""
        self._line_ms = 0.0
        """Time of its first part, on the run's clock."""
        self._cleaners: dict[TextKind, Cleaner] = {}

    def join_others(self) -> None:
        """Go on line by line, to the end of the turn."""
        self.among_others = True
        self._writer.leave_section()

    def append(self, kind: TextKind, content: str, now_ms: float) -> None:
        """Write a delta."""
        if kind != self._kind:
            self.finish_text()
            self._kind = kind
            if kind == "reasoning" and not self.among_others:
                self._begin_section()
                self._writer.write("(thinking) ")
        self._has_text = self._has_text or kind == "chunk"
        cleaner = self._cleaners.get(kind) or self._cleaners.setdefault(kind, Cleaner())
        self._write_text(cleaner.feed(content), now_ms)

    def add_line(self, line: str) -> None:
        """Write a line that is no text of the agent's."""
        self.finish_text()
        if self.among_others:
            self._writer.write_line(f"{self._agent}: [{line}]")
        else:
            self._begin_section()
            self._writer.write_line(f"[{line}]")

    def end(self, data: Mapping[str, Any], now_ms: float) -> None:
        """Write the rest of the turn, from its `agent_end`."""
        output = data.get("output")
        if output and not self._has_text:
            text = output if isinstance(output, str) else one_line(output, phrases.MAX_OUTPUT)
            self.append("chunk", text, now_ms)
        self.finish_text()
        for line in phrases.client_tool_calls(data):
            self.add_line(f"calls {line}, which is for you to execute")
        if data.get("status") != "success":
            self.add_line(one_line(data.get("status", "?"), phrases.NAME_LENGTH))
        self._writer.end_section(self._number)

    def write_overdue(self, now_ms: float) -> None:
        """Write the open line so far, if it has waited for too long.

        It ends at its last space, which shows that it goes on; the rest may be half a word.
        """
        if not self._line or now_ms - self._line_ms < _PIECE_MS:
            return
        text = "".join(self._line)
        piece, space, rest = text.rpartition(" ")
        if not piece.strip():
            if len(text) < _MAX_WORD:
                return
            piece, space, rest = text, "", ""
        self._line[:] = [rest] if rest else []
        self._line_ms = now_ms
        self._write_line(piece + space)

    def finish_text(self) -> None:
        """Write what was held back, and end its line."""
        if cleaner := self._cleaners.get(self._kind):
            self._write_text(cleaner.end(), self._line_ms)
        if self._line:
            self._write_line("".join(self._line))
            self._line.clear()
        self._writer.end_line()

    def _write_text(self, text: str, now_ms: float) -> None:
        """Write clean text of the last kind."""
        if not text:
            return
        if not self.among_others:
            self._begin_section()
            self._writer.write(text)
            return
        *lines, rest = text.split("\n")
        for line in lines:
            self._write_line("".join((*self._line, line)))
            self._line.clear()
        if rest:
            if not self._line:
                self._line_ms = now_ms
            self._line.append(rest)

    def _write_line(self, line: str) -> None:
        thinking = " (thinking)" if self._kind == "reasoning" else ""
        self._writer.write_line(f"{self._agent}{thinking}: {line}")

    def _begin_section(self) -> None:
        self._writer.begin_section(self._number, f"--- {self._agent} ---")
