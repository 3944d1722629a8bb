"""What a run had come to when its process ended: the turns that need not, and those that have to, be taken again."""

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
    """A turn that was begun in an earlier process."""

    started: TurnStarted
    handed_by: int | None
    """The turn that passed the word to it."""
    next_event_id: int
    """What it said from this event on does not count, should it have been interrupted."""
    attempts: int = 1
    ended: TurnEnded | None = None
    failure: str | None = None
    """The code of what ended it."""


@dataclass(slots=True)
class RecoveredTurns:
    """The turns so far, by number; none for a run that begins now."""

    turns: dict[int, RecoveredTurn] = field(default_factory=dict[int, RecoveredTurn])
    calls: int = 0
    """Of models, as far as the events tell: of a call's attempts one, and those that left neither words nor tools only
    where others came after them."""

    @property
    def next_number(self) -> int:
        """Of a turn that was never begun."""
        return max(self.turns, default=0) + 1

    def take(
        self, agent: str, *, stage: int, loop: int, task_index: int | None, handed_by: int | None
    ) -> RecoveredTurn | None:
        """The turn of this agent at this place of the plan."""
        wanted = (agent, stage, loop, task_index, handed_by)
        for turn in self.turns.values():
            its = turn.started
            if (its.agent, its.stage, its.loop, its.task_index, turn.handed_by) == wanted:
                return turn
        return None


def recovered_turns(entries: Iterable[tuple[int, Event]]) -> RecoveredTurns:
    """The turns in a run's events."""
    past = RecoveredTurns()
    words: dict[tuple[str, int, int, int | None], list[int]] = {}
    """The turns that passed the word, by the receiver's name and place, until it takes it. Siblings may pass it to the
    same name: who was first to pass it is first to be answered."""
    calls = _CallCount()
    for number, event in entries:
        calls.observe(event)
        match event:
            case TurnStarted():
                passed = words.get((event.agent, event.stage, event.loop, event.task_index))
                handed_by = passed.pop(0) if passed else None
                past.turns[event.turn] = RecoveredTurn(event, handed_by, next_event_id=number + 1)
            case TurnRestarted():
                turn = past.turns[event.turn]
                turn.attempts, turn.next_event_id, turn.failure = event.attempt, number + 1, None
            case TurnFailed():
                past.turns[event.turn].failure = event.failure.code
            case TurnEnded():
                turn = past.turns[event.turn]
                turn.ended = event
                if event.handed_to is not None:
                    its = turn.started
                    words.setdefault((event.handed_to, its.stage, its.loop, its.task_index), []).append(event.turn)
            case _:
                pass
    past.calls = calls.count
    return past


class _CallCount:
    """Counts model calls by what they left in the events."""

    def __init__(self) -> None:
        self.count = 0
        self._steps: dict[int, int] = {}
        """The call that each turn has come to."""
        self._acting: set[int] = set()
        """The turns whose last event is a tool's beginning: more of them belong to the same call."""

    def observe(self, event: Event) -> None:
        match event:
            case TurnStarted() | TurnRestarted():
                self._steps[event.turn] = 1
                self.count += 1
            case TextDelta():
                self._come_to(event.turn, event.step)
            case ToolStarted() if event.turn not in self._acting:
                self._come_to(event.turn, self._steps[event.turn] + 1)
                self._acting.add(event.turn)
            case ToolEnded():
                self._acting.discard(event.turn)
            case _:
                pass

    def _come_to(self, turn: int, step: int) -> None:
        more = step - self._steps[turn]
        if more > 0:
            self._steps[turn] = step
            self.count += more
