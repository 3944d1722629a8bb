"""Neighbouring deltas joined, for readers that want fewer frames (`coalesce_ms`; docs/wire.md, section 2)."""

from collections.abc import Sequence

from swarmstream.events import TextDelta
from swarmstream.journal.base import Entry


def join_deltas(entries: Sequence[Entry], *, after: int) -> list[Entry]:
    """Return the entries with neighbouring text deltas of one turn and one step as one, numbered as the last of them.
    Nothing is joined across the place `after`, up to which the reader has the events already.

    Only neighbours: were deltas of one turn joined across another turn's, a reader cut off between the two frames
    could not name a place to go on from without losing or repeating text.
    """
    joined: list[Entry] = []
    for number, event in entries:
        if joined and isinstance(event, TextDelta):
            last, before = joined[-1]
            is_new = last > after or number <= after
            if isinstance(before, TextDelta) and is_new and (before.turn, before.step) == (event.turn, event.step):
                text = before.text + event.text
                joined[-1] = (number, TextDelta(event.t_ms, event.agent, event.turn, text, event.step))
                continue
        joined.append((number, event))
    return joined
