"""A run on a terminal: the state of panels, the live picture, plain text; and what a model must not do to either."""

import io
import re
from collections.abc import Sequence
from typing import Any, TextIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from swarmstream.terminal.drawing import PanelSnapshot, live_area
from swarmstream.terminal.last_answer import LastAnswer
from swarmstream.terminal.live_view import LiveView
from swarmstream.terminal.output import view_for
from swarmstream.terminal.panels import Panel, Panels
from swarmstream.terminal.plain import PlainText
from swarmstream.terminal.sanitize import Cleaner, one_line

USAGE = {"total_tokens": 120, "output_tokens": 90, "cost_usd": 0.0123, "priced": True, "estimated": False}
HOSTILE = {
    "colour": ("a\x1b[31mb", "ab"),
    "title": ("a\x1b]0;owned\x07b", "ab"),
    "link": ("a\x1b]8;;http://x\x1b\\b", "ab"),
    "clear": ("a\x1b[2J\x1b[Hb", "ab"),
    "reset": ("a\x1bcb", "ab"),
    "charset": ("a\x1b(0b", "ab"),
    "eight bits": ("a\x9b31mb\x9d0;x\x9cc", "abc"),
    "nested": ("a\x1b[\x1b[31m31mb", "a[31mb"),
    "carriage return": ("all is well\rrm -rf\b\b", "all is wellrm -rf"),
    "reading direction": ("a\u202eb\u2066c", "abc"),
    "half a pair": ("a\ud800b", "a\ufffdb"),
    "markup": ("[bold]a[/] [/nonsense] [link=x]", "[bold]a[/] [/nonsense] [link=x]"),
    "wide": ("漢字 👩‍👩‍👧 é", "漢字 👩‍👩‍👧 é"),
}


def frame(event: str, t: int = 0, **data: Any) -> dict[str, Any]:
    return {"id": 1, "event": event, "data": {**data, "t": t}}


def begin(turn: int, *, agent: str = "", stage: int = 1, t: int = 0) -> dict[str, Any]:
    return frame("agent_start", t, agent=agent or f"A{turn}", turn=turn, stage=stage, loop=1, model="m", lane="direct")


def chunk(turn: int, content: str, *, agent: str = "", t: int = 0) -> dict[str, Any]:
    return frame("chunk", t, agent=agent or f"A{turn}", turn=turn, content=content)


def end(turn: int, *, agent: str = "", t: int = 0, status: str = "success", **data: Any) -> dict[str, Any]:
    data = {"output": "", "usage": USAGE, "duration": 3.0, **data}
    return frame("agent_end", t, agent=agent or f"A{turn}", turn=turn, status=status, **data)


def tool(event: str, turn: int, call: str = "c", **data: Any) -> dict[str, Any]:
    return frame(event, agent=f"A{turn}", turn=turn, tool_call_id=call, **data)


LAST = (
    frame("usage", total_tokens=1234, billing_info={"total_cost": 0.5}, priced=True, estimated=False),
    frame("end", job_id="j", status="success", execution_time=2.5, failed_agents=[]),
)


def panels_of(*frames: dict[str, Any]) -> Panels:
    panels = Panels()
    for its in frames:
        panels.observe(its["event"], its["data"])
    return panels


def panel_of(*frames: dict[str, Any]) -> Panel:
    (panel,) = panels_of(*frames)
    return panel


def drawn(
    *frames: dict[str, Any], width: int = 100, height: int = 30, live: bool = True, verbose: bool = False
) -> tuple[str, str]:
    """What a terminal gets, and what of it stays: the text without escape sequences since the live area was erased."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=height, color_system="standard")
    with LiveView(console=console, live=live, verbose=verbose) as picture:
        for its in frames:
            picture.show(its)
    return file.getvalue(), staying(file.getvalue())


def staying(sent: str) -> str:
    """What a terminal shows in the end, with what has scrolled away; it knows what rich uses."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", sent):
        if part == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            rows[row] = ""
        elif part == "\x1b[1A":
            row -= 1
            assert row >= 0
        elif not part.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    return "\n".join(rows)


def _inside(readable: str) -> str:
    """The text of panels, their borders taken off and their lines joined."""
    return "".join(line.strip("│ ") for line in readable.splitlines() if line.startswith("│"))


def written(*frames: dict[str, Any], verbose: bool = False) -> str:
    file = io.StringIO()
    with PlainText(file, verbose=verbose) as plain:
        for its in frames:
            plain.show(its)
    return file.getvalue()


