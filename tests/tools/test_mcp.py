"""Tools from MCP servers: what models are offered, what a call may do to us, what a server may do to us."""

import asyncio
import gzip
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after
from mcp.server.mcpserver import Context, Image, MCPServer
from pydantic import BaseModel, JsonValue

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import McpHostRefused
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.hub import McpHub, McpTools
from swarmstream.tools.mcp.listing import MAX_TOOLS, read_listing
from swarmstream.tools.mcp.server import McpServer
from swarmstream.tools.mcp.transport import MAX_ANSWER_BYTES
from tests.conftest import ROOT
from tests.fakes.clock import DrivenClock
from tests.fakes.mcp_server import OBJECT, Asked, Overheard, Rogue, listening, official, rogue

pytestmark = pytest.mark.anyio

SECRET = "hush-hush-token"
Told = list[tuple[str, JsonValue]]


def hub(*entries: str, clock: Clock = SYSTEM_CLOCK) -> McpHub:
    return McpHub(AllowedHosts(entries or ["127.0.0.1", "localhost"]), clock=clock)


def server(url: str, **more: Any) -> McpServer:
    return McpServer(url, (("authorization", f"Bearer {SECRET}"),), **more)


def named(session: McpTools) -> dict[str, Tool]:
    assert not session.faults, session.faults
    return {tool.name: tool for tool in session.tools}


async def call(tool: Tool, told: Told | None = None, clock: Clock = SYSTEM_CLOCK, **values: Any) -> str:
    heard: Told = [] if told is None else told

    def sink(name: str, data: JsonValue) -> None:
        heard.append((name, data))

    context = ToolContext(agent="a", turn=1, tool_call_id="c", tool=tool.name, sink=sink)
    with fail_after(30):
        return await tool.call(json.dumps(values), context, clock)


async def given_up(tool: Tool, clock: Clock) -> None:
    """Call a tool until it is given up."""
    with pytest.raises(ToolError, match="took longer than 20 s"):
        await call(tool, clock=clock)


@asynccontextmanager
async def tools_of(url: str, its_hub: McpHub | None = None, **more: Any) -> AsyncGenerator[dict[str, Tool]]:
    with fail_after(30):
        async with (its_hub or hub()).session([server(url, **more)]) as session:
            yield named(session)


async def fault_of(url: str, its_hub: McpHub | None = None) -> str:
    """Why this server offers nothing."""
    with fail_after(30):
        async with (its_hub or hub()).session([server(url)]) as session:
            [fault] = session.faults
            assert not session.tools
    assert SECRET not in fault.message
    return fault.message


class Point(BaseModel):
    x: int
    y: int


@pytest.fixture(scope="module")
async def its() -> AsyncGenerator[tuple[str, Overheard]]:
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


# What the SDK's own server offers and answers.


async def test_tools_of_a_server_are_offered_and_answer(its: tuple[str, Overheard]) -> None:
    async with tools_of(its[0]) as tools:
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


async def test_headers_are_sent_with_each_request_and_never_shown(its: tuple[str, Overheard]) -> None:
    url, overheard = its
    overheard.headers.clear()
    async with tools_of(url) as tools:
        await call(tools["add"], a=1, b=2)
    assert {headers.get("authorization") for headers in overheard.headers} == {f"Bearer {SECRET}"}
    assert {headers.get("accept-encoding") for headers in overheard.headers} == {"identity"}
    assert SECRET not in repr(server(url)) + repr(tools)


async def test_headers_cannot_be_used_to_say_more_or_to_speak_to_another_host() -> None:
    async with rogue() as its:
        headers = (("Host", "other.example"), ("Accept-Encoding", "gzip"), ("Content-Length", "7"), ("X-Mine", "1"))
        async with hub().session([McpServer(its.url, headers)]) as session:
            assert session.tools
        assert its.asked[0].headers["host"] == its.url.split("/")[2]
        assert its.asked[0].headers["accept-encoding"] == "identity"
        assert its.asked[0].headers["x-mine"] == "1"
        its.asked.clear()
        for name, value in (("x-mine", "1\r\nx-injected: 2"), ("x mine", "1"), ("x-mine", "ü"), ("", "1")):
            async with hub().session([McpServer(its.url, ((name, value),))]) as session:
                assert "cannot be sent a header that is none in HTTP" in session.faults[0].message
        assert not its.asked


