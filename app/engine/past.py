"""What a run had come to when its process ended: the turns that need not, and those that have to, be taken again."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.events import Event, TurnEnded, TurnFailed, TurnRestarted, TurnStarted


@dataclass(slots=True)
class PastTurn:
    """A turn that was begun in an earlier process."""

    started: TurnStarted
    next_event_id: int
    """What it said from this event on does not count, should it have been interrupted."""
    attempts: int = 1
    ended: TurnEnded | None = None
    failure: str | None = None
    """The code of what ended it."""


@dataclass(slots=True)
class Past:
    """The turns so far, by number; none for a run that begins now."""

    turns: dict[int, PastTurn] = field(default_factory=dict[int, PastTurn])
    _taken: set[int] = field(default_factory=set[int])

    @property
    def next_number(self) -> int:
        """Of a turn that was never begun."""
        return max(self.turns, default=0) + 1

    def take(self, agent: str, *, stage: int, loop: int, task_index: int | None) -> PastTurn | None:
        """The earliest turn of this agent at this place of the plan; each is given once."""
        for number in sorted(self.turns):
            turn = self.turns[number]
            its = turn.started
            is_here = (its.agent, its.stage, its.loop, its.task_index) == (agent, stage, loop, task_index)
            if is_here and number not in self._taken:
                self._taken.add(number)
                return turn
        return None


def past_of(entries: Iterable[tuple[int, Event]]) -> Past:
    """The turns in a run's events."""
    past = Past()
    for number, event in entries:
        match event:
            case TurnStarted():
                past.turns[event.turn] = PastTurn(event, next_event_id=number + 1)
            case TurnRestarted():
                turn = past.turns[event.turn]
                turn.attempts, turn.next_event_id = event.attempt, number + 1
            case TurnFailed():
                past.turns[event.turn].failure = event.failure.code
            case TurnEnded():
                past.turns[event.turn].ended = event
            case _:
                pass
    return past
