"""The results of MCP servers' tools, as models read them."""

from typing import Any

import pytest
from pydantic import JsonValue

from swarmstream.tools.errors import ToolError
from tests.fakes.mcp_server import McpRequest, fake_mcp
from tests.tools.mcp_calls import answering, call, described, tools_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}, "[audio/wav, 3 bytes]"),
        ({"type": "resource_link", "uri": "file:///a", "name": "a"}, "[file:///a]"),
        ({"type": "resource", "resource": {"uri": "a:b", "text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA"}}, "[resource, 3 bytes]"),
        ({"type": "hologram"}, "[something that cannot be shown]"),
        ("nonsense", "[something that cannot be shown]"),
    ],
)
async def test_parts_of_a_result_are_text_or_named(part: Any, text: str) -> None:
    async with (
        fake_mcp(tools_call=answering({"type": "text", "text": "one"}, part)) as fake,
        tools_of(fake.url) as tools,
    ):
        assert await call(tools["echo"]) == f"one\n{text}"


async def test_structured_content_is_the_answer_where_there_is_no_text() -> None:
    async with fake_mcp(tools_call=answering(structuredContent={"a": [1]})) as fake, tools_of(fake.url) as tools:
        assert await call(tools["echo"]) == '{"a":[1]}'


@pytest.mark.parametrize("result", [{"structuredContent": {"n": "x"}}, {}])
async def test_a_result_that_breaks_the_schema_that_the_server_declared_is_an_error(result: Any) -> None:
    promised: JsonValue = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    liar = described("liar", outputSchema=promised)
    async with fake_mcp([liar], tools_call=answering(**result)) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="does not keep to the schema that the server declared"):
            await call(tools["liar"])


async def test_a_result_marked_as_an_error_is_an_error_with_the_servers_text() -> None:
    answer = answering({"type": "text", "text": "no such file"}, isError=True)
    async with fake_mcp(tools_call=answer) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match=r"^no such file$"):
            await call(tools["echo"])


async def test_a_result_that_asks_for_more_is_an_error() -> None:
    async with fake_mcp(tools_call=answering(resultType="input_required")) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="cannot be read"):
            await call(tools["echo"])


async def test_an_error_of_the_protocol_is_an_error_with_the_servers_text() -> None:
    async def refuse(asked: McpRequest) -> None:
        await asked.answer(asked.reply(error={"code": -32602, "message": "not today"}))

    async with fake_mcp(tools_call=refuse) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match=r"^not today$"):
            await call(tools["echo"])
        assert fake.methods.count("initialize") == 1


async def test_half_a_surrogate_pair_from_a_server_fails_its_call_only() -> None:
    async def answer(asked: McpRequest) -> None:
        await asked.answer(asked.reply(result={"content": [{"type": "text", "text": "a\ud83d"}]}))

    async with fake_mcp(tools_call=answer) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="something that is not MCP"):
            await call(tools["echo"])
