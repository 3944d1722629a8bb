"""A run as plain text, for standard output that is no terminal."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from swarmstream.terminal import phrases
from swarmstream.terminal.line_writer import LineWriter
from swarmstream.terminal.plain_turn import PlainTurn
from swarmstream.terminal.sanitize import one_line
from swarmstream.terminal.totals import Totals


class PlainText:
    """Writes a run's text as it comes, without a single escape sequence.

    A turn that goes on alone stands below the line `--- Name ---`, token by token. While several go on at once, each
    line is written when it is whole, as `Name: line`, and a long one in pieces, about a second of the run each, which
    end between two words; a turn that others joined goes on so to its end. What is no text of an agent's stands in
    brackets on a line of its own. After each frame the stream is flushed.
    """

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, title: str | None = None, notes: TextIO | None = None
    ) -> None:
        """Write to `stream`; the run's totals go to `notes` if that is given."""
        self._writer = LineWriter(stream)
        self._notes = notes
        self._now_ms = 0.0
        self._verbose = verbose
        self._title = title
        self._totals = Totals()
        self._turns: dict[object, PlainTurn] = {}

    def __enter__(self) -> Self:
        return self

    def show(self, frame: Mapping[str, Any]) -> None:
        """Write what a frame brings.

        Raises:
            OSError: the stream is closed at the other end.
        """
        event, data = frame["event"], frame["data"]
        self._totals.observe(event, data)
        self._now_ms = max(self._now_ms, phrases.number(data, "t"))
        if "turn" in data:
            self._show_turn(event, data, self._turns.get(data["turn"]) or self._begin(data))
        elif event == "metadata":
            if self._title:
                self._writer.write_line(self._title)
            for warning in data.get("warnings") or ():
                self._writer.write_line(f"[warning: {one_line(warning, 200)}]")
        elif event == "error":
            self._writer.write_line(f"[error: {phrases.failure(data)}]")
        elif event == "end":
            self._conclude()
        for turn in self._turns.values():
            turn.write_overdue(self._now_ms)
        self._writer.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._totals.begun or self._totals.status is not None or self._writer.has_failed:
            return
        for turn in self._turns.values():
            turn.finish_text()
        self._conclude()
        self._writer.flush()

    def _conclude(self) -> None:
        if self._notes is None:
            self._writer.write_line(f"[{self._totals.line()}]")
            return
        self._writer.end_line()
        self._writer.flush()
        self._notes.write(f"[{self._totals.line()}]\n")
        self._notes.flush()

    def _begin(self, data: Mapping[str, Any]) -> PlainTurn:
        for other in self._turns.values():
            if not other.among_others:
                other.join_others()
        turn = PlainTurn(data["turn"], phrases.agent_of(data), self._writer, among_others=bool(self._turns))
        self._turns[data["turn"]] = turn
        return turn

    def _show_turn(self, event: str, data: Mapping[str, Any], turn: PlainTurn) -> None:
        match event:
            case "chunk":
                turn.append("chunk", data.get("content", ""), self._now_ms)
            case "reasoning" if self._verbose:
                turn.append("reasoning", data.get("content", ""), self._now_ms)
            case "tool_start":
                turn.add_line(f"calls {phrases.call_begun(data)}")
            case "tool_end":
                turn.add_line(f"{phrases.tool_of(data)} → {phrases.call_ended(data)}")
            case "custom":
                for line in phrases.custom(data):
                    turn.add_line(line)
            case "turn_restart":
                turn.add_line(phrases.restarted(data))
            case "error":
                turn.add_line(f"error: {phrases.failure(data)}")
            case "agent_end":
                turn.end(data, self._now_ms)
                del self._turns[data["turn"]]
            case _:
                pass