# --- Untrusted text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HOSTILE)
def test_control_characters_and_escape_sequences_are_taken_out_wherever_deltas_cut_them(kind: str) -> None:
    text, expected = HOSTILE[kind]
    for cut in range(len(text) + 1):
        cleaner = Cleaner()
        assert cleaner.feed(text[:cut]) + cleaner.feed(text[cut:]) + cleaner.end() == expected


@given(st.lists(st.text(alphabet="\x1b\x07\x9b\x9c[]()\\;0mP_a\n", max_size=20), max_size=8))
def test_no_text_gets_a_control_character_through(deltas: list[str]) -> None:
    cleaner = Cleaner()
    shown = "".join(cleaner.feed(delta) for delta in deltas if delta) + cleaner.end()
    assert not set(shown) & set("\x1b\x07\x9b\x9c")
    if not set("".join(deltas)) & set("\x1b\x9b"):
        assert shown == re.sub("[\x07\x9c]", "", "".join(deltas)), "nothing else is lost"


def test_a_sequence_without_an_end_does_not_swallow_what_follows() -> None:
    cleaner = Cleaner()
    words = [f"word{number} " for number in range(1000)]
    shown = cleaner.feed("\x1b]0;") + "".join(cleaner.feed(word) for word in words)
    assert "word100 " in shown, "before the end, too"
    assert shown + cleaner.end() == "]0;" + "".join(words)


def test_a_word_of_somebody_elses_stays_on_its_line() -> None:
    assert one_line("a\nb\x1b[31m\tc", 10) == "a b c"
    assert one_line("x" * 100_000, 10) == "xxxxxxxxx…"


# --- The state of panels --------------------------------------------------------------------------------------------


def test_a_turn_thinks_speaks_calls_and_is_done() -> None:
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


def test_speed_is_deltas_a_second_while_it_speaks_and_then_what_usage_says() -> None:
    spoken = [begin(1), *(chunk(1, "x", t=1000 + 50 * number) for number in range(5))]
    called = [tool("tool_start", 1, tool="t", arguments={}), tool("tool_end", 1, tool="t", output="", duration=9)]
    again = [chunk(1, "x", t=9000), chunk(1, "x", t=9050)]
    assert panel_of(*spoken).tokens_per_second == 20
    assert panel_of(*spoken, *called, *again).tokens_per_second == 20, "the tool's seconds do not count"
    assert panel_of(*spoken, end(1)).tokens_per_second == 30
    assert panel_of(begin(1), chunk(1, "all at once")).tokens_per_second is None


def test_a_stage_is_taken_once_nobody_in_it_speaks_whoever_ends_first() -> None:
    panels = panels_of(begin(1), begin(2), begin(3), end(3), end(1))
    assert panels.take_ended_stages() == []
    panels.observe("agent_start", begin(4, stage=2)["data"])
    panels.observe("agent_end", end(2)["data"])
    assert [panel.turn for panel in panels.take_ended_stages()] == [1, 2, 3]
    assert [panel.turn for panel in panels] == [4]


def test_what_a_tool_or_the_loop_writes_is_a_line_and_progress_a_state() -> None:
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


def test_what_was_kept_back_as_the_beginning_of_a_sequence_is_shown_at_the_end() -> None:
    assert panel_of(begin(1), chunk(1, "a\x1b]0;b"), end(1)).segments.texts(verbose=False) == [("text", "a]0;b")]


def test_a_turn_that_begins_again_forgets_what_it_said() -> None:
    restart = frame("turn_restart", agent="A1", turn=1, attempt=2, discard_from=3)
    panel = panel_of(begin(1), chunk(1, "lost"), restart, chunk(1, "kept"), end(1))
    assert [text for kind, text in panel.segments.texts(verbose=False) if kind == "text"] == ["kept"]


def test_an_answer_that_was_not_streamed_and_calls_for_the_caller_are_shown_at_the_end() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "pay", "arguments": '{"usd": 5}'}}]
    assert panel_of(begin(1), end(1, output="whole", tool_calls=calls)).segments.texts(verbose=False) == [
        ("text", "whole"),
        ("tool", "pay(usd=5) → for you to execute"),
    ]