async def test_arguments_that_do_not_fit_are_not_sent(its: tuple[str, Overheard]) -> None:
    url, overheard = its
    async with tools_of(url) as tools:
        overheard.methods.clear()
        with pytest.raises(ToolError, match=r'the arguments do not fit: .*"a": it is not of type "integer"'):
            await call(tools["add"], a="x", b=2)
    assert "tools/call" not in overheard.methods


async def test_calls_at_once_share_one_session_and_report_progress(its: tuple[str, Overheard]) -> None:
    url, overheard = its
    overheard.methods.clear()
    told: Told = []
    answers: list[str] = []
    async with tools_of(url) as tools:

        async def meet(number: int) -> None:
            answers.append(await call(tools["meet"], told, number=number))

        async with create_task_group() as tasks:
            tasks.start_soon(meet, 1)
            tasks.start_soon(meet, 2)
    assert sorted(answers) == ["met 1", "met 2"]
    assert sorted(str(data) for _, data in told) == [
        "{'tool': 'meet', 'done': 1.0, 'total': 2.0}",
        "{'tool': 'meet', 'done': 2.0, 'total': 2.0}",
    ]
    assert overheard.methods.count("initialize") == 1
    assert overheard.methods[-1] == "DELETE"


async def test_a_list_is_remembered_for_this_url_with_these_headers_only(its: tuple[str, Overheard]) -> None:
    url, overheard = its
    its_hub = hub()
    overheard.methods.clear()
    await its_hub.probe(server(url), seconds=5)
    assert overheard.methods.count("tools/list") == 1
    overheard.methods.clear()
    async with tools_of(url, its_hub) as tools:
        assert overheard.methods == []
        assert await call(tools["add"], a=1, b=2) == "3"
    assert "tools/list" not in overheard.methods
    async with its_hub.session([McpServer(url)]) as session:
        assert session.tools
    assert "tools/list" in overheard.methods


async def test_first_calls_at_once_begin_one_session() -> None:
    its_hub = hub()
    async with rogue() as its:
        await its_hub.probe(server(its.url), seconds=5)
        its.asked.clear()
        async with tools_of(its.url, its_hub) as tools, create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call, tools["echo"])
        assert its.methods.count("initialize") == 1
        assert len(its.calls) == 3


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


# What of a server's offer is taken.


def described(name: str, **more: JsonValue) -> JsonValue:
    return {"name": name, "inputSchema": OBJECT, **more}


async def test_names_that_models_cannot_use_are_rewritten_and_the_server_hears_its_own() -> None:
    async with rogue([described("files.read/all ü" + "x" * 80)]) as its, tools_of(its.url) as tools:
        [name] = tools
        assert name == ("files_read_all__" + "x" * 80)[:64]
        await call(tools[name])
        assert its.asked[-1].message["params"]["name"] == "files.read/all ü" + "x" * 80


async def test_tools_that_cannot_be_offered_are_named_in_a_fault_and_the_others_are_there() -> None:
    wrong = [
        described("a", inputSchema={"type": "string"}),
        described("b", inputSchema={"type": "object", "properties": {"x": {"type": 12}}}),
        described("c", inputSchema="x"),
        described("d", inputSchema={"type": "object", "description": "x" * 40_000}),
        described("e", inputSchema={"type": "object", "properties": {"x": {"$ref": "http://10.0.0.1/"}}}),
        described(""),
        "nonsense",
    ]
    async with rogue([*wrong, described("fine")]) as its, hub().session([server(its.url)]) as session:
        assert [tool.name for tool in session.tools] == ["fine"]
        [fault] = session.faults
        assert fault.message.startswith(f'the MCP server {its.url.removesuffix("/mcp")} 7 tools were left out: "a" (')
        assert '"e" (its input schema: "http://10.0.0.1/" refers to something outside the schema), and 2 more' in (
            fault.message
        )


