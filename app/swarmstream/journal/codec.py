"""Events as bytes: how a journal that outlives the process writes them down.

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
        return 0 <= self.kind < len(_KINDS) and issubclass(_KINDS[self.kind], kinds)

    def entry(self) -> tuple[int, Event]:
        """The event with its number.

        Raises:
            Damaged: it cannot be decoded.
        """
        if not 0 <= self.kind < len(_KINDS):
            raise Damaged(f"events of kind {self.kind} are not of this release")
        try:
            return self.number, _decoders[self.kind].decode(self.event)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Damaged(f"events cannot be decoded: {error}") from error


_packed = msgspec.msgpack.Decoder(list[Packed])


def pack(events: Iterable[Noted]) -> bytes:
    """A batch."""
    return _encode([(run, number, _NUMBERS[type(event)], event) for run, number, event in events])


def split(batch: bytes | memoryview) -> list[Packed]:
    """The events of a batch, one by one.

    Raises:
        Damaged: it cannot be taken apart.
    """
    try:
        return _packed.decode(batch)
    except msgspec.MsgspecError as error:
        raise Damaged(f"events cannot be decoded: {error}") from error


def unpack(batch: bytes | memoryview) -> list[Noted]:
    """The events of a batch.

    Raises:
        Damaged: they cannot be decoded.
    """
    return [(packed.run, *packed.entry()) for packed in split(batch)]


def without(batch: bytes | memoryview, run: int) -> bytes | None:
    """The batch without the events of this run; None where it has none.

    Raises:
        Damaged: it cannot be taken apart.
    """
    events = split(batch)
    left = [event for event in events if event.run != run]
    return _encode(left) if len(left) < len(events) else None
