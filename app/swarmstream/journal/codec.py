"""Events as bytes, in the form in which durable journals store them.

A batch is a MessagePack array of `[run, number, kind, event]`: events of many runs that came within a moment of each
other are one write. `kind` is an event's place in `_KINDS`, which only grows at its end.
"""

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from swarmstream.events import (
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
from swarmstream.journal.checksums import Damaged

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

RunEvent: TypeAlias = tuple[int, int, Event]
"""The number of a run, the number of an event in it, the event."""


class PackedEvent(msgspec.Struct, array_like=True, gc=False):
    """An event of a batch, not decoded yet."""

    run: int
    number: int
    kind: int
    event: msgspec.Raw

    def is_of(self, kinds: tuple[type[Event], ...]) -> bool:
        """Tell whether the event is of one of these kinds; an unknown kind is of none."""
        return 0 <= self.kind < len(_KINDS) and issubclass(_KINDS[self.kind], kinds)

    def decode(self) -> tuple[int, Event]:
        """Return the event with its number.

        Raises:
            Damaged: it cannot be decoded.
        """
        if not 0 <= self.kind < len(_KINDS):
            raise Damaged(f"events of kind {self.kind} are not of this release")
        try:
            return self.number, _decoders[self.kind].decode(self.event)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Damaged(f"events cannot be decoded: {error}") from error


_packed = msgspec.msgpack.Decoder(list[PackedEvent])


def pack(events: Iterable[RunEvent]) -> bytes:
    """Return a batch of these events."""
    return _encode([(run, number, _NUMBERS[type(event)], event) for run, number, event in events])


def split(batch: bytes | memoryview) -> list[PackedEvent]:
    """Return the events of a batch, not decoded.

    Raises:
        Damaged: it cannot be taken apart.
    """
    try:
        return _packed.decode(batch)
    except msgspec.MsgspecError as error:
        raise Damaged(f"events cannot be decoded: {error}") from error


def unpack(batch: bytes | memoryview) -> list[RunEvent]:
    """Return the events of a batch.

    Raises:
        Damaged: they cannot be decoded.
    """
    return [(packed.run, *packed.decode()) for packed in split(batch)]


def without_run(batch: bytes | memoryview, run: int) -> bytes | None:
    """Return the batch without the events of this run; None where it has none.

    Raises:
        Damaged: it cannot be taken apart.
    """
    events = split(batch)
    left = [event for event in events if event.run != run]
    return _encode(left) if len(left) < len(events) else None