async def test_all_schemas_of_a_server_together_are_limited() -> None:
    large: JsonValue = {"type": "object", "description": "x" * 30_000}
    many = [described(f"tool{number}", inputSchema=large) for number in range(20)]
    async with rogue(many) as its, hub().session([server(its.url)]) as session:
        assert len(session.tools) == 17
        assert "3 tools were left out" in session.faults[0].message


async def test_two_tools_of_one_name_are_one_tool_and_a_fault() -> None:
    async with (
        rogue([described("a.b"), described("a_b")]) as one,
        rogue([described("a_b")]) as other,
        hub().session([server(one.url), server(other.url)]) as session,
    ):
        assert [tool.name for tool in session.tools] == ["a_b"]
        await call(session.tools[0])
        assert one.asked[-1].message["params"]["name"] == "a.b"
        assert [fault.server.url for fault in session.faults] == [one.url, other.url]
        assert "there is one of that name already" in session.faults[1].message


async def test_of_ten_thousand_tools_the_first_are_offered() -> None:
    many = [described(f"tool{number}") for number in range(10_000)]
    async with rogue(many) as its, hub().session([server(its.url)]) as session:
        assert len(session.tools) == MAX_TOOLS
        assert "9,872 tools were left out" in session.faults[0].message


async def test_pages_of_a_list_are_followed_and_not_without_end() -> None:
    async def page(asked: Asked) -> None:
        params: dict[str, str] = asked.message.get("params") or {}
        number = int(params.get("cursor", "0"))
        await asked.result({"tools": [described(f"tool{number}")], "nextCursor": str(number + 1)})

    async with rogue(tools_list=page) as its, tools_of(its.url) as tools:
        assert list(tools) == [f"tool{number}" for number in range(16)]


def test_a_description_is_cut() -> None:
    [tool] = read_listing([described("a", description="x" * 5_000)]).tools
    assert len(tool.description) == 1_024


# What a server may answer.


def answering(*parts: Any, **more: Any) -> Any:
    async def answer(asked: Asked) -> None:
        await asked.result({"content": list(parts), **more})

    return answer


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
    async with rogue(tools_call=answering({"type": "text", "text": "one"}, part)) as its, tools_of(its.url) as tools:
        assert await call(tools["echo"]) == f"one\n{text}"


async def test_structured_content_is_the_answer_where_there_is_no_text() -> None:
    async with rogue(tools_call=answering(structuredContent={"a": [1]})) as its, tools_of(its.url) as tools:
        assert await call(tools["echo"]) == '{"a":[1]}'


@pytest.mark.parametrize("result", [{"structuredContent": {"n": "x"}}, {}])
async def test_a_result_that_breaks_the_schema_that_the_server_declared_is_an_error(result: Any) -> None:
    promised: JsonValue = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    liar = described("liar", outputSchema=promised)
    async with rogue([liar], tools_call=answering(**result)) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="does not keep to the schema that the server declared"):
            await call(tools["liar"])


async def test_a_result_that_the_server_calls_an_error_is_one_in_its_words() -> None:
    answer = answering({"type": "text", "text": "no such file"}, isError=True)
    async with rogue(tools_call=answer) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match=r"^no such file$"):
            await call(tools["echo"])


async def test_a_result_that_asks_for_more_is_an_error() -> None:
    async with rogue(tools_call=answering(resultType="input_required")) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="cannot be read"):
            await call(tools["echo"])


async def test_an_error_of_the_protocol_is_an_error_in_the_servers_words() -> None:
    async def refuse(asked: Asked) -> None:
        await asked.answer(asked.reply(error={"code": -32602, "message": "not today"}))

    async with rogue(tools_call=refuse) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match=r"^not today$"):
            await call(tools["echo"])
        assert its.methods.count("initialize") == 1


