"""MCP servers' tools: sessions, calls, listings that are remembered."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from anyio import create_task_group
from mcp.server.mcpserver import Context, Image, MCPServer
from pydantic import BaseModel

from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.server import McpServer
from tests.conftest import ROOT
from tests.fakes.mcp_server import McpRequest, RecordingProxy, fake_mcp, official
from tests.tools.mcp_calls import SECRET, Written, answering, call, described, hub, server, tools_of

pytestmark = pytest.mark.anyio


class Point(BaseModel):
    x: int
    y: int


@pytest.fixture(scope="module")
async def recorded() -> AsyncGenerator[tuple[str, RecordingProxy]]:
    """The SDK's own server with some tools."""
    mcp = MCPServer("tests")
    both = anyio.Event()
    waiting: list[int] = []

    @mcp.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @mcp.tool()
    def where() -> Point:
        return Point(x=1, y=2)

    @mcp.tool(structured_output=False)
    def picture() -> list[Any]:
        return ["look:", Image(data=b"x" * 12_345, format="png")]

    @mcp.tool()
    def broken() -> str:
        raise RuntimeError("boom")

    @mcp.tool()
    async def meet(number: int, ctx: Context) -> str:
        await ctx.report_progress(number, 2)
        waiting.append(number)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        return f"met {number}"

    for function in (add, where, picture, broken, meet):
        assert function
    async with official(mcp) as found:
        yield found


async def test_tools_of_a_server_are_offered_and_answer(recorded: tuple[str, RecordingProxy]) -> None:
    async with tools_of(recorded[0]) as tools:
        assert list(tools) == ["add", "where", "picture", "broken", "meet"]
        assert tools["add"].description == "Add two numbers."
        assert tools["add"].parameters["required"] == ["a", "b"]
        assert await call(tools["add"], a=1, b=2) == "3"
        assert json.loads(await call(tools["where"])) == {"x": 1, "y": 2}
        assert await call(tools["picture"]) == "look:\n[image/png, 12,345 bytes]"
        with pytest.raises(ToolError, match="broken"):
            await call(tools["broken"])


async def test_a_server_that_answers_in_json_is_understood_too() -> None:
    mcp = MCPServer("json")
    mcp.add_tool(lambda: "yes", name="ask")
    async with official(mcp, json_response=True) as (url, _), tools_of(url) as tools:
        assert await call(tools["ask"]) == "yes"


async def test_a_server_without_sessions_is_understood_too() -> None:
    mcp = MCPServer("stateless")
    mcp.add_tool(lambda: "yes", name="ask")
    async with official(mcp, stateless_http=True) as (url, _), tools_of(url) as tools:
        assert await call(tools["ask"]) == "yes"


async def test_headers_are_sent_with_each_request_and_never_shown(recorded: tuple[str, RecordingProxy]) -> None:
    url, proxy = recorded
    proxy.headers.clear()
    async with tools_of(url) as tools:
        await call(tools["add"], a=1, b=2)
    assert {headers.get("authorization") for headers in proxy.headers} == {f"Bearer {SECRET}"}
    assert {headers.get("accept-encoding") for headers in proxy.headers} == {"identity"}
    assert SECRET not in repr(server(url)) + repr(tools)


async def test_headers_cannot_smuggle_others_or_reach_another_host() -> None:
    async with fake_mcp() as fake:
        headers = (("Host", "other.example"), ("Accept-Encoding", "gzip"), ("Content-Length", "7"), ("X-Mine", "1"))
        async with hub().session([McpServer(fake.url, headers)]) as session:
            assert session.tools
        assert fake.asked[0].headers["host"] == fake.url.split("/")[2]
        assert fake.asked[0].headers["accept-encoding"] == "identity"
        assert fake.asked[0].headers["x-mine"] == "1"
        fake.asked.clear()
        for name, value in (("x-mine", "1\r\nx-injected: 2"), ("x mine", "1"), ("x-mine", "ü"), ("", "1")):
            async with hub().session([McpServer(fake.url, ((name, value),))]) as session:
                assert "cannot be sent a header that is none in HTTP" in session.faults[0].message
        assert not fake.asked


