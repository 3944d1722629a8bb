"""A run as plain text, for standard output that is no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TextIO

from swarmstream.terminal import phrases
from swarmstream.terminal.sanitize import Cleaner, one_line
from swarmstream.terminal.totals import Totals

_PIECE_MS = 1000
"""How long a line may wait for its end while several speak."""
_LONGEST_WORD = 40


@dataclass(slots=True)
class _OpenTurn:
    """A turn that goes on."""

    agent: str
    in_company: bool
    kind: str = "chunk"
    """Of the text that came last."""
    has_text: bool = False
    line: list[str] = field(default_factory=list[str])
    """In company: what is not written yet of the line that has not ended."""
    line_ms: float = 0
    """Since when there is something in it, on the run's clock."""
    cleaners: dict[str, Cleaner] = field(default_factory=dict[str, Cleaner])


class PlainText:
    """Writes a run's text as it comes, without a single escape sequence.

    A turn that speaks alone stands below the line `--- Name ---`, token by token. While several speak at once, each
    line is written when it is whole, as `Name: line`, and a long one in pieces, about a second of the run each, which
    end between two words; a turn that others joined goes on so to its end. Whatever is no text of an agent's stands in
    brackets on a line of its own. After each frame the stream is flushed.
    """

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, title: str | None = None, notes: TextIO | None = None
    ) -> None:
        """What the run came to goes to `notes`, or to the stream as well."""
        self._stream = stream
        self._notes = notes
        self._now_ms = 0.0
        self._is_unread = False
        """Whether the stream has turned out to be closed."""
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._verbose = verbose
        self._title = title
        self._tally = Totals()
        self._voices: dict[object, _OpenTurn] = {}
        self._heard: object = None
        """The turn under whose heading we write."""
        self._mid_line = False
        self._written: list[str] = []

    def __enter__(self) -> Self:
        return self

    def show(self, frame: Mapping[str, Any]) -> None:
        """Write what the frame tells.

        Raises:
            OSError: nobody reads the stream any more.
        """
        event, data = frame["event"], frame["data"]
        self._tally.observe(event, data)
        self._now_ms = max(self._now_ms, phrases.number(data, "t"))
        if "turn" in data:
            self._tell(event, data, self._voices.get(data["turn"]) or self._begin(data))
        elif event == "metadata":
            if self._title:
                self._write(f"{self._title}\n")
            for warning in data.get("warnings") or ():
                self._write(f"[warning: {one_line(warning, 200)}]\n")
        elif event == "error":
            self._line(f"[error: {phrases.failure(data)}]\n")
        elif event == "end":
            self._conclude()
        for voice in self._voices.values():
            if voice.line and self._now_ms - voice.line_ms >= _PIECE_MS:
                self._write_piece(voice)
        self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._tally.begun or self._tally.status is not None or self._is_unread:
            return
        for turn, voice in list(self._voices.items()):
            self._finish_text(turn, voice)
        self._conclude()
        self._flush()

    def _conclude(self) -> None:
        if self._notes is None:
            self._line(f"[{self._tally.line()}]\n")
            return
        self._end_line()
        self._flush()
        self._notes.write(f"[{self._tally.line()}]\n")
        self._notes.flush()

    def _begin(self, data: Mapping[str, Any]) -> _OpenTurn:
        for voice in self._voices.values():
            if not voice.in_company:
                voice.in_company = True
                self._end_line()
                self._heard = None
        voice = self._voices[data["turn"]] = _OpenTurn(phrases.name_of(data), in_company=bool(self._voices))
        return voice

    def _tell(self, event: str, data: Mapping[str, Any], voice: _OpenTurn) -> None:
        turn = data["turn"]
        match event:
            case "chunk":
                self._say(turn, voice, event, data.get("content", ""))
            case "reasoning" if self._verbose:
                self._say(turn, voice, event, data.get("content", ""))
            case "tool_start":
                self._note(turn, voice, f"calls {phrases.call_begun(data)}")
            case "tool_end":
                self._note(turn, voice, f"{phrases.tool_of(data)} → {phrases.call_ended(data)}")
            case "custom":
                for line in phrases.custom(data):
                    self._note(turn, voice, line)
            case "turn_restart":
                self._note(turn, voice, phrases.restarted(data))
            case "error":
                self._note(turn, voice, f"error: {phrases.failure(data)}")
            case "agent_end":
                self._end(turn, voice, data)
            case _:
                pass

    def _say(self, turn: object, voice: _OpenTurn, kind: str, content: str) -> None:
        if kind != voice.kind:
            self._finish_text(turn, voice)
            voice.kind = kind
            if kind == "reasoning" and not voice.in_company:
                self._head(turn, voice)
                self._write("(thinking) ")
        voice.has_text = voice.has_text or kind == "chunk"
        cleaner = voice.cleaners.get(kind) or voice.cleaners.setdefault(kind, Cleaner())
        self._speak(turn, voice, cleaner.feed(content))

    def _speak(self, turn: object, voice: _OpenTurn, text: str) -> None:
        """Clean text of the turn, of the kind it has spoken last."""
        if not text:
            return
        if not voice.in_company:
            self._head(turn, voice)
            self._write(text)
            self._mid_line = not text.endswith("\n")
            return
        *lines, rest = text.split("\n")
        for line in lines:
            self._prefixed(voice, "".join((*voice.line, line)))
            voice.line.clear()
        if rest:
            if not voice.line:
                voice.line_ms = self._now_ms
            voice.line.append(rest)

    def _write_piece(self, voice: _OpenTurn) -> None:
        """What there is of a line, up to its last space, which shows that it goes on; the rest may be half a word."""
        text = "".join(voice.line)
        piece, space, rest = text.rpartition(" ")
        if not piece.strip():
            if len(text) < _LONGEST_WORD:
                return
            piece, space, rest = text, "", ""  # a script without spaces
        voice.line[:] = [rest] if rest else []
        voice.line_ms = self._now_ms
        self._prefixed(voice, piece + space)

    def _prefixed(self, voice: _OpenTurn, line: str) -> None:
        thinking = " (thinking)" if voice.kind == "reasoning" else ""
        self._end_line()
        self._write(f"{voice.agent}{thinking}: {line}\n")

    def _finish_text(self, turn: object, voice: _OpenTurn) -> None:
        """What was kept back, and the end of its line."""
        if cleaner := voice.cleaners.get(voice.kind):
            self._speak(turn, voice, cleaner.end())
        if voice.line:
            self._prefixed(voice, "".join(voice.line))
            voice.line.clear()
        self._end_line()

    def _note(self, turn: object, voice: _OpenTurn, note: str) -> None:
        """A line that is no text of the agent's."""
        self._finish_text(turn, voice)
        if voice.in_company:
            self._write(f"{voice.agent}: [{note}]\n")
        else:
            self._head(turn, voice)
            self._write(f"[{note}]\n")

    def _end(self, turn: object, voice: _OpenTurn, data: Mapping[str, Any]) -> None:
        output = data.get("output")
        if output and not voice.has_text:
            self._say(turn, voice, "chunk", output if isinstance(output, str) else one_line(output, 10_000))
        self._finish_text(turn, voice)
        for line in phrases.calls_for_the_caller(data):
            self._note(turn, voice, f"calls {line}, which is for you to execute")
        if data.get("status") != "success":
            self._note(turn, voice, one_line(data.get("status", "?"), phrases.NAME_LENGTH))
        del self._voices[turn]
        if self._heard == turn:
            self._write("\n")
            self._heard = None

    def _head(self, turn: object, voice: _OpenTurn) -> None:
        if self._heard != turn:
            self._line(f"--- {voice.agent} ---\n")
            self._heard = turn

    def _line(self, line: str) -> None:
        """A line that belongs to no turn."""
        self._end_line()
        self._write(line)

    def _end_line(self) -> None:
        if self._mid_line:
            self._write("\n")
            self._mid_line = False

    def _write(self, text: str) -> None:
        self._written.append(text)

    def _flush(self) -> None:
        if not self._written:
            return
        text = "".join(self._written)
        self._written.clear()
        try:
            self._stream.write(text.encode(self._encoding, "replace").decode(self._encoding))
            self._stream.flush()
        except OSError:
            self._is_unread = True
            raise