async def test_half_a_surrogate_pair_from_a_server_is_no_trouble() -> None:
    async def answer(asked: Asked) -> None:
        await asked.answer(asked.reply(result={"content": [{"type": "text", "text": "a\ud83d"}]}))

    async with rogue(tools_call=answer) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="something that is not MCP"):
            await call(tools["echo"])


# What a server may do to us.


async def test_a_server_that_is_down_is_a_fault_that_names_its_origin_only() -> None:
    async with listening(lambda reader, writer: asyncio.sleep(0)) as origin:
        pass
    assert await fault_of(f"{origin}/{SECRET}?key={SECRET}") == f"the MCP server {origin} cannot be reached"


async def test_the_other_servers_are_there_when_one_is_down() -> None:
    async with listening(lambda reader, writer: asyncio.sleep(0)) as origin:
        pass
    async with rogue() as its, hub().session([server(origin), server(its.url)]) as session:
        assert [tool.name for tool in session.tools] == ["echo"]
        assert [fault.server.url for fault in session.faults] == [origin]


@pytest.mark.parametrize("method", ["initialize", "tools_list", "notifications_initialized"])
async def test_a_server_that_never_answers_is_given_up(method: str) -> None:
    async def wait(asked: Asked) -> None:
        await anyio.sleep_forever()

    async with rogue(None, **{method: wait}) as its:
        clock = DrivenClock()
        impatient = McpHub(AllowedHosts(["127.0.0.1"]), listing_seconds=4, clock=clock)
        faults: list[str] = []

        async def ask() -> None:
            faults.append(await fault_of(its.url, impatient))

        async with create_task_group() as tasks:
            tasks.start_soon(ask)
            await its.asked_for(method.replace("_", "/"))
            await clock.advance(4)
        assert "did not answer within 4 s" in faults[0]
        with fail_after(30):
            await its.deserted()


async def test_a_call_that_takes_too_long_is_given_up_and_the_server_told() -> None:
    async def wait(asked: Asked) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    async with rogue(tools_call=wait) as its, tools_of(its.url, hub(clock=clock), timeout_seconds=20) as tools:
        async with create_task_group() as tasks:
            tasks.start_soon(given_up, tools["echo"], clock)
            await its.asked_for("tools/call")
            await clock.advance(20)
        with fail_after(30):
            await its.asked_for("notifications/cancelled")


async def test_a_server_that_does_not_hear_of_a_call_given_up_still_hears_the_next() -> None:
    async def wait(asked: Asked) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    async with (
        rogue(tools_call=wait, notifications_cancelled=wait) as its,
        tools_of(its.url, hub(clock=clock), timeout_seconds=20) as tools,
    ):
        for calls in (1, 2):
            async with create_task_group() as tasks:
                tasks.start_soon(given_up, tools["echo"], clock)
                await its.asked_for("tools/call", calls)
                await clock.advance(20)
            await its.asked_for("notifications/cancelled", calls)
        assert len(its.calls) == 2


async def test_a_server_that_does_not_answer_farewells_holds_nobody_up() -> None:
    async def wait(asked: Asked) -> None:
        await anyio.sleep_forever()

    async with rogue(DELETE=wait, tools_call=wait, notifications_cancelled=wait) as its:
        clock = DrivenClock()
        with fail_after(30):
            async with create_task_group() as tasks:

                async def leave() -> None:
                    async with hub(clock=clock).session([server(its.url)]) as session, create_task_group() as calls:
                        calls.start_soon(call, session.tools[0], None, clock)
                        await its.asked_for("tools/call")
                        calls.cancel_scope.cancel()

                tasks.start_soon(leave)
                await its.asked_for("DELETE")
                await clock.advance(1)
                try:
                    await its.deserted()
                finally:
                    with anyio.CancelScope(shield=True):
                        await clock.advance(60)  # where one second was not enough, the farewell ends here


