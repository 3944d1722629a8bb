"""What a run's frames say of its turns: the state behind the picture, without a terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from swarmstream.terminal import phrases
from swarmstream.terminal.phrases import number
from swarmstream.terminal.sanitize import Cleaner, clean

State: TypeAlias = Literal["thinking", "speaking", "calling", "done", "failed", "cancelled"]
Kind: TypeAlias = Literal["text", "reasoning", "tool", "note", "error"]
Place: TypeAlias = tuple[int, int, int]
"""Task, loop and stage: turns of one place speak at once."""

_ENDED: dict[object, State] = {"success": "done", "failed": "failed", "cancelled": "cancelled"}


@dataclass(slots=True)
class Segment:
    """What a turn did at one point: text that grows by its deltas, or a line about something else."""

    kind: Kind
    parts: list[str]


@dataclass(slots=True)
class Panel:
    """One turn. Texts are clean; times are milliseconds since the run began."""

    turn: int
    agent: str
    place: Place = (0, 1, 1)
    state: State = "thinking"
    passages: list[Segment] = field(default_factory=list[Segment])
    began_ms: float = 0
    ended: bool = False
    tool: str = ""
    """The one that is called, and how far it has come."""
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0
    """How long the turn took, once it has ended."""
    _deltas: int = 0
    _speaking_ms: float = 0
    _last_delta_ms: float | None = None
    _cleaners: dict[Kind, Cleaner] = field(default_factory=dict[Kind, Cleaner])
    _calls: dict[object, tuple[str, Segment]] = field(default_factory=dict[object, tuple[str, Segment]])

    @property
    def tokens_a_second(self) -> float | None:
        """Of the whole turn by its usage, once that is known; until then, deltas while it speaks."""
        if self.usage and self.seconds:
            return number(self.usage, "output_tokens") / self.seconds
        return self._deltas * 1000 / self._speaking_ms if self._speaking_ms else None

    def tail(self, characters: int, *, verbose: bool) -> list[tuple[Kind, str]]:
        """The last of its passages, with at least so many characters if there are as many."""
        found: list[tuple[Kind, str]] = []
        for passage in reversed(self.passages):
            if characters <= 0:
                break
            if passage.kind == "reasoning" and not verbose:
                continue
            parts: list[str] = []
            for part in reversed(passage.parts):
                parts.append(part[-characters:])
                characters -= len(parts[-1])
                if characters <= 0:
                    break
            found.append((passage.kind, "".join(reversed(parts))))
        return found[::-1]

    def record(self, *, verbose: bool) -> list[tuple[Kind, str]]:
        """All of its passages."""
        return [
            (passage.kind, "".join(passage.parts))
            for passage in self.passages
            if verbose or passage.kind != "reasoning"
        ]

    def say(self, kind: Literal["text", "reasoning"], content: str, t_ms: float) -> None:
        """A delta."""
        self.state = "speaking" if kind == "text" else "thinking"
        if self._last_delta_ms is not None:
            self._deltas += 1
            self._speaking_ms += max(0, t_ms - self._last_delta_ms)
        self._last_delta_ms = t_ms
        cleaner = self._cleaners.get(kind) or self._cleaners.setdefault(kind, Cleaner())
        self._append(kind, cleaner.feed(content))

    def call(self, data: Mapping[str, Any]) -> None:
        """A tool is called."""
        passage = self.note("tool", phrases.call_begun(data))
        self._calls[data.get("tool_call_id")] = phrases.tool_of(data), passage
        self._look_what_is_called()

    def answer(self, data: Mapping[str, Any]) -> None:
        """A tool has answered: on the line of its call."""
        _, passage = self._calls.pop(data.get("tool_call_id"), None) or ("", self.note("tool", ""))
        passage.parts.append(f" → {phrases.call_ended(data)}")
        if data.get("is_error"):
            passage.kind = "error"
        self._look_what_is_called()

    def progress(self, data: Mapping[str, Any]) -> None:
        """A tool has come so far."""
        self.tool = phrases.progress(data)

    def restart(self, data: Mapping[str, Any]) -> None:
        """After a crash the turn begins again: what it did before does not count."""
        self.passages.clear()
        self._cleaners.clear()
        self._calls.clear()
        self._last_delta_ms = None
        self.state = "thinking"
        self.note("note", phrases.restarted(data))

    def end(self, data: Mapping[str, Any]) -> None:
        for kind, cleaner in self._cleaners.items():
            self._append(kind, cleaner.end())
        output = data.get("output")
        if output and not any(passage.kind == "text" for passage in self.passages):
            self._append("text", clean(output if isinstance(output, str) else phrases.one_line(output, 10_000)))
        for line in phrases.calls_for_the_caller(data):
            self.note("tool", f"{line} → for you to execute")
        self.state = _ENDED.get(data.get("status"), "done")
        self.usage = data.get("usage") or {}
        self.seconds = number(data, "duration")
        self.ended = True

    def note(self, kind: Kind, line: str) -> Segment:
        """A line that is no text of the model's."""
        self._last_delta_ms = None
        self.passages.append(Segment(kind, [line]))
        return self.passages[-1]

    def _append(self, kind: Kind, text: str) -> None:
        if not text:
            return
        if not self.passages or self.passages[-1].kind != kind:
            self.passages.append(Segment(kind, []))
        self.passages[-1].parts.append(text)

    def _look_what_is_called(self) -> None:
        if self._calls:
            self.state = "calling"
            *others, (self.tool, _) = self._calls.values()
            if others:
                self.tool += f" and {len(others)} more"
        elif self.state == "calling":
            self.state = "thinking"


