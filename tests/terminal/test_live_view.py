"""The live view: what is drawn while a run goes on, what stays, and that the terminal is given back."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from swarmstream.terminal.drawing import PanelSnapshot, live_area
from swarmstream.terminal.live_view import LiveView
from swarmstream.terminal.sanitize import one_line
from tests.terminal.frames import HOSTILE, LAST, USAGE, begin, chunk, end, frame, tool
from tests.terminal.screen import drawn, inside, staying


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


def test_finished_stages_stay_above_whole_and_the_last_line_gives_the_cost() -> None:
    text = " ".join(f"w{number}" for number in range(2000))
    frames = [
        frame("metadata", swarm_name="Team [bold]", warnings=["unknown field x"]),
        begin(1, agent="Writer"),
        *(chunk(1, token + " ") for token in text.split()),
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
def test_the_live_view_passes_no_control_character_of_a_model_on(kind: str) -> None:
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
    assert inside(stays).count("漢") == 100


def test_a_line_of_a_hundred_thousand_characters_is_shown_whole() -> None:
    for live in (True, False):
        _, stays = drawn(begin(1), chunk(1, "x" * 100_000), end(1), *LAST, live=live)
        assert inside(stays).count("x") == 100_000


def test_thirty_agents_that_end_in_any_order_all_stay_on_the_screen() -> None:
    turns = range(1, 31)
    frames = [
        *(begin(turn) for turn in turns),
        *(chunk(turn, f"<{turn}:{part}>") for part in range(20) for turn in turns),
        *(end(turn) for turn in reversed(turns)),
        *LAST,
    ]
    _, stays = drawn(*frames, width=80, height=24)
    text = inside(stays)
    for turn in turns:
        assert "".join(f"<{turn}:{part}>" for part in range(20)) in text


def test_reasoning_is_shown_dimmed_and_only_when_asked_for() -> None:
    frames = [begin(1), frame("reasoning", agent="A1", turn=1, content="secret thought"), chunk(1, "x"), end(1), *LAST]
    assert "secret thought" not in drawn(*frames)[0]
    assert re.search(r"\x1b\[2;3m\s*secret thought", drawn(*frames, verbose=True)[0])


def test_without_a_live_area_each_turn_is_printed_when_it_ends() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system="standard")
    with LiveView(console=console, live=False) as view:
        for each in (begin(1, agent="Slow"), begin(2, agent="Fast"), chunk(1, "slow"), chunk(2, "fast"), end(2)):
            view.show(each)
        assert "Fast" in file.getvalue()
        assert "Slow" not in file.getvalue()
        view.show(end(1))
        assert "Slow" in file.getvalue()
    assert "\x1b[?25l" not in file.getvalue(), "the cursor is left alone"


class CountingFile(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_the_live_view_is_drawn_a_few_times_a_second_however_fast_tokens_come() -> None:
    file = CountingFile()
    with LiveView(console=Console(file=file, force_terminal=True, width=80, height=24)) as view:
        view.show(begin(1))
        for number in range(30_000):
            view.show(chunk(1, "word ", t=number))
        view.show(end(1))
    assert file.writes < 1000
    assert inside(staying(file.getvalue())).count("word") == 30_000


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_gives_the_terminal_back_and_the_text_so_far_stays(error: type[BaseException]) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)

    def left_in_the_middle() -> None:
        with LiveView(console=console) as view:
            view.show(begin(1))
            view.show(chunk(1, "so far"))
            raise error

    with pytest.raises(error):
        left_in_the_middle()
    sent = file.getvalue()
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1
    stays = staying(sent)
    assert "so far" in stays
    assert "unfinished · ~1 token · " in stays


class ClosedTerminal(io.StringIO):
    """A terminal that has been closed once something was drawn."""

    def write(self, text: str) -> int:
        if "Alone" in text:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_closed_terminal_raises_where_frames_are_shown() -> None:
    ended_unheard: list[str] = []

    def shown_without_end() -> None:
        with LiveView(console=Console(file=ClosedTerminal(), force_terminal=True, width=80, height=24)) as view:
            view.show(begin(1, agent="Alone"))
            for _ in range(2_000_000):
                view.show(frame("start"))
            ended_unheard.append("the frames")

    with pytest.raises(OSError, match="Input/output"):
        shown_without_end()
    assert not ended_unheard


@pytest.mark.parametrize("width", range(20, 90, 7))
def test_the_foot_of_a_panel_holds_whole_items_only(width: int) -> None:
    _, readable = drawn(begin(1), chunk(1, "x"), chunk(1, "y", t=500), end(1), width=width)
    [foot] = [line for line in readable.splitlines() if line.startswith("╰")]
    items = ["done", "120 tokens", "30 tokens/s", "$0.0123", "3.0 s"]
    shown = foot.strip("╰─╯ ").split(" · ")
    assert shown == items[: len(shown)], foot
    assert len(shown) == len(items) or len(" · ".join(items[: len(shown) + 1])) > width - 6, "what fits is there"
