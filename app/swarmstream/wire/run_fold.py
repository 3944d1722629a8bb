"""The fold of a run's events that every form of its stream is made by.

A reader is sent an event as `data` of its name. Most of it stands in the event, some of it in what came before:

| the reader is sent | what it takes beside the event |
|---|---|
| every event | the kind of run, which `RunDescribed` tells |
| `end` | the summary: the outputs of all turns, and on the agent route the usage |
| `chunk` with `output` | the text of its turn, since the turn began or began again |

So a fold is fed every event from the first on, in order, also those that its reader has already. One that starts from
a summary needs only the events that the summary does not know; where it is fed some of those again, nothing changes,
since a summary keeps turns by their number. The text of turns is in no summary: a reader that is sent `output` has its
fold fed from the first event on.
"""

from typing import Generic, TypeVar

from swarmstream.events import Event, TurnEnded
from swarmstream.journal.summary import Summary
from swarmstream.wire.event_data import event_data
from swarmstream.wire.shapes.events import EventData

TextT = TypeVar("TextT")


class RunFold(Generic[TextT]):
    """The fold of one run for one reader; `TextT` is what its encoder keeps of a turn that streams text."""

    def __init__(self, *, after: int = 0, summary: Summary | None = None) -> None:
        """`after` is the number of the last event that the reader has. `summary` is of the events that the fold is not
        fed; it belongs to the fold from now on."""
        self.after = after
        self.texts: dict[int, TextT] = {}
        """By the numbers of their turns. The fold drops the text of a turn that ends, the encoder that of one that
        begins again, for it may be ahead of the fold."""
        self._summary = summary or Summary()

    def observe(self, number: int, event: Event) -> tuple[str, EventData] | None:
        """Take in an event; return its name and its data, or None where the reader has it already."""
        self._summary.observe(event)
        if isinstance(event, TurnEnded):
            self.texts.pop(event.turn, None)
        return event_data(event, self._summary) if number > self.after else None