class Panels:
    """The turns of a run that have not been taken away, by their numbers; frames are observed in their order."""

    def __init__(self) -> None:
        self._panels: dict[int, Panel] = {}
        self.t_ms: float = 0
        """Of the last frame."""

    def __iter__(self) -> Iterator[Panel]:
        return iter(self._panels.values())

    def observe(self, event: str, data: Mapping[str, Any]) -> None:
        self.t_ms = max(self.t_ms, number(data, "t"))
        if "turn" not in data:
            return
        panel = self._panels.get(data["turn"]) or self._begin(data)
        match event:
            case "chunk":
                panel.say("text", data.get("content", ""), self.t_ms)
            case "reasoning":
                panel.say("reasoning", data.get("content", ""), self.t_ms)
            case "tool_start":
                panel.call(data)
            case "tool_end":
                panel.answer(data)
            case "custom":
                if data.get("name") == "progress":
                    panel.progress(data)
                for line in phrases.custom(data):
                    panel.note("note", line)
            case "turn_restart":
                panel.restart(data)
            case "error":
                panel.note("error", phrases.failure(data))
            case "agent_end":
                panel.end(data)
            case _:
                pass

    def take_ended(self) -> list[Panel]:
        """The turns that have ended, in their order; they are forgotten here."""
        return self._take([panel for panel in self._panels.values() if panel.ended])

    def take_ended_stages(self) -> list[Panel]:
        """As `take_ended`, of stages in which nobody speaks any more."""
        going_on = {panel.place for panel in self._panels.values() if not panel.ended}
        return self._take([panel for panel in self._panels.values() if panel.place not in going_on])

    def take_all(self) -> list[Panel]:
        return self._take(list(self._panels.values()))

    def _take(self, panels: list[Panel]) -> list[Panel]:
        for panel in panels:
            del self._panels[panel.turn]
        return panels

    def _begin(self, data: Mapping[str, Any]) -> Panel:
        place = (int(number(data, "task_index")), int(number(data, "loop")), int(number(data, "stage")))
        panel = Panel(data["turn"], phrases.name_of(data), place, began_ms=self.t_ms)
        self._panels[panel.turn] = panel
        return panel