def test_the_tail_of_a_long_text_costs_what_it_shows() -> None:
    panel = panel_of(begin(1), *(chunk(1, "word ") for _ in range(10_000)), chunk(1, "y" * 100_000))
    ((_, tail),) = panel.segments.tail(300, verbose=False)
    assert tail == "y" * 300
    panel = panel_of(begin(1), *(chunk(1, f"{number} ") for number in range(10_000)))
    ((_, tail),) = panel.segments.tail(30, verbose=False)
    assert tail.endswith("9998 9999 ")
    assert len(tail) == 30


# --- The picture ----------------------------------------------------------------------------------------------------


def test_agents_of_a_stage_stand_side_by_side_and_below_each_other_where_it_is_narrow() -> None:
    def places(width: int) -> list[tuple[int, int]]:
        console = Console(file=io.StringIO(), width=width, height=40)
        snapshots = [PanelSnapshot(f"Agent{number}", "speaking", ["facts"], [("text", "hello")]) for number in range(2)]
        with console.capture() as captured:
            console.print(live_area(snapshots, console))
        lines = captured.get().splitlines()
        return [
            (row, line.index(f"Agent{number}"))
            for number in range(2)
            for row, line in enumerate(lines)
            if f"Agent{number}" in line
        ]

    (row_a, column_a), (row_b, column_b) = places(100)
    assert row_a == row_b
    assert column_a < column_b
    (row_a, column_a), (row_b, column_b) = places(50)
    assert row_a < row_b
    assert column_a == column_b


@pytest.mark.parametrize("count", [1, 2, 7, 30, 200])
@pytest.mark.parametrize("size", [(80, 24), (20, 5), (300, 60), (10, 3)])
def test_the_live_area_never_outgrows_the_terminal(count: int, size: tuple[int, int]) -> None:
    width, height = size
    tail = [("text", "漢字 hello\n" * 100), ("tool", "t" * 500)]
    console = Console(file=io.StringIO(), width=width, height=height)
    snapshots = [PanelSnapshot(f"Agent {number}", "speaking", "facts", tail[:]) for number in range(count)]  # pyright: ignore[reportArgumentType]
    with console.capture() as captured:
        console.print(live_area(snapshots, console))
    lines = captured.get().splitlines()
    assert len(lines) <= max(1, height - 2)
    assert max(cell_len(line) for line in lines) <= width


def test_finished_stages_stay_above_whole_and_the_last_line_says_what_it_cost() -> None:
    text = " ".join(f"w{number}" for number in range(2000))
    frames = [
        frame("metadata", swarm_name="Team [bold]", warnings=["unknown field x"]),
        begin(1, agent="Writer"),
        *(chunk(1, word + " ") for word in text.split()),
        end(1),
        begin(2, agent="Editor", stage=2),
        chunk(2, "short"),
        end(2, status="failed", usage={**USAGE, "priced": False, "cost_usd": 0}),
        *LAST,
    ]
    sent, stays = drawn(*frames, height=10)
    assert "\x1b[?25l" in sent
    assert "Team [bold]" in stays
    assert "Warning: unknown field x" in stays
    assert re.findall(r"w\d+", stays) == text.split(), "the record is never cut, and nothing of the live area is left"
    assert "done · 120 tokens · 30 tokens/s · $0.0123 · 3.0 s" in stays
    assert "failed · 120 tokens · 30 tokens/s · price unknown · 3.0 s" in stays
    assert stays.splitlines()[-1] == "success · 1,234 tokens · $0.5000 · 2.5 s"


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_model_cannot_reach_the_terminal_through_the_picture(kind: str) -> None:
    text, expected = HOSTILE[kind]
    hostile = [
        frame("metadata", swarm_name=text, warnings=[text]),
        begin(1, agent=text),
        chunk(1, text),
        tool("tool_start", 1, tool=text, arguments={text: text}),
        tool("tool_end", 1, tool=text, output=text, is_error=True, duration=1),
        frame("custom", agent=text, turn=1, name=text, data=text),
        frame("error", agent=text, turn=1, error=text, code=text),
        end(1),
        frame("error", error=text, code=text),
        *LAST,
    ]
    ours = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[hl]|2K|1A)")
    for live in (True, False):
        sent, stays = drawn(*hostile, live=live)
        assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", ours.sub("", sent))
        if not live:
            assert one_line(expected, 100) in stays


def test_wide_characters_keep_the_borders_straight() -> None:
    _, stays = drawn(begin(1), chunk(1, "漢字かな" * 100 + "\nascii\n👩‍👩‍👧 é"), end(1), *LAST, width=41)
    panel = [line for line in stays.splitlines() if line[:1] in "╭│╰"]
    assert {cell_len(line) for line in panel if "👩" not in line} == {41}
    assert _inside(stays).count("漢") == 100


