"""The context of a call: what it holds, and what a tool may write to the stream through it."""

import math
from datetime import date
from typing import Annotated, Any

import anyio
import anyio.from_thread
import pytest

from swarmstream.tools.context import MAX_EVENT_BYTES, ToolContext
from swarmstream.tools.functions import tool
from tests.tools.functions import Written, call, context, failure

pytestmark = pytest.mark.anyio


async def test_a_context_is_filled_in_and_no_parameter_of_the_model_s() -> None:
    async def function(count: int, ctx: ToolContext) -> list[Any]:
        return [count, ctx.agent, ctx.turn, ctx.tool_call_id]

    made = tool(function)
    assert list(made.parameters["properties"] or ()) == ["count"]  # pyright: ignore[reportArgumentType]
    assert await call(made, {"count": 3}) == '[3,"A",1,"call_1"]'
    assert "no parameter" in await failure(made, {"count": 3, "ctx": {}})


async def test_a_context_is_recognised_in_every_form_of_annotation() -> None:
    def function(
        a: ToolContext, b: "ToolContext", c: ToolContext | None = None, *, d: Annotated[ToolContext, "x"]
    ) -> int:
        return len({a, b, c, d})

    assert tool(function).parameters["properties"] == {}
    assert await call(function) == "1"


async def test_a_tool_writes_to_the_stream_from_the_loop_and_from_a_thread() -> None:
    async def search(ctx: ToolContext) -> None:
        await ctx.write_event_to_stream("found", {"at": date(2026, 11, 20), 1: ("a",)})
        await ctx.report_progress(1, 2)

    def download(ctx: ToolContext) -> None:
        anyio.from_thread.run(ctx.report_progress, 0.5)

    written: Written = []
    await call(search, written=written)
    await call(download, written=written)
    assert written == [
        ("found", {"at": "2026-11-20", "1": ["a"]}),
        ("progress", {"tool": "search", "done": 1, "total": 2}),
        ("progress", {"tool": "download", "done": 0.5, "total": None}),
    ]


async def test_an_event_stores_a_copy_of_its_data() -> None:
    written: Written = []
    data = {"a": [1]}
    await context(written).write_event_to_stream("x", data)
    data["a"].append(2)
    assert written == [("x", {"a": [1]})]


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "ä", "a\n", 'a"'])
async def test_an_event_s_name_is_short_and_plain(name: str) -> None:
    with pytest.raises(ValueError, match="no event's name"):
        await context().write_event_to_stream(name, 1)


@pytest.mark.parametrize("data", [object(), math.nan, "\ud800", 2**64, [2**64], {"a": lambda: 1}])
async def test_an_event_s_data_are_json_that_every_reader_takes(data: Any) -> None:
    with pytest.raises(ValueError, match="must be JSON"):
        await context().write_event_to_stream("x", data)


async def test_an_event_s_data_are_bounded() -> None:
    written: Written = []
    await context(written).write_event_to_stream("x", "a" * (MAX_EVENT_BYTES - 2))
    assert len(written) == 1
    with pytest.raises(ValueError, match="may take 65,536 bytes, these take 65,537"):
        await context(written).write_event_to_stream("x", "a" * (MAX_EVENT_BYTES - 1))
