"""Provider text made safe: whole surrogate pairs come through however they are cut, orphans become U+FFFD."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstream.unicode import SurrogateJoiner

CHARACTERS = st.sampled_from("a é\u2028\ufeff\ufffd\ue000\U00010000\U0001f600\U0010ffff") | st.characters(
    exclude_categories=["Cs"]
)
HALVES = st.sampled_from("\ud800\ud83d\udbff\udc00\ude00\udfff")


def utf16_units(text: str) -> list[str]:
    """The text as a JSON parser hands it over when its pairs are escaped: each UTF-16 unit a character."""
    encoded = text.encode("utf-16-le", "surrogatepass")
    return [encoded[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(encoded), 2)]


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    """A text, and the deltas it arrives in: cut between any two of its UTF-16 units."""
    text = draw(texts)
    deltas: list[str] = []
    for unit in utf16_units(text):
        if deltas and draw(st.booleans()):
            deltas[-1] += unit
        else:
            deltas.append(unit)
    return text, deltas


def fed(deltas: list[str]) -> list[str]:
    joiner = SurrogateJoiner()
    return [*(joiner.feed(delta) for delta in deltas), joiner.end()]


def as_it_should_be(units: str) -> str:
    """Pairs joined and orphans replaced, written with nothing but a pattern."""
    return re.sub(
        "([\ud800-\udbff])([\udc00-\udfff])|[\ud800-\udfff]",
        lambda found: (
            chr(0x10000 + (ord(found[1]) - 0xD800) * 0x400 + ord(found[2]) - 0xDC00) if found[1] else "\ufffd"
        ),
        units,
    )


@given(cut(st.text(CHARACTERS)))
@settings(deadline=None)
def test_a_text_comes_through_wherever_it_is_cut(text_and_deltas: tuple[str, list[str]]) -> None:
    text, deltas = text_and_deltas
    assert "".join(fed(deltas)) == text


@given(cut(st.text(CHARACTERS | HALVES)))
@settings(deadline=None)
def test_orphan_halves_become_replacement_characters_and_all_output_can_be_encoded(
    text_and_deltas: tuple[str, list[str]],
) -> None:
    _, deltas = text_and_deltas
    pieces = fed(deltas)
    assert "".join(pieces) == as_it_should_be("".join(deltas))
    for piece in pieces:
        piece.encode()


@given(st.text(CHARACTERS, min_size=1))
@settings(deadline=None)
def test_text_without_halves_is_passed_on_at_once(text: str) -> None:
    joiner = SurrogateJoiner()
    assert joiner.feed(text) == text
    assert joiner.end() == ""


def test_only_the_first_half_of_a_pair_is_kept_back() -> None:
    joiner = SurrogateJoiner()
    assert joiner.feed("smile: \ud83d") == "smile: "
    assert joiner.feed("\ude00!") == "\U0001f600!"
    assert joiner.feed("\ude00") == "\ufffd"


def test_a_kept_half_is_replaced_once_no_other_half_follows() -> None:
    joiner = SurrogateJoiner()
    assert [joiner.feed("\ud83d"), joiner.feed("\ud83d"), joiner.feed("x")] == ["", "\ufffd", "\ufffdx"]


def test_an_end_gives_a_kept_half_away_once() -> None:
    joiner = SurrogateJoiner()
    assert joiner.feed("\ud83d") == ""
    assert [joiner.end(), joiner.end()] == ["\ufffd", ""]