def test_a_line_of_a_hundred_thousand_characters_is_shown_whole() -> None:
    for live in (True, False):
        _, stays = drawn(begin(1), chunk(1, "x" * 100_000), end(1), *LAST, live=live)
        assert _inside(stays).count("x") == 100_000


def test_thirty_agents_who_end_in_any_order_are_all_on_record() -> None:
    turns = range(1, 31)
    frames = [
        *(begin(turn) for turn in turns),
        *(chunk(turn, f"<{turn}:{part}>") for part in range(20) for turn in turns),
        *(end(turn) for turn in reversed(turns)),
        *LAST,
    ]
    _, stays = drawn(*frames, width=80, height=24)
    inside = _inside(stays)
    for turn in turns:
        assert "".join(f"<{turn}:{part}>" for part in range(20)) in inside


def test_reasoning_is_shown_dimmed_and_only_when_asked_for() -> None:
    frames = [begin(1), frame("reasoning", agent="A1", turn=1, content="secret thought"), chunk(1, "x"), end(1), *LAST]
    assert "secret thought" not in drawn(*frames)[0]
    assert re.search(r"\x1b\[2;3m\s*secret thought", drawn(*frames, verbose=True)[0])


def test_without_a_live_area_each_turn_is_printed_when_it_ends() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system="standard")
    with LiveView(console=console, live=False) as picture:
        for its in (begin(1, agent="Slow"), begin(2, agent="Fast"), chunk(1, "slow"), chunk(2, "fast"), end(2)):
            picture.show(its)
        assert "Fast" in file.getvalue()
        assert "Slow" not in file.getvalue()
        picture.show(end(1))
        assert "Slow" in file.getvalue()
    assert "\x1b[?25l" not in file.getvalue(), "the cursor is left alone"


class _Counting(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_however_fast_tokens_come_the_picture_is_drawn_a_few_times_a_second() -> None:
    file = _Counting()
    with LiveView(console=Console(file=file, force_terminal=True, width=80, height=24)) as picture:
        picture.show(begin(1))
        for number in range(30_000):
            picture.show(chunk(1, "word ", t=number))
        picture.show(end(1))
    assert file.writes < 1000
    assert _inside(staying(file.getvalue())).count("word") == 30_000


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_terminal_is_given_back_whatever_happens_and_what_was_said_stays(error: type[BaseException]) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)

    def left_in_the_middle() -> None:
        with LiveView(console=console) as picture:
            picture.show(begin(1))
            picture.show(chunk(1, "so far"))
            raise error

    with pytest.raises(error):
        left_in_the_middle()
    sent = file.getvalue()
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1
    stays = staying(sent)
    assert "so far" in stays
    assert "unfinished · ~1 token · " in stays


class _Gone(io.StringIO):
    """A terminal that has been closed once something was drawn."""

    def write(self, text: str) -> int:
        if "Alone" in text:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_is_gone_is_told_of_where_frames_are_shown() -> None:
    ended_unheard: list[str] = []

    def shown_without_end() -> None:
        with LiveView(console=Console(file=_Gone(), force_terminal=True, width=80, height=24)) as picture:
            picture.show(begin(1, agent="Alone"))
            for _ in range(2_000_000):
                picture.show(frame("start"))
            ended_unheard.append("the frames")

    with pytest.raises(OSError, match="Input/output"):
        shown_without_end()
    assert not ended_unheard


# --- Plain text -----------------------------------------------------------------------------------------------------


def test_a_turn_that_speaks_alone_streams_token_by_token_below_its_name() -> None:
    file = io.StringIO()
    with PlainText(file) as plain:
        plain.show(begin(1, agent="Writer"))
        plain.show(chunk(1, "one"))
        assert file.getvalue() == "--- Writer ---\none"
        for its in (chunk(1, " two"), end(1), begin(2, agent="Editor", stage=2), chunk(2, "three\n"), end(2), *LAST):
            plain.show(its)
    assert file.getvalue() == (
        "--- Writer ---\none two\n\n--- Editor ---\nthree\n\n[success · 1,234 tokens · $0.5000 · 2.5 s]\n"
    )


