"""MCP servers that are down, slow, broken or hostile: the agent misses tools or reads an error, no more."""

import asyncio
import gzip
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after

from swarmstream.clock import Clock
from swarmstream.errors import McpHostRefused
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.tools.base import Tool
from swarmstream.tools.errors import ToolError
from swarmstream.tools.mcp.hub import McpHub
from swarmstream.tools.mcp.transport import MAX_ANSWER_BYTES
from tests.fakes.clock import DrivenClock
from tests.fakes.mcp_server import FakeMcpServer, McpRequest, fake_mcp, listening
from tests.tools.mcp_calls import SECRET, Written, call, described, fault_of, hub, server, tools_of

pytestmark = pytest.mark.anyio


async def given_up(tool: Tool, clock: Clock) -> None:
    """Call a tool until it is given up."""
    with pytest.raises(ToolError, match="took longer than 20 s"):
        await call(tool, clock=clock)


async def test_a_server_that_is_down_is_a_fault_that_names_its_origin_only() -> None:
    async with listening(lambda reader, writer: asyncio.sleep(0)) as origin:
        pass
    assert await fault_of(f"{origin}/{SECRET}?key={SECRET}") == f"the MCP server {origin} cannot be reached"


async def test_the_other_servers_are_there_when_one_is_down() -> None:
    async with listening(lambda reader, writer: asyncio.sleep(0)) as origin:
        pass
    async with fake_mcp() as fake, hub().session([server(origin), server(fake.url)]) as session:
        assert [tool.name for tool in session.tools] == ["echo"]
        assert [fault.server.url for fault in session.faults] == [origin]


@pytest.mark.parametrize("method", ["initialize", "tools_list", "notifications_initialized"])
async def test_a_server_that_never_answers_is_given_up(method: str) -> None:
    async def wait(asked: McpRequest) -> None:
        await anyio.sleep_forever()

    async with fake_mcp(None, **{method: wait}) as fake:
        clock = DrivenClock()
        impatient = McpHub(AllowedHosts(["127.0.0.1"]), listing_seconds=4, clock=clock)
        faults: list[str] = []

        async def ask() -> None:
            faults.append(await fault_of(fake.url, impatient))

        async with create_task_group() as tasks:
            tasks.start_soon(ask)
            await fake.asked_for(method.replace("_", "/"))
            await clock.advance(4)
        assert "did not answer within 4 s" in faults[0]
        with fail_after(30):
            await fake.deserted()


async def test_a_call_that_takes_too_long_is_given_up_and_the_server_notified() -> None:
    async def wait(asked: McpRequest) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    async with (
        fake_mcp(tools_call=wait) as fake,
        tools_of(fake.url, hub(clock=clock), timeout_seconds=20) as tools,
    ):
        async with create_task_group() as tasks:
            tasks.start_soon(given_up, tools["echo"], clock)
            await fake.asked_for("tools/call")
            await clock.advance(20)
        with fail_after(30):
            await fake.asked_for("notifications/cancelled")


async def test_a_server_that_ignores_a_cancellation_still_gets_the_next_call() -> None:
    async def wait(asked: McpRequest) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    async with (
        fake_mcp(tools_call=wait, notifications_cancelled=wait) as fake,
        tools_of(fake.url, hub(clock=clock), timeout_seconds=20) as tools,
    ):
        for calls in (1, 2):
            async with create_task_group() as tasks:
                tasks.start_soon(given_up, tools["echo"], clock)
                await fake.asked_for("tools/call", calls)
                await clock.advance(20)
            await fake.asked_for("notifications/cancelled", calls)
        assert len(fake.calls) == 2


async def test_a_server_that_does_not_answer_a_termination_delays_no_turn() -> None:
    async def wait(asked: McpRequest) -> None:
        await anyio.sleep_forever()

    async with fake_mcp(DELETE=wait, tools_call=wait, notifications_cancelled=wait) as fake:
        clock = DrivenClock()
        with fail_after(30):
            async with create_task_group() as tasks:

                async def leave() -> None:
                    async with (
                        hub(clock=clock).session([server(fake.url)]) as session,
                        create_task_group() as calls,
                    ):
                        calls.start_soon(call, session.tools[0], None, clock)
                        await fake.asked_for("tools/call")
                        calls.cancel_scope.cancel()

                tasks.start_soon(leave)
                await fake.asked_for("DELETE")
                await clock.advance(1)
                try:
                    await fake.deserted()
                finally:
                    with anyio.CancelScope(shield=True):
                        await clock.advance(60)  # where one second was not enough, the farewell ends here


@pytest.mark.parametrize("as_events", [False, True])
async def test_a_server_that_hangs_up_midway_fails_that_call_at_once_and_is_asked_again(as_events: bool) -> None:
    async def break_off(asked: McpRequest) -> None:
        if as_events:
            await asked.events()
            await asked.raw(b'id: 1\nretry: 1\ndata: {"jsonrpc": "2.0", "id"')
        else:
            await asked.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        asked.hang_up()

    async with fake_mcp(tools_call=break_off) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="hung up"):
            await call(tools["echo"])
        assert fake.methods.count("tools/call") == 1
        del fake.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"
        assert fake.methods.count("initialize") == 2
        assert "GET" not in fake.methods


