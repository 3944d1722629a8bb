"""Events as clients see them in both forms, and how neighbouring ones are joined."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmstream.events import Event, ReasoningDelta, RunDescribed, RunStarted, TextDelta, TurnRestarted, TurnStarted
from swarmstream.journal.records import Entry
from swarmstream.wire.frame_encoder import FrameEncoder
from swarmstream.wire.framing import NDJSON, SSE
from swarmstream.wire.joining import join_deltas
from swarmstream.wire.object_encoder import ObjectEncoder


def text(turn: int, delta_text: str, step: int = 1) -> TextDelta:
    return TextDelta(t_ms=1, agent=f"A{turn}", turn=turn, text=delta_text, step=step)


def shown(entries: list[Entry]) -> list[tuple[int, int, str]]:
    return [(number, event.turn, event.text) for number, event in entries if isinstance(event, TextDelta)]


@pytest.mark.promise("W-32", "W-49")
def test_neighbours_of_one_turn_are_joined_under_the_last_number() -> None:
    entries: list[Entry] = [(1, text(1, "a")), (2, text(1, "b")), (3, text(2, "c")), (4, text(1, "d"))]
    assert shown(join_deltas(entries, after=0)) == [(2, 1, "ab"), (3, 2, "c"), (4, 1, "d")]


def test_steps_and_thoughts_stay_apart() -> None:
    entries: list[Entry] = [(1, text(1, "a")), (2, text(1, "b", step=2)), (3, ReasoningDelta(1, "A1", 1, "hm"))]
    assert [number for number, _ in join_deltas(entries, after=0)] == [1, 2, 3]


@pytest.mark.promise("W-32")
@given(st.lists(st.integers(1, 2), max_size=12), st.integers(0, 12))
def test_nothing_is_joined_across_the_place_that_a_reader_has_come_to(turns: list[int], after: int) -> None:
    entries: list[Entry] = [(number, text(turn, str(number % 10))) for number, turn in enumerate(turns, start=1)]
    for turn in (1, 2):
        new = "".join(
            delta_text
            for number, owner, delta_text in shown(join_deltas(entries, after=after))
            if owner == turn and number > after
        )
        assert new == "".join(
            str(number % 10) for number, owner in enumerate(turns, start=1) if owner == turn and number > after
        )


@pytest.mark.promise("W-45")
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_chunk_of_any_text_is_one_line_of_ascii_json(first: str, second: str) -> None:
    encoder = FrameEncoder(SSE, include_output=True)
    described = RunDescribed(0, "j", "swarm", None, None, "S", 1, "standard", None, datetime.now(UTC), (), None)
    list(encoder.encode([(1, described), (2, text(1, first))]))
    [block] = encoder.encode([(3, text(1, second))])
    number, name, data, *rest = block.decode("ascii").split("\n")
    assert (number, name, rest) == ("id: 3", "event: chunk", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "agent": "A1",
        "turn": 1,
        "content": second,
        "output": first + second,
        "t": 1,
    }


@pytest.mark.parametrize("include_output", [True, False])
@pytest.mark.parametrize("size", [1, 3, 20], ids=["one by one", "by threes", "at once"])
def test_objects_equal_the_json_lines_also_where_a_turn_begins_again(include_output: bool, size: int) -> None:
    events: list[Event] = [
        RunDescribed(0, "j", "swarm", None, None, "S", 1, "standard", None, datetime.now(UTC), (), None),
        RunStarted(0),
        TurnStarted(0, "A1", 1, 1, 1, None, "demo/A", "demo"),
        text(1, "lost "),
        text(2, "beside "),
        TurnRestarted(1, "A1", 1, 2, 4),
        ReasoningDelta(1, "A1", 1, "hm\u2028"),
        text(1, "kept "),
        text(2, "it"),
        text(1, '"all"\n', step=2),
    ]
    entries: list[Entry] = list(enumerate(events, start=1))
    frames = FrameEncoder(NDJSON, include_output=include_output, after=3)
    objects = ObjectEncoder(include_output=include_output, after=3)
    lines: list[object] = []
    dicts: list[dict[str, Any]] = []
    for start in range(0, len(entries), size):
        part = entries[start : start + size]
        lines += [json.loads(line) for line in b"".join(frames.encode(part)).splitlines()]
        dicts += objects.encode(part)
    assert dicts == lines
    assert dicts[-1]["data"].get("output") == ('kept "all"\n' if include_output else None)
