"""Plain text: each agent in its lines, no token lost, no control character."""

import io
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstream.terminal.plain import PlainText
from tests.terminal.frames import HOSTILE, LAST, begin, chunk, end, frame, tool, written


def test_a_turn_alone_streams_token_by_token_below_its_name() -> None:
    file = io.StringIO()
    with PlainText(file) as plain:
        plain.show(begin(1, agent="Writer"))
        plain.show(chunk(1, "one"))
        assert file.getvalue() == "--- Writer ---\none"
        for each in (chunk(1, " two"), end(1), begin(2, agent="Editor", stage=2), chunk(2, "three\n"), end(2), *LAST):
            plain.show(each)
    assert file.getvalue() == (
        "--- Writer ---\none two\n\n--- Editor ---\nthree\n\n[success · 1,234 tokens · $0.5000 · 2.5 s]\n"
    )


def test_concurrent_turns_are_written_line_by_line_with_their_names() -> None:
    text = written(
        *(begin(1, agent="A"), begin(2, agent="B")),
        *(chunk(1, "a1 "), chunk(2, "b1 "), chunk(1, "a2\na3"), chunk(2, "b2"), end(2), chunk(1, "!"), end(1)),
        *LAST,
    )
    assert text == "A: a1 a2\nB: b1 b2\nA: a3!\n[success · 1,234 tokens · $0.5000 · 2.5 s]\n"


def test_a_long_line_comes_in_pieces_while_several_turns_go_on() -> None:
    file = io.StringIO()
    with PlainText(file) as plain:
        for each in (begin(1, agent="A"), begin(2, agent="B"), chunk(1, "Cats purr wh", t=10), chunk(1, "ile", t=900)):
            plain.show(each)
        assert file.getvalue() == "", "a line that is soon whole is not cut"
        plain.show(chunk(2, "Dogs ", t=1010))
        assert file.getvalue() == "A: Cats purr \n", "cut between two words, whoever speaks next"
        plain.show(chunk(1, " they sleep.\n", t=1500))
        plain.show(chunk(2, "漢字" * 30, t=2500))
        for each in (end(1), end(2)):
            plain.show(each)
    assert file.getvalue().startswith(f"A: Cats purr \nA: while they sleep.\nB: Dogs \nB: {'漢字' * 30}\n")


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
    written_of: dict[int, str] = {}
    turn = 0
    for line in lines:
        if named := re.match(r"--- <(\d)> ---|<(\d)>: ", line):
            turn = int(named[1] or named[2])
            line = line[named.end() :]
        elif line.startswith("[unfinished"):
            continue
        written_of[turn] = written_of.get(turn, "") + line
    for number, text in spoken.items():
        assert written_of[number] == text.replace("\n", ""), lines


def test_text_that_waits_for_its_line_is_written_when_the_run_breaks_off() -> None:
    file = io.StringIO()

    def left_in_the_middle() -> None:
        with PlainText(file) as plain:
            for each in (begin(1), begin(2), chunk(1, "half a line"), chunk(2, "another\x1b[3")):
                plain.show(each)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        left_in_the_middle()
    assert file.getvalue() == "A1: half a line\nA2: another[3\n[unfinished · ~2 tokens · $0 · 0.0 s]\n"


def test_characters_that_the_stream_cannot_encode_are_replaced() -> None:
    raw = io.BytesIO()
    with PlainText(io.TextIOWrapper(raw, encoding="ascii")) as plain:
        plain.show(begin(1))
        plain.show(chunk(1, "漢字"))
        assert raw.getvalue() == b"--- A1 ---\n??"


def test_a_turn_that_only_began_to_think_does_not_share_its_line_with_another() -> None:
    thought = frame("reasoning", turn=1, agent="A1", content="\x1b[3")
    text = written(begin(1), thought, begin(2), tool("tool_start", 2, tool="search"), verbose=True)
    assert text.startswith("--- A1 ---\n(thinking) \nA2: [calls search()]\n")
