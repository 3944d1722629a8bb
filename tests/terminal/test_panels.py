"""Panels: the state, the text and the speed of each turn, made of the frames."""

from typing import Any

from swarmstream.terminal.panels import Panel, Panels
from tests.terminal.frames import begin, chunk, end, frame, tool


def panels_of(*frames: dict[str, Any]) -> Panels:
    panels = Panels()
    for each in frames:
        panels.observe(each["event"], each["data"])
    return panels


def panel_of(*frames: dict[str, Any]) -> Panel:
    (panel,) = panels_of(*frames)
    return panel


def test_the_state_of_a_turn_follows_its_events() -> None:
    frames = [
        begin(1),
        frame("reasoning", agent="A1", turn=1, content="hm"),
        chunk(1, "text"),
        tool("tool_start", 1, "x", tool="search", arguments={"q": "cats"}),
        tool("tool_start", 1, "y", tool="fetch", arguments="no object"),
        tool("tool_end", 1, "y", tool="fetch", output="page", is_error=False, duration=0.2),
        tool("tool_end", 1, "x", tool="search", output="nothing", is_error=True, duration=1),
        end(1),
    ]
    so_far = [panel_of(*frames[:count]) for count in range(1, len(frames) + 1)]
    panel = so_far[-1]
    assert [(panel.state, panel.tool if panel.state == "calling" else "") for panel in so_far] == [
        ("thinking", ""),
        ("thinking", ""),
        ("speaking", ""),
        ("calling", "search"),
        ("calling", "fetch and 1 more"),
        ("calling", "search"),
        ("thinking", ""),
        ("done", ""),
    ]
    assert panel.segments.texts(verbose=True) == [
        ("reasoning", "hm"),
        ("text", "text"),
        ("error", 'search(q="cats") → failed: nothing (1.0 s)'),
        ("tool", "fetch(no object) → page (0.2 s)"),
    ]
    assert [kind for kind, _ in panel.segments.texts(verbose=False)] == ["text", "error", "tool"]


def test_speed_is_deltas_per_second_and_in_the_end_output_tokens_per_second() -> None:
    spoken = [begin(1), *(chunk(1, "x", t=1000 + 50 * number) for number in range(5))]
    called = [tool("tool_start", 1, tool="t", arguments={}), tool("tool_end", 1, tool="t", output="", duration=9)]
    again = [chunk(1, "x", t=9000), chunk(1, "x", t=9050)]
    assert panel_of(*spoken).tokens_per_second == 20
    assert panel_of(*spoken, *called, *again).tokens_per_second == 20, "the tool's seconds do not count"
    assert panel_of(*spoken, end(1)).tokens_per_second == 30
    assert panel_of(begin(1), chunk(1, "all at once")).tokens_per_second is None


def test_a_stage_is_taken_once_all_of_its_turns_have_ended() -> None:
    panels = panels_of(begin(1), begin(2), begin(3), end(3), end(1))
    assert panels.take_ended_stages() == []
    panels.observe("agent_start", begin(4, stage=2)["data"])
    panels.observe("agent_end", end(2)["data"])
    assert [panel.turn for panel in panels.take_ended_stages()] == [1, 2, 3]
    assert [panel.turn for panel in panels] == [4]


def test_custom_events_are_lines_and_progress_is_a_state() -> None:
    def custom(name: str, data: Any) -> dict[str, Any]:
        return frame("custom", agent="A1", turn=1, name=name, data=data)

    panel = panel_of(
        begin(1),
        custom(
            "plan", {"subtasks": [{"id": "1", "title": "read", "depends_on": []}, {"id": "2", "depends_on": ["1"]}]}
        ),
        custom("subtask_start", {"id": "1", "title": "read"}),
        tool("tool_start", 1, tool="search", arguments={}),
        custom("progress", {"tool": "search", "done": 3, "total": 10}),
        custom("subtask_end", {"id": "1", "status": "done"}),
        custom("weather", ["sun\x1b[2J"]),
        custom("plan", "none"),
    )
    assert (panel.state, panel.tool) == ("calling", "search 3/10")
    assert [text for kind, text in panel.segments.texts(verbose=False) if kind == "note"] == [
        "plan 1: read",
        "plan 2:  (after 1)",
        "subtask 1: read",
        "subtask 1 done",
        'weather: ["sun\\u001b[2J"]',
        'plan: "none"',
    ]


def test_an_unfinished_escape_sequence_is_shown_as_text_at_the_end() -> None:
    assert panel_of(begin(1), chunk(1, "a\x1b]0;b"), end(1)).segments.texts(verbose=False) == [("text", "a]0;b")]


def test_a_turn_that_restarts_loses_its_text() -> None:
    restart = frame("turn_restart", agent="A1", turn=1, attempt=2, discard_from=3)
    panel = panel_of(begin(1), chunk(1, "lost"), restart, chunk(1, "kept"), end(1))
    assert [text for kind, text in panel.segments.texts(verbose=False) if kind == "text"] == ["kept"]


def test_an_answer_that_was_not_streamed_and_client_tool_calls_are_shown_at_the_end() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "pay", "arguments": '{"usd": 5}'}}]
    assert panel_of(begin(1), end(1, output="whole", tool_calls=calls)).segments.texts(verbose=False) == [
        ("text", "whole"),
        ("tool", "pay(usd=5) → for you to execute"),
    ]


def test_the_tail_of_a_long_text_is_no_longer_than_its_room() -> None:
    panel = panel_of(begin(1), *(chunk(1, "word ") for _ in range(10_000)), chunk(1, "y" * 100_000))
    ((_, tail),) = panel.segments.tail(300, verbose=False)
    assert tail == "y" * 300
    panel = panel_of(begin(1), *(chunk(1, f"{number} ") for number in range(10_000)))
    ((_, tail),) = panel.segments.tail(30, verbose=False)
    assert tail.endswith("9998 9999 ")
    assert len(tail) == 30