@pytest.mark.parametrize("as_events", [False, True])
async def test_a_server_that_hangs_up_midway_fails_that_call_at_once_and_is_asked_again(as_events: bool) -> None:
    async def break_off(asked: Asked) -> None:
        if as_events:
            await asked.events()
            await asked.raw(b'id: 1\nretry: 1\ndata: {"jsonrpc": "2.0", "id"')
        else:
            await asked.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        asked.hang_up()

    async with rogue(tools_call=break_off) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="hung up"):
            await call(tools["echo"])
        assert its.methods.count("tools/call") == 1
        del its.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"
        assert its.methods.count("initialize") == 2
        assert "GET" not in its.methods


async def test_a_session_that_the_server_has_forgotten_fails_one_call_and_is_begun_anew() -> None:
    async def forget(asked: Asked) -> None:
        await asked.answer(b"", 404)

    async with rogue(tools_call=forget) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="HTTP status 404"):
            await call(tools["echo"])
        del its.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"


async def test_a_remembered_list_of_a_server_that_is_down_now_fails_the_call() -> None:
    its_hub = hub()
    async with rogue() as its:
        await its_hub.probe(server(its.url), seconds=5)
    async with tools_of(its.url, its_hub) as tools:
        with pytest.raises(ToolError, match="cannot be reached"):
            await call(tools["echo"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("within", [True, False])
async def test_a_redirect_is_not_followed(status: int, within: bool) -> None:
    async with rogue() as other:

        async def redirect(asked: Asked) -> None:
            await asked.answer(b"", status, {"location": "/elsewhere" if within else other.url})

        async with rogue(initialize=redirect) as its:
            assert "redirects are not followed" in await fault_of(its.url)
            with pytest.raises(McpHostRefused, match="we follow no redirects"):
                await hub().probe(server(its.url), seconds=5)
            assert {asked.path for asked in its.asked} == {"/mcp"}
        assert other.connections == 0


@pytest.mark.parametrize("as_events", [False, True])
async def test_an_answer_that_is_too_large_is_an_error_and_the_rest_goes_on(as_events: bool) -> None:
    async def flood(asked: Asked) -> None:
        reply = asked.reply(result={"content": [{"type": "text", "text": "x" * 10_000_000}]})
        if as_events:
            await asked.events()
            await asked.event(reply)
        else:
            await asked.answer(reply)

    async with rogue(tools_call=flood) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="answered with more than 4 MiB"):
            await call(tools["echo"])
        del its.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"


async def test_a_stream_without_end_is_cut_by_its_size() -> None:
    sent = 0

    async def chatter(asked: Asked) -> None:
        nonlocal sent
        await asked.events()
        while True:
            await asked.raw(b": " + b"x" * 100_000 + b"\n\n")
            sent += 100_000

    async with rogue(tools_call=chatter) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="answered with more than 4 MiB"):
            await call(tools["echo"])
    assert sent < 4 * MAX_ANSWER_BYTES  # what sockets hold


async def test_an_event_may_be_as_large_as_an_answer() -> None:
    async def recite(asked: Asked) -> None:
        await asked.events()
        await asked.event(asked.reply(result={"content": [{"type": "text", "text": "x" * 3_000_000}]}))

    async with rogue(tools_call=recite) as its, tools_of(its.url) as tools:
        assert "of 3,000,000 bytes]" in await call(tools["echo"])


