"""Text of models on its way to a terminal: no control character of theirs reaches it, and nothing else is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmstream.terminal.sanitize import Cleaner, one_line
from tests.terminal.frames import HOSTILE


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
    chunks = [f"word{number} " for number in range(1000)]
    shown = cleaner.feed("\x1b]0;") + "".join(cleaner.feed(piece) for piece in chunks)
    assert "word100 " in shown, "before the end, too"
    assert shown + cleaner.end() == "]0;" + "".join(chunks)


def test_a_foreign_text_in_a_line_of_ours_has_no_line_break_and_a_limit() -> None:
    assert one_line("a\nb\x1b[31m\tc", 10) == "a b c"
    assert one_line("x" * 100_000, 10) == "xxxxxxxxx…"
