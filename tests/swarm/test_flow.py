"""The flow grammar: what is read, what is refused and where (docs/wire.md, section 2)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstream.errors import FlowSyntaxError
from swarmstream.swarm.flow import FlowName, parse_flow

SPACES = st.text(" \t\n\u00a0\u2003", max_size=3)
TRICKY = st.sampled_from("AB,-> .é\u2028\U0001f600")
NAMES = (
    st.text(TRICKY | st.characters(), min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda name: name and "," not in name and "->" not in name)
)
STAGES = st.lists(st.lists(NAMES, min_size=1, max_size=4, unique=True), min_size=1, max_size=4)


@st.composite
def written_flows(draw: st.DrawFn) -> tuple[str, list[list[FlowName]]]:
    """A flow written with spaces wherever they may stand, and what it means."""
    text = ""
    meant: list[list[FlowName]] = []
    for stage in draw(STAGES):
        text += "->" if meant else ""
        meant.append([])
        for name in stage:
            text += "," if meant[-1] else ""
            text += draw(SPACES)
            meant[-1].append(FlowName(name, column=len(text) + 1))
            text += name + draw(SPACES)
    return text, meant


@pytest.mark.promise("W-29")
@given(written_flows())
@settings(deadline=None)
def test_a_written_flow_is_read_back_as_it_was_meant(written: tuple[str, list[list[FlowName]]]) -> None:
    text, meant = written
    assert parse_flow(text) == meant


def read(text: str) -> list[list[FlowName]] | FlowSyntaxError:
    try:
        return parse_flow(text)
    except FlowSyntaxError as error:
        return error


@given(st.text(TRICKY | st.characters(), max_size=20))
@settings(deadline=None)
def test_any_text_is_a_flow_or_a_syntax_error_at_a_place_in_it(text: str) -> None:
    found = read(text)
    if isinstance(found, FlowSyntaxError):
        assert 1 <= found.column <= len(text) + 1
        assert found.detail.endswith(f"(column {found.column})")
        assert found.location == ("rearrange_flow",)
        return
    assert len(found) == text.count("->") + 1
    for stage in found:
        assert len({item.name for item in stage}) == len(stage) > 0
        for item in stage:
            assert item.name == item.name.strip() != ""
            assert text.startswith(item.name, item.column - 1)


@pytest.mark.promise("W-30")
@pytest.mark.parametrize(
    ("flow", "column", "reason"),
    [
        ("", 1, "the flow is empty"),
        (" \n\t ", 1, "the flow is empty"),
        ("->", 1, 'missing before "->"'),
        (",", 1, 'missing before ","'),
        ("-> A", 1, 'missing before "->"'),
        (" , A", 2, 'missing before ","'),
        ("A ->", 5, "missing at the end of the flow"),
        ("A -> ", 6, "missing at the end of the flow"),
        ("A,", 3, "missing at the end of the flow"),
        ("A,, B", 3, 'missing before ","'),
        ("A,->B", 3, 'missing before "->"'),
        ("A -> , B", 6, 'missing before ","'),
        ("A -> -> B", 6, 'missing before "->"'),
        ("A, A", 4, '"A" stands twice in one stage'),
        ("A -> B, C,  B -> D", 13, '"B" stands twice in one stage'),
    ],
)
def test_an_error_names_the_mistake_and_the_column(flow: str, column: int, reason: str) -> None:
    with pytest.raises(FlowSyntaxError) as caught:
        parse_flow(flow)
    assert caught.value.column == column
    assert caught.value.detail.endswith(f"{reason} (column {column})")


@pytest.mark.promise("W-29")
def test_a_name_may_come_back_in_a_later_stage() -> None:
    assert parse_flow("A -> B -> A") == [[FlowName("A", 1)], [FlowName("B", 6)], [FlowName("A", 11)]]


@pytest.mark.parametrize("name", ["Lead Writer", "a-b", "a>b", "A-", ">", "日本", "a; b | c => d"])
def test_only_commas_and_arrows_separate(name: str) -> None:
    assert [[item.name for item in stage] for stage in parse_flow(f"{name},X->{name}")] == [[name, "X"], [name]]


def test_names_that_differ_in_case_are_different_names() -> None:
    assert [[item.name for item in stage] for stage in parse_flow("a, A")] == [["a", "A"]]


@pytest.mark.promise("W-14")
def test_a_long_name_is_quoted_in_part_and_on_one_line() -> None:
    name = "x\n" + "y" * 300
    with pytest.raises(FlowSyntaxError) as caught:
        parse_flow(f"{name}, {name}")
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 160