def test_turns_that_speak_at_once_are_written_line_by_line_with_their_names() -> None:
    text = written(
        *(begin(1, agent="A"), begin(2, agent="B")),
        *(chunk(1, "a1 "), chunk(2, "b1 "), chunk(1, "a2\na3"), chunk(2, "b2"), end(2), chunk(1, "!"), end(1)),
        *LAST,
    )
    assert text == "A: a1 a2\nB: b1 b2\nA: a3!\n[success · 1,234 tokens · $0.5000 · 2.5 s]\n"


def test_a_long_line_comes_in_pieces_while_several_speak() -> None:
    file = io.StringIO()
    with PlainText(file) as plain:
        for its in (begin(1, agent="A"), begin(2, agent="B"), chunk(1, "Cats purr wh", t=10), chunk(1, "ile", t=900)):
            plain.show(its)
        assert file.getvalue() == "", "a line that is soon whole is not cut"
        plain.show(chunk(2, "Dogs ", t=1010))
        assert file.getvalue() == "A: Cats purr \n", "cut between two words, whoever speaks next"
        plain.show(chunk(1, " they sleep.\n", t=1500))
        plain.show(chunk(2, "漢字" * 30, t=2500))
        for its in (end(1), end(2)):
            plain.show(its)
    assert file.getvalue().startswith(f"A: Cats purr \nA: while they sleep.\nB: Dogs \nB: {'漢字' * 30}\n")


def test_what_a_run_came_to_goes_beside_its_text_where_that_is_asked_for() -> None:
    file, notes = io.StringIO(), io.StringIO()
    with PlainText(file, notes=notes) as plain:
        for its in (begin(1, agent="A"), chunk(1, "one"), end(1), *LAST):
            plain.show(its)
    assert file.getvalue() == "--- A ---\none\n\n"
    assert notes.getvalue() == "[success · 1,234 tokens · $0.5000 · 2.5 s]\n"


@pytest.mark.parametrize(
    ("outputs", "written"),
    [
        ({"output": [{"role": "A", "content": "first"}, {"role": "B", "content": "last\x1b[31m"}]}, "last\n"),
        ({"outputs": [{"role": "A", "content": [{"name": "f"}]}]}, '[{"name": "f"}]\n'),
        ({"outputs": [{"role": "A", "content": [{"name": "f\x9b31m\u202e"}]}]}, '[{"name": "f"}]\n'),
        ({"output": []}, ""),
    ],
)
def test_the_last_answer_can_be_had_alone(outputs: dict[str, Any], written: str) -> None:
    file, notes = io.StringIO(), io.StringIO()
    with LastAnswer(file, notes) as last:
        for its in (
            frame("metadata", job_id="j", warnings=["careful"]),
            *(begin(1, agent="A"), chunk(1, "first"), end(1)),
            frame("error", error="it broke", code="provider_error"),
            frame("end", job_id="j", status="failed", execution_time=2.5, failed_agents=["B"], **outputs),
        ):
            last.show(its)
    assert file.getvalue() == written
    assert re.fullmatch(
        r"\[warning: careful\]\n\[error: it broke \(provider_error\)\]\n\[failed \(B\) · .*\]\n", notes.getvalue()
    )


@pytest.mark.parametrize("width", range(20, 90, 7))
def test_the_foot_of_a_panel_holds_whole_items_only(width: int) -> None:
    _, readable = drawn(begin(1), chunk(1, "x"), chunk(1, "y", t=500), end(1), width=width)
    [foot] = [line for line in readable.splitlines() if line.startswith("╰")]
    items = ["done", "120 tokens", "30 tokens/s", "$0.0123", "3.0 s"]
    shown = foot.strip("╰─╯ ").split(" · ")
    assert shown == items[: len(shown)], foot
    assert len(shown) == len(items) or len(" · ".join(items[: len(shown) + 1])) > width - 6, "what fits is there"


def test_a_turn_that_others_join_goes_on_line_by_line() -> None:
    text = written(
        begin(1, agent="A"),
        chunk(1, "alone "),
        begin(2, agent="B"),
        chunk(2, "b\n"),
        chunk(1, "joined"),
        end(1),
        end(2),
    )
    assert text.startswith("--- A ---\nalone \nB: b\nA: joined\n")


