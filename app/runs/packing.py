"""Events as bytes: how a journal that outlives the process writes them down.

A batch is a MessagePack array of `[run, number, kind, event]`: events of many runs that came within a moment of each
other are one write. `kind` is an event's place in `_KINDS`, which only grows at its end.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from app.events import (
    CustomEvent,
    Event,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
    UsageTotalled,
)

_KINDS: tuple[type[Event], ...] = (
    TextDelta,
    ReasoningDelta,
    RunDescribed,
    RunStarted,
    TurnStarted,
    TurnEnded,
    TurnFailed,
    ToolStarted,
    ToolEnded,
    CustomEvent,
    RunFailed,
    UsageTotalled,
    RunEnded,
    TurnRestarted,
)
_NUMBERS: dict[type, int] = {kind: number for number, kind in enumerate(_KINDS)}
_decoders = tuple(msgspec.msgpack.Decoder(kind) for kind in _KINDS)
_encode = msgspec.msgpack.Encoder().encode

Noted: TypeAlias = tuple[int, int, Event]
"""The number of a run, the number of an event in it, the event."""


class Packed(msgspec.Struct, array_like=True, gc=False):
    """An event of a batch that is not decoded yet."""

    run: int
    number: int
    kind: int
    event: msgspec.Raw

    def is_of(self, kinds: tuple[type[Event], ...]) -> bool:
        """Tell whether the event is of one of these kinds."""
        return _KINDS[self.kind] in kinds

    def entry(self) -> tuple[int, Event]:
        """The event with its number."""
        return self.number, _decoders[self.kind].decode(self.event)


split = msgspec.msgpack.Decoder(list[Packed]).decode
"""The events of a batch, one by one."""


def pack(events: Iterable[Noted]) -> bytes:
    """A batch."""
    return _encode([(run, number, _NUMBERS[type(event)], event) for run, number, event in events])


def unpack(batch: bytes, runs: Sequence[int] | None = None) -> list[Noted]:
    """The events of a batch, or those of these runs."""
    wanted = None if runs is None else set(runs)
    return [(packed.run, *packed.entry()) for packed in split(batch) if wanted is None or packed.run in wanted]