async def test_a_server_that_talks_much_is_listened_to_and_answered_a_hundred_times() -> None:
    async def talk(asked: Asked) -> None:
        await asked.events()
        for number in range(200):
            await asked.event(json.dumps({"jsonrpc": "2.0", "id": f"s{number}", "method": "ping"}).encode())
            progress = {"progressToken": asked.message["params"]["_meta"]["progressToken"], "progress": number}
            note: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
            await asked.event(json.dumps(note).encode())
        with fail_after(30):
            await its.until(lambda: len([each for each in its.asked if "result" in each.message]) >= 99)
        await asked.event(asked.reply(result={"content": []}))

    told: Told = []
    async with rogue(tools_call=talk) as its, tools_of(its.url) as tools:
        await call(tools["echo"], told)
    assert len([each for each in its.asked if "result" in each.message]) == 99  # one was that the session has begun
    assert len(told) == 100


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async def bomb(asked: Asked) -> None:
        reply = asked.reply(result={"content": [{"type": "text", "text": "x" * 10_000_000}]})
        await asked.answer(gzip.compress(reply), headers={"content-encoding": "gzip"})

    async with rogue(tools_call=bomb) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="compressed its answer"):
            await call(tools["echo"])
        with fail_after(30):
            await its.deserted()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 401}, "answered with HTTP status 401"),
        ({"status": 500, "body": b'{"detail": "secret words"}'}, "answered with HTTP status 500"),
        ({"body": b"<html>"}, "answered with something that is not MCP"),
        ({"body": b"<html>", "headers": {"content-type": "text/html"}}, "answered with something that is not MCP"),
        ({"body": b"[" * 100_000}, "answered with something that is not MCP"),
        ({"body": b'{"jsonrpc": "2.0", "id": 77, "result": {}}'}, "answered with something that is not MCP"),
        ({"body": b'{"jsonrpc": "2.0", "id": 1, "result": {}}'}, "answered with something that is not MCP"),
        ({"status": 202}, "answered with something that is not MCP"),
        ({"body": b'{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "m"}}'}, "does not want to begin"),
    ],
)
async def test_what_is_not_mcp_is_a_fault_without_the_servers_words(answer: dict[str, Any], problem: str) -> None:
    body = answer.pop("body", b"")

    async def play(asked: Asked) -> None:
        await asked.answer(body, **answer)

    async with rogue(initialize=play, server_discover=play) as its:
        message = await fault_of(its.url)
    assert problem in message
    assert "words" not in message


@pytest.mark.parametrize("listed", [{"tools": 12}, {"tools": "abc"}, {"tools": None}, {"tools": {"a": 1}}, {}])
async def test_a_list_that_is_none_is_a_fault(listed: Any) -> None:
    async def play(asked: Asked) -> None:
        await asked.result(listed)

    async with rogue(tools_list=play) as its:
        assert "answered with something that is not MCP" in await fault_of(its.url)


async def test_a_list_that_is_too_large_is_a_fault() -> None:
    async with rogue([described("a", description="x" * 5_000_000)]) as its:
        assert "answered with more than 4 MiB" in await fault_of(its.url)


async def test_events_that_are_no_json_are_an_error() -> None:
    async def garble(asked: Asked) -> None:
        await asked.events()
        await asked.event(b"{nonsense")

    async with rogue(tools_call=garble) as its, tools_of(its.url) as tools:
        with pytest.raises(ToolError, match="something that is not MCP"):
            await call(tools["echo"])


async def test_a_server_is_offered_neither_samples_nor_questions_nor_roots() -> None:
    async def ask_back(asked: Asked) -> None:
        await asked.events()
        for number, method in enumerate(("sampling/createMessage", "elicitation/create", "roots/list")):
            await asked.event(
                json.dumps({"jsonrpc": "2.0", "id": f"s{number}", "method": method, "params": {}}).encode()
            )
        with fail_after(30):
            await its.until(lambda: sum("error" in each.message for each in its.asked) == 3)
        await asked.event(asked.reply(result={"content": []}))

    async with rogue(tools_call=ask_back) as its, tools_of(its.url) as tools:
        assert await call(tools["echo"]) == ""
        assert its.asked[0].message["params"]["capabilities"] == {}


# Where we go.


async def test_a_host_that_is_not_allowed_is_refused_and_its_name_not_even_resolved() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    async with rogue() as its:
        refusing = McpHub(AllowedHosts(["example.com"]), resolve=resolve)
        with pytest.raises(McpHostRefused):
            refusing.check_url(its.url)
        with pytest.raises(McpHostRefused):
            await refusing.probe(server(its.url), seconds=5)
        assert "is refused: the MCP server" in await fault_of(its.url, refusing)
        assert "is refused" in await fault_of("nonsense", refusing)
        assert its.connections == 0