def test_tools_errors_and_thinking_stand_on_lines_of_their_own() -> None:
    frames = [
        begin(1, agent="A"),
        frame("reasoning", agent="A", turn=1, content="h"),
        frame("reasoning", agent="A", turn=1, content="m"),
        chunk(1, "let me look"),
        tool("tool_start", 1, tool="search", arguments={"q": "x"}),
        tool("tool_end", 1, tool="search", output="y", is_error=False, duration=0.5),
        frame("error", agent="A", turn=1, error="it broke", code="provider_error"),
        end(1, status="failed"),
        frame("error", error="too slow", code="timed_out"),
    ]
    assert written(*frames, verbose=True) == (
        '--- A ---\n(thinking) hm\nlet me look\n[calls search(q="x")]\n[search → y (0.5 s)]\n'
        "[error: it broke (provider_error)]\n[failed]\n\n[error: too slow (timed_out)]\n"
        "[unfinished · 120 tokens · $0.0123 · 0.0 s]\n"
    )
    assert "hm" not in written(*frames)


@pytest.mark.parametrize("kind", HOSTILE)
def test_plain_text_has_no_control_characters_but_line_feeds(kind: str) -> None:
    text, expected = HOSTILE[kind]
    for others in ([], [begin(2)]):
        shown = written(
            begin(1, agent=text),
            *others,
            chunk(1, text),
            tool("tool_start", 1, tool=text, arguments=text),
            frame("custom", agent=text, turn=1, name=text, data=text),
            end(1, agent=text),
        )
        assert expected in shown
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)


_Deltas = st.lists(st.tuples(st.integers(1, 3), st.text(alphabet="ab\n ", min_size=1, max_size=6)), max_size=30)


@given(_Deltas)
@settings(max_examples=200)
def test_no_token_is_lost_however_turns_interleave(deltas: Sequence[tuple[int, str]]) -> None:
    """Turns begin with their first token, so that the first one is sometimes alone."""
    frames: list[dict[str, Any]] = []
    spoken: dict[int, str] = {}
    for turn, text in deltas:
        if turn not in spoken:
            frames.append(begin(turn, agent=f"<{turn}>"))
        frames.append(chunk(turn, text))
        spoken[turn] = spoken.get(turn, "") + text
    frames += [end(turn, agent=f"<{turn}>") for turn in spoken]
    lines = written(*frames).splitlines()
    heard: dict[int, str] = {}
    turn = 0
    for line in lines:
        if named := re.match(r"--- <(\d)> ---|<(\d)>: ", line):
            turn = int(named[1] or named[2])
            line = line[named.end() :]
        elif line.startswith("[unfinished"):
            continue
        heard[turn] = heard.get(turn, "") + line
    for number, text in spoken.items():
        assert heard[number] == text.replace("\n", ""), lines


def test_what_was_said_is_written_when_the_run_breaks_off() -> None:
    file = io.StringIO()

    def left_in_the_middle() -> None:
        with PlainText(file) as plain:
            for its in (begin(1), begin(2), chunk(1, "half a line"), chunk(2, "another\x1b[3")):
                plain.show(its)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        left_in_the_middle()
    assert file.getvalue() == "A1: half a line\nA2: another[3\n[unfinished · ~2 tokens · $0 · 0.0 s]\n"


def test_a_sign_that_the_stream_cannot_encode_is_no_failure() -> None:
    raw = io.BytesIO()
    with PlainText(io.TextIOWrapper(raw, encoding="ascii")) as plain:
        plain.show(begin(1))
        plain.show(chunk(1, "漢字"))
        assert raw.getvalue() == b"--- A1 ---\n??"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_panels_are_for_terminals_that_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(stream: TextIO, **environ: str) -> str:
        with monkeypatch.context() as patched:
            for name in ("NO_COLOR", "TERM"):
                patched.delenv(name, raising=False)
            for name, value in environ.items():
                patched.setenv(name, value)
            picture = view_for(stream)
            with picture:
                for its in (begin(1), chunk(1, "x"), end(1), *LAST):
                    picture.show(its)
            return type(picture).__name__

    assert chosen(io.StringIO(), TERM="xterm") == "PlainText"
    assert chosen(_Terminal(), TERM="dumb") == "PlainText"
    coloured, plain = _Terminal(), _Terminal()
    assert chosen(coloured, TERM="xterm-256color") == "LiveView"
    assert chosen(plain, TERM="xterm-256color", NO_COLOR="1") == "LiveView"
    assert re.search(r"\x1b\[[0-9;]*[39][0-7]m", coloured.getvalue())
    assert not re.search(r"\x1b\[[0-9;]*[39][0-7]m", plain.getvalue())
