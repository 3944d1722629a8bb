"""The listing of an MCP server: which of its tools models are offered."""

import pytest
from pydantic import JsonValue

from swarmstream.tools.mcp.listing import MAX_TOOLS, read_listing
from tests.fakes.mcp_server import McpRequest, fake_mcp
from tests.tools.mcp_calls import call, described, hub, server, tools_of

pytestmark = pytest.mark.anyio


async def test_names_that_models_cannot_use_are_rewritten_and_the_server_gets_its_own() -> None:
    async with fake_mcp([described("files.read/all ü" + "x" * 80)]) as fake, tools_of(fake.url) as tools:
        [name] = tools
        assert name == ("files_read_all__" + "x" * 80)[:64]
        await call(tools[name])
        assert fake.asked[-1].message["params"]["name"] == "files.read/all ü" + "x" * 80


async def test_tools_that_cannot_be_offered_are_named_in_a_fault_and_the_others_are_offered() -> None:
    wrong = [
        described("a", inputSchema={"type": "string"}),
        described("b", inputSchema={"type": "object", "properties": {"x": {"type": 12}}}),
        described("c", inputSchema="x"),
        described("d", inputSchema={"type": "object", "description": "x" * 40_000}),
        described("e", inputSchema={"type": "object", "properties": {"x": {"$ref": "http://10.0.0.1/"}}}),
        described(""),
        "nonsense",
    ]
    async with fake_mcp([*wrong, described("fine")]) as fake, hub().session([server(fake.url)]) as session:
        assert [tool.name for tool in session.tools] == ["fine"]
        [fault] = session.faults
        assert fault.message.startswith(f'the MCP server {fake.url.removesuffix("/mcp")} 7 tools were left out: "a" (')
        assert '"e" (its input schema: "http://10.0.0.1/" refers to something outside the schema), and 2 more' in (
            fault.message
        )


async def test_all_schemas_of_a_server_together_are_limited() -> None:
    large: JsonValue = {"type": "object", "description": "x" * 30_000}
    many = [described(f"tool{number}", inputSchema=large) for number in range(20)]
    async with fake_mcp(many) as fake, hub().session([server(fake.url)]) as session:
        assert len(session.tools) == 17
        assert "3 tools were left out" in session.faults[0].message


async def test_two_tools_of_one_name_are_one_tool_and_a_fault() -> None:
    async with (
        fake_mcp([described("a.b"), described("a_b")]) as one,
        fake_mcp([described("a_b")]) as other,
        hub().session([server(one.url), server(other.url)]) as session,
    ):
        assert [tool.name for tool in session.tools] == ["a_b"]
        await call(session.tools[0])
        assert one.asked[-1].message["params"]["name"] == "a.b"
        assert [fault.server.url for fault in session.faults] == [one.url, other.url]
        assert "there is one of that name already" in session.faults[1].message


async def test_of_ten_thousand_tools_the_first_are_offered() -> None:
    many = [described(f"tool{number}") for number in range(10_000)]
    async with fake_mcp(many) as fake, hub().session([server(fake.url)]) as session:
        assert len(session.tools) == MAX_TOOLS
        assert "9,872 tools were left out" in session.faults[0].message


async def test_pages_of_a_list_are_followed_and_not_without_end() -> None:
    async def page(asked: McpRequest) -> None:
        params: dict[str, str] = asked.message.get("params") or {}
        number = int(params.get("cursor", "0"))
        await asked.result({"tools": [described(f"tool{number}")], "nextCursor": str(number + 1)})

    async with fake_mcp(tools_list=page) as fake, tools_of(fake.url) as tools:
        assert list(tools) == [f"tool{number}" for number in range(16)]


def test_a_description_is_cut() -> None:
    [tool] = read_listing([described("a", description="x" * 5_000)]).tools
    assert len(tool.description) == 1_024