async def test_a_name_that_leads_to_an_address_that_is_not_allowed_is_refused_and_never_contacted() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert host == "public.example"
        return ["93.184.216.34", "127.0.0.1"]

    async with rogue() as its:
        port = its.url.split(":")[2]
        refusing = McpHub(AllowedHosts(["*"]), resolve=resolve)
        with pytest.raises(McpHostRefused, match="has an address that this server does not allow"):
            await refusing.probe(server(f"http://public.example:{port}"), seconds=5)
        assert "has an address" in await fault_of(f"http://public.example:{port}", refusing)
        assert its.connections == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rogue() as proxy, rogue() as its:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with tools_of(its.url) as tools:
            assert await call(tools["echo"]) == "{}"
        assert proxy.connections == 0


async def test_the_host_header_is_the_name_that_was_asked_for() -> None:
    async with rogue() as its:
        url = its.url.replace("127.0.0.1", "localhost")
        async with tools_of(url) as tools:
            await call(tools["echo"])
        assert {asked.headers["host"] for asked in its.asked} == {url.split("/")[2]}


async def test_the_newest_protocol_is_spoken_to_a_server_that_speaks_no_other() -> None:
    async def refuse(asked: Asked) -> None:
        supported = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
        await asked.answer(asked.reply(error={"code": -32022, "message": "no", "data": supported}), 400)

    async def discover(asked: Asked) -> None:
        await asked.result({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **complete})

    async def tools_list(asked: Asked) -> None:
        await asked.result({"tools": [described("echo")], **complete})

    complete = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    async with (
        rogue(initialize=refuse, server_discover=discover, tools_list=tools_list) as its,
        tools_of(its.url) as tools,
    ):
        with pytest.raises(ToolError):
            await call(tools["echo"])  # by the old book: without a resultType
        its.scripts["tools_call"] = answering({"type": "text", "text": "new"}, resultType="complete")
        assert await call(tools["echo"]) == "new"
        assert its.asked[-1].headers["mcp-protocol-version"] == "2026-07-28"
        assert "notifications/initialized" not in its.methods


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For `api.example.test`, with its key, signed by itself."""
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    subject = "-subj /CN=tests -addext subjectAltName=DNS:api.example.test"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 {subject}"
    subprocess.run([*command.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + file.with_suffix(".pem.crt").read_text())
    return file


async def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def certified(certificate: Path, host: str = "api.example.test") -> AsyncGenerator[tuple[Rogue, str, list[str]]]:
    """A server with that certificate, its URL by a name, and the names that it was asked for by TLS."""
    names: list[str] = []

    def hear_name(connection: object, name: str, context: object) -> None:
        names.append(name)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = hear_name
    its = Rogue()
    async with listening(its.serve, ssl=tls) as origin:
        yield its, f"https://{host}:{origin.split(':')[2]}/mcp", names


async def test_tls_is_by_the_name_though_we_connect_to_an_address(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".pem.crt"))
    its_hub = McpHub(AllowedHosts(["api.example.test", "127.0.0.1"]), resolve=here, tls=trusting)
    async with certified(certificate) as (its, url, names), tools_of(url, its_hub) as tools:
        assert await call(tools["echo"]) == "{}"
        assert set(names) == {"api.example.test"}
        assert its.asked[0].headers["host"] == url.split("/")[2]


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_certificate_that_does_not_prove_the_name_is_refused(certificate: Path, is_trusted: bool) -> None:
    tls = ssl.create_default_context(cafile=certificate.with_suffix(".pem.crt")) if is_trusted else None
    host = "other.example.test" if is_trusted else "api.example.test"
    its_hub = McpHub(AllowedHosts([host, "127.0.0.1"]), resolve=here, tls=tls)
    async with certified(certificate, host) as (its, url, _):
        assert "cannot be reached" in await fault_of(url, its_hub)
        assert not its.asked


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_an_address_that_does_not_answer_is_passed_over_for_the_next(addresses: list[str]) -> None:
    async def both(host: str, port: int) -> list[str]:
        return addresses

    async with rogue() as its:
        url = f"http://example.test:{its.url.split(':')[2]}"
        its_hub = McpHub(AllowedHosts(["example.test", "127.0.0.0/8"]), resolve=both)
        async with tools_of(url, its_hub) as tools:
            assert await call(tools["echo"]) == "{}"


# How it ends.


async def test_looking_at_a_slow_or_broken_server_is_over_in_time_and_says_nothing() -> None:
    async def wait(asked: Asked) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    with fail_after(30):
        async with rogue(initialize=wait) as its, create_task_group() as tasks:
            tasks.start_soon(partial(hub(clock=clock).probe, server(its.url), seconds=2))
            await its.asked_for("initialize")
            await clock.advance(2)
            await its.deserted()
        await hub(clock=clock).probe(server(its.url), seconds=2)


async def test_the_least_used_list_is_forgotten() -> None:
    its_hub = hub()
    async with rogue() as its:
        for number in [*range(64), 0, 64, 0, 1]:
            await its_hub.probe(server(f"{its.url}?{number}"), seconds=5)
    paths = [asked.path for asked in its.asked if asked.method == "tools/list"]
    assert [paths.count(f"/mcp?{number}") for number in (0, 1, 64)] == [1, 2, 1]


async def test_calls_of_a_session_that_breaks_fail_at_once() -> None:
    async def wait(asked: Asked) -> None:
        await asked.events()
        with fail_after(30):
            await its.asked_for("tools/call", 3)
        asked.hang_up()

    failures: list[str] = []

    async def fail(tool: Tool) -> None:
        with pytest.raises(ToolError) as caught:
            await call(tool)
        failures.append(str(caught.value))

    async with rogue(tools_call=wait) as its, tools_of(its.url) as tools, create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(fail, tools["echo"])
    assert len(failures) == 3
    assert all("hung up" in failure for failure in failures)


async def test_a_server_that_loses_every_session_is_not_begun_with_for_ever() -> None:
    async def forget(asked: Asked) -> None:
        await asked.answer(b"", 404)

    async with rogue(tools_call=forget) as its, tools_of(its.url) as tools:
        for _ in range(10):
            with pytest.raises(ToolError):
                await call(tools["echo"])
        assert its.methods.count("initialize") == 5


@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt])
async def test_a_failure_within_the_block_comes_out_as_it_is(kind: type[BaseException]) -> None:
    async with rogue() as its:
        with pytest.raises(kind, match="mine"):
            async with hub().session([server(its.url)]):
                raise kind("mine")
        with fail_after(30):
            await its.deserted()


@pytest.mark.parametrize("moment", ["initialize", "notifications/initialized", "tools/list", "tools/call"])
async def test_nothing_is_left_of_a_session_that_is_cancelled_at_any_point(moment: str) -> None:
    async def wait(asked: Asked) -> None:
        await asked.events()
        note: dict[str, Any] = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": 1},
        }
        await asked.event(json.dumps(note).encode())
        await anyio.sleep_forever()

    async with rogue(tools_call=wait) as its:
        before = asyncio.all_tasks()
        for ticks in range(30):
            with fail_after(30):
                async with create_task_group() as tasks:
                    tasks.start_soon(_three_calls, its)
                    await its.asked_for(moment, its.methods.count(moment) + 1)
                    for _ in range(ticks):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                await its.deserted()
            assert not _others(before), ticks


async def _three_calls(its: Rogue) -> None:
    async with hub().session([server(its.url)]) as session, create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, session.tools[0])


def _others(before: Iterable[Any]) -> set[str]:
    """Tasks that were not there, without those of the server in this loop."""
    return {
        task.get_name()
        for task in asyncio.all_tasks() - set(before)
        if "Rogue" not in repr(task.get_coro()) and not task.done()
    }