async def test_a_session_that_the_server_has_forgotten_fails_one_call_and_is_begun_anew() -> None:
    async def forget(asked: McpRequest) -> None:
        await asked.answer(b"", 404)

    async with fake_mcp(tools_call=forget) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="HTTP status 404"):
            await call(tools["echo"])
        del fake.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"


async def test_a_remembered_list_of_a_server_that_is_down_now_fails_the_call() -> None:
    mcp_hub = hub()
    async with fake_mcp() as fake:
        await mcp_hub.probe(server(fake.url), seconds=5)
    async with tools_of(fake.url, mcp_hub) as tools:
        with pytest.raises(ToolError, match="cannot be reached"):
            await call(tools["echo"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("within", [True, False])
async def test_a_redirect_is_not_followed(status: int, within: bool) -> None:
    async with fake_mcp() as other:

        async def redirect(asked: McpRequest) -> None:
            await asked.answer(b"", status, {"location": "/elsewhere" if within else other.url})

        async with fake_mcp(initialize=redirect) as fake:
            assert "redirects are not followed" in await fault_of(fake.url)
            with pytest.raises(McpHostRefused, match="we follow no redirects"):
                await hub().probe(server(fake.url), seconds=5)
            assert {asked.path for asked in fake.asked} == {"/mcp"}
        assert other.connections == 0


@pytest.mark.parametrize("as_events", [False, True])
async def test_an_answer_that_is_too_large_is_an_error_and_the_rest_goes_on(as_events: bool) -> None:
    async def flood(asked: McpRequest) -> None:
        reply = asked.reply(result={"content": [{"type": "text", "text": "x" * 10_000_000}]})
        if as_events:
            await asked.events()
            await asked.event(reply)
        else:
            await asked.answer(reply)

    async with fake_mcp(tools_call=flood) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="answered with more than 4 MiB"):
            await call(tools["echo"])
        del fake.scripts["tools_call"]
        assert await call(tools["echo"]) == "{}"


async def test_a_stream_without_end_is_cut_by_its_size() -> None:
    sent = 0

    async def chatter(asked: McpRequest) -> None:
        nonlocal sent
        await asked.events()
        while True:
            await asked.raw(b": " + b"x" * 100_000 + b"\n\n")
            sent += 100_000

    async with fake_mcp(tools_call=chatter) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="answered with more than 4 MiB"):
            await call(tools["echo"])
    assert sent < 4 * MAX_ANSWER_BYTES  # what sockets hold


async def test_an_event_may_be_as_large_as_an_answer() -> None:
    async def recite(asked: McpRequest) -> None:
        await asked.events()
        await asked.event(asked.reply(result={"content": [{"type": "text", "text": "x" * 3_000_000}]}))

    async with fake_mcp(tools_call=recite) as fake, tools_of(fake.url) as tools:
        assert "of 3,000,000 bytes]" in await call(tools["echo"])


async def test_requests_of_a_server_are_answered_a_hundred_times_at_most() -> None:
    async def talk(asked: McpRequest) -> None:
        await asked.events()
        for number in range(200):
            await asked.event(json.dumps({"jsonrpc": "2.0", "id": f"s{number}", "method": "ping"}).encode())
            progress = {"progressToken": asked.message["params"]["_meta"]["progressToken"], "progress": number}
            notification: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
            await asked.event(json.dumps(notification).encode())
        with fail_after(30):
            await fake.until(lambda: len([each for each in fake.asked if "result" in each.message]) >= 99)
        await asked.event(asked.reply(result={"content": []}))

    reported: Written = []
    async with fake_mcp(tools_call=talk) as fake, tools_of(fake.url) as tools:
        await call(tools["echo"], reported)
    assert len([each for each in fake.asked if "result" in each.message]) == 99  # one was that the session has begun
    assert len(reported) == 100


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async def bomb(asked: McpRequest) -> None:
        reply = asked.reply(result={"content": [{"type": "text", "text": "x" * 10_000_000}]})
        await asked.answer(gzip.compress(reply), headers={"content-encoding": "gzip"})

    async with fake_mcp(tools_call=bomb) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="compressed its answer"):
            await call(tools["echo"])
        with fail_after(30):
            await fake.deserted()


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
async def test_an_answer_that_is_not_mcp_is_a_fault_without_the_servers_text(
    answer: dict[str, Any], problem: str
) -> None:
    body = answer.pop("body", b"")

    async def play(asked: McpRequest) -> None:
        await asked.answer(body, **answer)

    async with fake_mcp(initialize=play, server_discover=play) as fake:
        message = await fault_of(fake.url)
    assert problem in message
    assert "words" not in message


