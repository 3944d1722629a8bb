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

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from swarmstream.events import Event, TextDelta, TurnEnded, TurnRestarted
from swarmstream.journal.base import Entry
from swarmstream.journal.summary import Summary
from swarmstream.wire.event_data import event_data
from swarmstream.wire.shapes.events import EventData

TextT = TypeVar("TextT")
OutputT = TypeVar("OutputT")


class RunFold(Generic[TextT]):
    """One reader's fold of one run; `TextT` is what it keeps of a turn that streams text."""

    def __init__(
        self, begin_text: Callable[[TextDelta], TextT], *, after: int = 0, summary: Summary | None = None
    ) -> None:
        """`after` is the number of the last event that the reader has. `summary` is of the events that the fold is not
        fed; it belongs to the fold from now on. `begin_text` makes what is kept of a turn, at its first delta."""
        self.after = after
        self.texts: dict[int, TextT] = {}
        """By the numbers of their turns, which have not ended."""
        self._begin_text = begin_text
        self._summary = summary or Summary()

    def begin_text(self, delta: TextDelta) -> TextT:
        """Begin what is kept of the delta's turn."""
        text = self.texts[delta.turn] = self._begin_text(delta)
        return text

    def outputs(self, entries: Sequence[Entry], extend: Callable[[TextT, str], OutputT]) -> list[OutputT]:
        """Return for each text delta, in order, what `extend` makes of its turn's text so far and of the delta's own.
        The entries are observed afterwards."""
        outputs: list[OutputT] = []
        for _, event in entries:
            if isinstance(event, TextDelta):
                outputs.append(extend(self.texts.get(event.turn) or self.begin_text(event), event.text))
            elif isinstance(event, TurnRestarted):
                self.texts.pop(event.turn, None)
        return outputs

    def observe(self, number: int, event: Event) -> tuple[str, EventData] | None:
        """Take in an event; return its name and its data, or None where the reader has it already."""
        self._summary.observe(event)
        if isinstance(event, TurnEnded):
            self.texts.pop(event.turn, None)
        return event_data(event, self._summary) if number > self.after else None
