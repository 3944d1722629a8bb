"""Events as bytes: they come back as they were, also from what an earlier release wrote."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import msgspec
import pytest

from swarmstream.events import (
    AgentUsage,
    CustomEvent,
    Event,
    Failure,
    ReasoningDelta,
    RunDescribed,
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    ToolCall,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
    Usage,
    UsageTotalled,
)
from swarmstream.journal.checksums import Damaged
from swarmstream.journal.codec import RunEvent, pack, split, unpack

USAGE = Usage(1, 2, 3, 4, 0.1, 1e-9, priced=False, estimated=True)
FAILURE = Failure("code", "words", 502, retryable=True)
CALL = ToolCall("id", "name", '{"a": "ü"}')
NOW = datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=UTC)
NESTED: list[Any] = [[[]]]
JSON: Any = {"": [None, True, -(2**63), 2**64 - 1, 0.1, "\u2028\x00😀", {"deep": NESTED}]}

# In the order of the numbers by which files know them: this list only grows at its end.
EVENTS: list[Event] = [
    TextDelta(1, "A", 2, "ü\n\x00😀", 3),
    ReasoningDelta(1, "A", 2, ""),
    RunDescribed(0, "j", "swarm", "n", None, "AgentRearrange", 2, "standard", 0.5, NOW, ("w",), JSON),
    RunStarted(0),
    TurnStarted(1, "A", 2, 3, 4, None, "m", "direct"),
    TurnEnded(1, "A", 2, 0, "m", "out", "failed", None, USAGE, 0.25, (CALL, CALL), "B", "told"),
    TurnFailed(1, "A", 2, FAILURE, 3, 0.5),
    ToolStarted(1, "A", 2, CALL),
    ToolEnded(1, "A", 2, "id", "name", "out", is_error=True, duration_seconds=0.5),
    CustomEvent(1, "A", 2, "progress", JSON),
    RunFailed(1, FAILURE, 0.5, ("A", "B"), None),
    UsageTotalled(1, USAGE, (AgentUsage("A", 2, USAGE),)),
    RunEnded(1, "budget_exceeded", 0.5, ("A",)),
    TurnRestarted(1, "A", 2, 3, 4),
]


def test_every_kind_of_event_comes_back_as_it_was() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    numbered = [(7, number, event) for number, event in enumerate(EVENTS, start=1 << 40)]
    assert unpack(pack(numbered)) == numbered


def test_kinds_of_events_keep_their_numbers() -> None:
    kinds = [pack([(1, 1, event)])[4] for event in EVENTS]
    assert kinds == list(range(len(EVENTS)))


def test_optional_fields_come_back_with_their_defaults() -> None:
    """A file of an earlier release has no fields that came later."""
    ended = TurnEnded(1, "A", 2, None, "m", "out", "success", "stop", Usage(), 0.25)
    described = RunDescribed(0, "j", "agent", None, None, None, 1, "standard", None, NOW, (), None)
    assert [event for _, _, event in unpack(pack([(1, 1, ended), (1, 2, described)]))] == [ended, described]


def test_a_time_is_the_same_time_in_every_zone() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    described = RunDescribed(0, "j", "agent", None, None, None, 1, "standard", None, there, (), None)
    [(_, _, event)] = unpack(pack([(1, 1, described)]))
    assert isinstance(event, RunDescribed)
    assert event.created_at == NOW


def test_a_batch_can_be_taken_apart_before_it_is_decoded() -> None:
    events: list[RunEvent] = [(1, 1, RunStarted(0)), (2, 1, TextDelta(1, "A", 1, "x")), (1, 2, RunStarted(2))]
    packed = split(pack(events))
    assert [each.run for each in packed] == [1, 2, 1]
    assert [(each.run, *each.decode()) for each in packed] == events == unpack(pack(events))
    assert [each.is_of((TextDelta,)) for each in packed] == [False, True, False]
    assert unpack(pack([])) == split(pack([])) == []


def test_an_unknown_kind_of_event_is_damage_and_not_a_bug() -> None:
    for kind in (99, -1):
        [packed] = split(msgspec.msgpack.encode([(1, 1, kind, {})]))
        assert not packed.is_of((TextDelta,))
        with pytest.raises(Damaged):
            packed.decode()