@pytest.mark.parametrize("listed", [{"tools": 12}, {"tools": "abc"}, {"tools": None}, {"tools": {"a": 1}}, {}])
async def test_a_malformed_list_is_a_fault(listed: Any) -> None:
    async def play(asked: McpRequest) -> None:
        await asked.result(listed)

    async with fake_mcp(tools_list=play) as fake:
        assert "answered with something that is not MCP" in await fault_of(fake.url)


async def test_a_list_that_is_too_large_is_a_fault() -> None:
    async with fake_mcp([described("a", description="x" * 5_000_000)]) as fake:
        assert "answered with more than 4 MiB" in await fault_of(fake.url)


async def test_events_that_are_not_json_are_an_error() -> None:
    async def garble(asked: McpRequest) -> None:
        await asked.events()
        await asked.event(b"{nonsense")

    async with fake_mcp(tools_call=garble) as fake, tools_of(fake.url) as tools:
        with pytest.raises(ToolError, match="something that is not MCP"):
            await call(tools["echo"])


async def test_a_server_is_offered_neither_samples_nor_questions_nor_roots() -> None:
    async def ask_back(asked: McpRequest) -> None:
        await asked.events()
        for number, method in enumerate(("sampling/createMessage", "elicitation/create", "roots/list")):
            await asked.event(
                json.dumps({"jsonrpc": "2.0", "id": f"s{number}", "method": method, "params": {}}).encode()
            )
        with fail_after(30):
            await fake.until(lambda: sum("error" in each.message for each in fake.asked) == 3)
        await asked.event(asked.reply(result={"content": []}))

    async with fake_mcp(tools_call=ask_back) as fake, tools_of(fake.url) as tools:
        assert await call(tools["echo"]) == ""
        assert fake.asked[0].message["params"]["capabilities"] == {}


async def test_a_probe_of_a_slow_or_broken_server_ends_in_time_without_an_error() -> None:
    async def wait(asked: McpRequest) -> None:
        await anyio.sleep_forever()

    clock = DrivenClock()
    with fail_after(30):
        async with fake_mcp(initialize=wait) as fake, create_task_group() as tasks:
            tasks.start_soon(partial(hub(clock=clock).probe, server(fake.url), seconds=2))
            await fake.asked_for("initialize")
            await clock.advance(2)
            await fake.deserted()
        await hub(clock=clock).probe(server(fake.url), seconds=2)


async def test_calls_of_a_session_that_breaks_fail_at_once() -> None:
    async def wait(asked: McpRequest) -> None:
        await asked.events()
        with fail_after(30):
            await fake.asked_for("tools/call", 3)
        asked.hang_up()

    failures: list[str] = []

    async def fail(tool: Tool) -> None:
        with pytest.raises(ToolError) as caught:
            await call(tool)
        failures.append(str(caught.value))

    async with fake_mcp(tools_call=wait) as fake, tools_of(fake.url) as tools, create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(fail, tools["echo"])
    assert len(failures) == 3
    assert all("hung up" in failure for failure in failures)


async def test_a_server_that_loses_every_session_is_given_up() -> None:
    async def forget(asked: McpRequest) -> None:
        await asked.answer(b"", 404)

    async with fake_mcp(tools_call=forget) as fake, tools_of(fake.url) as tools:
        for _ in range(10):
            with pytest.raises(ToolError):
                await call(tools["echo"])
        assert fake.methods.count("initialize") == 5


@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt])
async def test_an_exception_within_the_block_is_raised_unchanged(kind: type[BaseException]) -> None:
    async with fake_mcp() as fake:
        with pytest.raises(kind, match="mine"):
            async with hub().session([server(fake.url)]):
                raise kind("mine")
        with fail_after(30):
            await fake.deserted()


@pytest.mark.parametrize("moment", ["initialize", "notifications/initialized", "tools/list", "tools/call"])
async def test_a_session_cancelled_at_any_point_leaves_no_task(moment: str) -> None:
    async def wait(asked: McpRequest) -> None:
        await asked.events()
        notification: dict[str, Any] = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": 1},
        }
        await asked.event(json.dumps(notification).encode())
        await anyio.sleep_forever()

    async with fake_mcp(tools_call=wait) as fake:
        before = asyncio.all_tasks()
        for ticks in range(30):
            with fail_after(30):
                async with create_task_group() as tasks:
                    tasks.start_soon(_three_calls, fake)
                    await fake.asked_for(moment, fake.methods.count(moment) + 1)
                    for _ in range(ticks):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                await fake.deserted()
            assert not _others(before), ticks


async def _three_calls(fake: FakeMcpServer) -> None:
    async with hub().session([server(fake.url)]) as session, create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, session.tools[0])


def _others(before: Iterable[Any]) -> set[str]:
    """Tasks that were not there, without those of the server in this loop."""
    return {
        task.get_name()
        for task in asyncio.all_tasks() - set(before)
        if "FakeMcpServer" not in repr(task.get_coro()) and not task.done()
    }
