"""Tool calls as providers send them: in pieces, with missing ids and numbers, in older forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from swarmstream.llm.base import ToolCallDelta
from tests.clients.runs import named, run
from tests.engine.carrying_out import failure_of, take_turn
from tests.fakes.answers import call, calling, in_turn, results, saying, says
from tests.fakes.scripted_model import ScriptedModel
from tests.fakes.upstream import Exchange

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["direct", "litellm"])
def lane(request: pytest.FixtureRequest) -> str:
    return request.param


def piece(
    index: int | None, arguments: str = "", *, name: str | None = None, call_id: str | None = None
) -> dict[str, Any]:
    """A piece of a call; what is None is not sent."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    fields = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in fields.items() if value is not None}


PIECES: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str, dict[str, int]]]]] = {
    "split arguments": (
        [[piece(0, name="add", call_id="a")], *([piece(0, char)] for char in '{"a": 1, "b": 2}')],
        [("a", {"a": 1, "b": 2})],
    ),
    "interleaved": (
        [
            [piece(0, name="add", call_id="a"), piece(1, name="add", call_id="b")],
            [piece(1, '{"a": 3,'), piece(0, '{"a": 1,')],
            [piece(0, ' "b": 2}')],
            [piece(1, ' "b": 4}')],
        ],
        [("a", {"a": 1, "b": 2}), ("b", {"a": 3, "b": 4})],
    ),
    "all numbered 0": (
        [
            [piece(0, '{"a": 1,', name="add", call_id="a")],
            [piece(0, ' "b": 2}')],
            [piece(0, '{"a": 3,', name="add", call_id="b")],
            [piece(0, ' "b": 4}', call_id="b")],
        ],
        [("a", {"a": 1, "b": 2}), ("b", {"a": 3, "b": 4})],
    ),
    "without ids": (
        [[piece(0, '{"a": 1, "b": 2}', name="add"), piece(1, '{"a": 3, "b": 4}', name="add")]],
        [("call_1_1", {"a": 1, "b": 2}), ("call_1_2", {"a": 3, "b": 4})],
    ),
    "with one id for all": (
        [
            [piece(0, '{"a": 1, "b": 2}', name="add", call_id="a")],
            [piece(1, '{"a": 3, "b": 4}', name="add", call_id="a")],
        ],
        [("a", {"a": 1, "b": 2}), ("call_1_2_a", {"a": 3, "b": 4})],
    ),
    "name and id repeated": (
        [[piece(0, '{"a": 1,', name="add", call_id="a")], [piece(0, ' "b": 2}', name="add", call_id="a")]],
        [("a", {"a": 1, "b": 2})],
    ),
}


@pytest.mark.parametrize("case", PIECES)
async def test_tool_calls_are_joined_from_their_pieces(case: str, lane: str, tmp_path: Path) -> None:
    pieces, whole = PIECES[case]

    async def in_pieces(exchange: Exchange) -> None:
        await exchange.open()
        for each in pieces:
            await exchange.delta(tool_calls=each)
        await exchange.finish("tool_calls")

    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(in_turn(in_pieces, saying("ok")), tmp_path, agent, settings={"lane": lane})
    started = named(events, "tool_start")
    assert [(event.data["tool_call_id"], event.data["arguments"]) for event in started] == whole
    assert {event.data["tool"] for event in started} == {"add"}
    assert results(exchanges[1]) == [str(sum(arguments.values())) for _, arguments in whole]
    asked = next(message for message in exchanges[1].body["messages"] if message["role"] == "assistant")
    assert [each["id"] for each in asked["tool_calls"]] == [call_id for call_id, _ in whole]


async def test_a_piece_without_an_index_belongs_to_the_call_before(tmp_path: Path) -> None:
    async def unnumbered(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.delta(tool_calls=[piece(None, '{"a": 1,', name="add", call_id="a")])
        await exchange.delta(tool_calls=[piece(None, ' "b": 2}')])
        await exchange.finish("tool_calls")

    agent = {"selected_tools": ["add"], "max_loops": 2}
    _, exchanges = await run(in_turn(unnumbered, saying("ok")), tmp_path, agent)
    assert results(exchanges[1]) == ["3"]


async def test_calls_go_back_in_a_form_that_providers_accept(tmp_path: Path) -> None:
    """Arguments that are no JSON object, and names that no tool can have, came from the model all the same."""
    asked = [
        call("functions.add", {"a": 1, "b": 2}, index=0, call_id="a"),
        call("", index=1, call_id="b"),
        call("add", '{"a": ', index=2, call_id="c"),
        call("add", '{"a": NaN, "b": 1}', index=3, call_id="d"),
        call("x" * 90, index=4, call_id="e"),
    ]
    agent = {"selected_tools": ["add"], "max_loops": 2}
    events, exchanges = await run(in_turn(calling(*asked), saying("ok")), tmp_path, agent)
    assert all(event.data["is_error"] for event in named(events, "tool_end"))
    assert named(events, "tool_start")[0].data["tool"] == "functions.add", "readers see what was asked for"
    repeated = [each["function"] for each in exchanges[1].body["messages"][1]["tool_calls"]]
    assert [each["name"] for each in repeated] == ["functions_add", "unknown", "add", "add", "x" * 64]
    assert [json.loads(each["arguments"]) for each in repeated] == [{"a": 1, "b": 2}, {}, {}, {}, {}]


async def test_a_long_id_goes_back_to_its_provider_unchanged(tmp_path: Path) -> None:
    """litellm puts Gemini's thought signatures into the ids of calls, and takes them out again."""
    call_id = f"call_1__thought__{'Q' * 5000}"
    script = in_turn(calling(call("add", {"a": 1, "b": 2}, call_id=call_id)), saying("ok"))
    _, exchanges = await run(script, tmp_path, {"selected_tools": ["add"], "max_loops": 2})
    assert exchanges[1].body["messages"][2]["tool_call_id"] == call_id


async def test_too_many_tool_calls_fail_the_turn() -> None:
    model = ScriptedModel({"A": [ToolCallDelta(number, f"c{number}", "calculator", "{}") for number in range(129)]})
    notes = await take_turn(model, selected_tools=["calculator"])
    assert failure_of(notes).failure.code == "upstream_invalid"


async def test_the_older_function_calls_are_understood(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        if results(exchange):
            await says(exchange, results(exchange)[0])
            return
        await exchange.open()
        await exchange.delta(function_call={"name": "calculator", "arguments": '{"expression": '})
        await exchange.delta(function_call={"arguments": '"17 + 25"}'})
        await exchange.finish("function_call")

    events, _ = await run(script, tmp_path, {"selected_tools": ["calculator"], "max_loops": 2})
    assert named(events, "agent_end")[0].data["output"] == "42"
