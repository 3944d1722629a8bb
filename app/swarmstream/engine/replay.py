"""The turns of a run that an interrupted process took or began, as its events tell."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from swarmstream.events import (
    Event,
    TextDelta,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
)


@dataclass(slots=True)
class RecoveredTurn:
    """A turn that began in an earlier process."""

    started: TurnStarted
    handed_by: int | None
    """The number of the turn that handed off to it."""
    next_event_id: int
    """Readers discard the turn's events from this one on, should the turn begin anew."""
    attempts: int = 1
    ended: TurnEnded | None = None
    failure: str | None = None
    """The code of what ended it."""


@dataclass(slots=True)
class RecoveredTurns:
    """The turns so far, by number; empty for a run that begins now."""

    turns: dict[int, RecoveredTurn] = field(default_factory=dict[int, RecoveredTurn])
    model_calls: int = 0
    """At least so many were made. Events show one of a call's attempts, and a call that left neither text nor tools
    only where another followed it."""

    @property
    def next_number(self) -> int:
        """The number of the next turn that never began."""
        return max(self.turns, default=0) + 1

    def find(
        self, agent: str, *, stage: int, loop: int, task_index: int | None, handed_by: int | None
    ) -> RecoveredTurn | None:
        """Return the turn of this agent at this place of the plan."""
        wanted = (agent, stage, loop, task_index, handed_by)
        for turn in self.turns.values():
            started = turn.started
            if (started.agent, started.stage, started.loop, started.task_index, turn.handed_by) == wanted:
                return turn
        return None


def recovered_turns(entries: Iterable[tuple[int, Event]]) -> RecoveredTurns:
    """Return the turns in a run's events, which come with their numbers."""
    recovered = RecoveredTurns()
    turns = recovered.turns
    handoffs: dict[tuple[str, int, int, int | None], list[int]] = {}
    """The turns that handed off, by the receiver's name and place, until the receiver begins. Siblings may hand off to
    one name: the first that did is the first to be answered."""
    calls = _CallCount()
    for number, event in entries:
        calls.observe(event)
        match event:
            case TurnStarted():
                givers = handoffs.get((event.agent, event.stage, event.loop, event.task_index))
                handed_by = givers.pop(0) if givers else None
                turns[event.turn] = RecoveredTurn(event, handed_by, next_event_id=number + 1)
            case TurnRestarted():
                turn = turns[event.turn]
                turn.attempts, turn.next_event_id, turn.failure = event.attempt, number + 1, None
            case TurnFailed():
                turns[event.turn].failure = event.failure.code
            case TurnEnded():
                turn = turns[event.turn]
                turn.ended = event
                if event.handed_to is not None:
                    place = (event.handed_to, turn.started.stage, turn.started.loop, turn.started.task_index)
                    handoffs.setdefault(place, []).append(event.turn)
            case _:
                pass
    recovered.model_calls = calls.count
    return recovered


class _CallCount:
    """Counts model calls by what they left in the events."""

    def __init__(self) -> None:
        self.count = 0
        self._steps: dict[int, int] = {}
        """The present call of each turn, from 1."""
        self._acting: set[int] = set()
        """The turns whose last event is a tool's beginning: more of them belong to the same call."""

    def observe(self, event: Event) -> None:
        match event:
            case TurnStarted() | TurnRestarted():
                self._steps[event.turn] = 1
                self.count += 1
            case TextDelta():
                self._advance(event.turn, event.step)
            case ToolStarted() if event.turn not in self._acting:
                self._advance(event.turn, self._steps[event.turn] + 1)
                self._acting.add(event.turn)
            case ToolEnded():
                self._acting.discard(event.turn)
            case _:
                pass

    def _advance(self, turn: int, step: int) -> None:
        more = step - self._steps[turn]
        if more > 0:
            self._steps[turn] = step
            self.count += more