async def test_arguments_that_do_not_fit_are_not_sent(recorded: tuple[str, RecordingProxy]) -> None:
    url, proxy = recorded
    async with tools_of(url) as tools:
        proxy.methods.clear()
        with pytest.raises(ToolError, match=r'the arguments do not fit: .*"a": it is not of type "integer"'):
            await call(tools["add"], a="x", b=2)
    assert "tools/call" not in proxy.methods


async def test_calls_at_once_share_one_session_and_report_progress(recorded: tuple[str, RecordingProxy]) -> None:
    url, proxy = recorded
    proxy.methods.clear()
    progress: Written = []
    answers: list[str] = []
    async with tools_of(url) as tools:

        async def meet(number: int) -> None:
            answers.append(await call(tools["meet"], progress, number=number))

        async with create_task_group() as tasks:
            tasks.start_soon(meet, 1)
            tasks.start_soon(meet, 2)
    assert sorted(answers) == ["met 1", "met 2"]
    assert sorted(str(data) for _, data in progress) == [
        "{'tool': 'meet', 'done': 1.0, 'total': 2.0}",
        "{'tool': 'meet', 'done': 2.0, 'total': 2.0}",
    ]
    assert proxy.methods.count("initialize") == 1
    assert proxy.methods[-1] == "DELETE"


async def test_a_list_is_remembered_for_this_url_with_these_headers_only(recorded: tuple[str, RecordingProxy]) -> None:
    url, proxy = recorded
    mcp_hub = hub()
    proxy.methods.clear()
    await mcp_hub.probe(server(url), seconds=5)
    assert proxy.methods.count("tools/list") == 1
    proxy.methods.clear()
    async with tools_of(url, mcp_hub) as tools:
        assert proxy.methods == []
        assert await call(tools["add"], a=1, b=2) == "3"
    assert "tools/list" not in proxy.methods
    async with mcp_hub.session([McpServer(url)]) as session:
        assert session.tools
    assert "tools/list" in proxy.methods


async def test_first_calls_at_once_begin_one_session() -> None:
    mcp_hub = hub()
    async with fake_mcp() as fake:
        await mcp_hub.probe(server(fake.url), seconds=5)
        fake.asked.clear()
        async with tools_of(fake.url, mcp_hub) as tools, create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call, tools["echo"])
        assert fake.methods.count("initialize") == 1
        assert len(fake.calls) == 3


def test_nothing_is_imported_before_a_server_is_needed() -> None:
    program = (
        "import anyio, sys\n"
        "from swarmstream.tools.mcp.hub import AllowedHosts, McpHub\n"
        "async def main():\n"
        "    async with McpHub(AllowedHosts(['*'])).session([]) as session:\n"
        "        assert session.tools == ()\n"
        "anyio.run(main)\n"
        "print([name for name in ('mcp', 'mcp_types', 'httpx2', 'jsonschema_rs') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


async def test_a_server_that_knows_only_the_newest_protocol_is_called_with_it() -> None:
    async def refuse(asked: McpRequest) -> None:
        supported = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
        await asked.answer(asked.reply(error={"code": -32022, "message": "no", "data": supported}), 400)

    async def discover(asked: McpRequest) -> None:
        await asked.result({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **complete})

    async def tools_list(asked: McpRequest) -> None:
        await asked.result({"tools": [described("echo")], **complete})

    complete = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    async with (
        fake_mcp(initialize=refuse, server_discover=discover, tools_list=tools_list) as fake,
        tools_of(fake.url) as tools,
    ):
        with pytest.raises(ToolError):
            await call(tools["echo"])  # by the old book: without a resultType
        fake.scripts["tools_call"] = answering({"type": "text", "text": "new"}, resultType="complete")
        assert await call(tools["echo"]) == "new"
        assert fake.asked[-1].headers["mcp-protocol-version"] == "2026-07-28"
        assert "notifications/initialized" not in fake.methods


async def test_the_least_used_list_is_forgotten() -> None:
    mcp_hub = hub()
    async with fake_mcp() as fake:
        for number in [*range(64), 0, 64, 0, 1]:
            await mcp_hub.probe(server(f"{fake.url}?{number}"), seconds=5)
    paths = [asked.path for asked in fake.asked if asked.method == "tools/list"]
    assert [paths.count(f"/mcp?{number}") for number in (0, 1, 64)] == [1, 2, 1]
