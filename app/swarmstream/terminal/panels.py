"""The state of a live view: a panel for each turn, made of the run's frames."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from swarmstream.terminal import phrases
from swarmstream.terminal.phrases import MAX_OUTPUT, number
from swarmstream.terminal.sanitize import Cleaner, clean, one_line
from swarmstream.terminal.segments import Kind, Segment, Segments

State: TypeAlias = Literal["thinking", "speaking", "calling", "done", "failed", "cancelled"]
Place: TypeAlias = tuple[int, int, int]
"""Task, loop and stage: turns of one place go on at once."""

_ENDED: dict[object, State] = {"success": "done", "failed": "failed", "cancelled": "cancelled"}
"""The state of a panel by the status of its turn."""


@dataclass(slots=True)
class Panel:
    """A turn. Texts are clean; times are milliseconds since the run began."""

    turn: int
    agent: str
    place: Place = (0, 1, 1)
    state: State = "thinking"
    segments: Segments = field(default_factory=Segments)
    began_ms: float = 0
    ended: bool = False
    tool: str = ""
    """The tool that is called, and its progress."""
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0
    """The turn's duration; 0 until it has ended."""
    _delta_count: int = 0
    _delta_ms: float = 0
    """Time between deltas; what a tool took does not count."""
    _last_delta_ms: float | None = None
    _cleaners: dict[Kind, Cleaner] = field(default_factory=dict[Kind, Cleaner])
    _calls: dict[object, tuple[str, Segment]] = field(default_factory=dict[object, tuple[str, Segment]])

    @property
    def tokens_per_second(self) -> float | None:
        """The whole turn's speed by its usage, once that is known; until then, that of its deltas."""
        if self.usage and self.seconds:
            return number(self.usage, "output_tokens") / self.seconds
        return self._delta_count * 1000 / self._delta_ms if self._delta_ms else None

    def append(self, kind: Literal["text", "reasoning"], content: str, t_ms: float) -> None:
        """Append a delta."""
        self.state = "speaking" if kind == "text" else "thinking"
        if self._last_delta_ms is not None:
            self._delta_count += 1
            self._delta_ms += max(0, t_ms - self._last_delta_ms)
        self._last_delta_ms = t_ms
        cleaner = self._cleaners.get(kind) or self._cleaners.setdefault(kind, Cleaner())
        self.segments.append(kind, cleaner.feed(content))

    def begin_call(self, data: Mapping[str, Any]) -> None:
        """Add a line for a `tool_start`."""
        segment = self.add_line("tool", phrases.call_begun(data))
        self._calls[data.get("tool_call_id")] = phrases.tool_of(data), segment
        self._update_calls()

    def end_call(self, data: Mapping[str, Any]) -> None:
        """Add the result of a `tool_end` to the line of its call."""
        _, segment = self._calls.pop(data.get("tool_call_id"), None) or ("", self.add_line("tool", ""))
        segment.parts.append(f" → {phrases.call_ended(data)}")
        if data.get("is_error"):
            segment.kind = "error"
        self._update_calls()

    def restart(self, data: Mapping[str, Any]) -> None:
        """Begin again after a crash: what the turn did before does not count."""
        self.segments.clear()
        self._cleaners.clear()
        self._calls.clear()
        self._last_delta_ms = None
        self.state = "thinking"
        self.add_line("note", phrases.restarted(data))

    def end(self, data: Mapping[str, Any]) -> None:
        """Take the turn's end from its `agent_end`."""
        for kind, cleaner in self._cleaners.items():
            self.segments.append(kind, cleaner.end())
        output = data.get("output")
        if output and "text" not in self.segments:
            self.segments.append("text", clean(output if isinstance(output, str) else one_line(output, MAX_OUTPUT)))
        for line in phrases.client_tool_calls(data):
            self.add_line("tool", f"{line} → for you to execute")
        self.state = _ENDED.get(data.get("status"), "done")
        self.usage = data.get("usage") or {}
        self.seconds = number(data, "duration")
        self.ended = True

    def add_line(self, kind: Kind, line: str) -> Segment:
        """Add a line that is no text of the model's."""
        self._last_delta_ms = None
        return self.segments.add(kind, line)

    def _update_calls(self) -> None:
        if self._calls:
            self.state = "calling"
            *others, (self.tool, _) = self._calls.values()
            if others:
                self.tool += f" and {len(others)} more"
        elif self.state == "calling":
            self.state = "thinking"


class Panels:
    """The panels of a run, in the order of their turns, until they are taken; frames are observed in their order."""

    def __init__(self) -> None:
        self._panels: dict[int, Panel] = {}
        self.t_ms: float = 0
        """Time of the last frame."""

    def __iter__(self) -> Iterator[Panel]:
        return iter(self._panels.values())

    def observe(self, event: str, data: Mapping[str, Any]) -> None:
        """Bring the turn that a frame is about up to date."""
        self.t_ms = max(self.t_ms, number(data, "t"))
        if "turn" not in data:
            return
        panel = self._panels.get(data["turn"]) or self._begin(data)
        match event:
            case "chunk":
                panel.append("text", data.get("content", ""), self.t_ms)
            case "reasoning":
                panel.append("reasoning", data.get("content", ""), self.t_ms)
            case "tool_start":
                panel.begin_call(data)
            case "tool_end":
                panel.end_call(data)
            case "custom":
                if data.get("name") == "progress":
                    panel.tool = phrases.progress(data)
                for line in phrases.custom(data):
                    panel.add_line("note", line)
            case "turn_restart":
                panel.restart(data)
            case "error":
                panel.add_line("error", phrases.failure(data))
            case "agent_end":
                panel.end(data)
            case _:
                pass

    def take_ended(self) -> list[Panel]:
        """Remove and return the panels of turns that have ended."""
        return self._take([panel for panel in self._panels.values() if panel.ended])

    def take_ended_stages(self) -> list[Panel]:
        """Remove and return the panels of stages in which every turn has ended."""
        going_on = {panel.place for panel in self._panels.values() if not panel.ended}
        return self._take([panel for panel in self._panels.values() if panel.place not in going_on])

    def take_all(self) -> list[Panel]:
        """Remove and return all panels."""
        return self._take(list(self._panels.values()))

    def _take(self, panels: list[Panel]) -> list[Panel]:
        for panel in panels:
            del self._panels[panel.turn]
        return panels

    def _begin(self, data: Mapping[str, Any]) -> Panel:
        place = (int(number(data, "task_index")), int(number(data, "loop")), int(number(data, "stage")))
        panel = Panel(data["turn"], phrases.agent_of(data), place, began_ms=self.t_ms)
        self._panels[panel.turn] = panel
        return panel
