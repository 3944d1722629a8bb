"""Agents that use MCP servers, over HTTP: named in a request, allowed by the operator, told of in the stream."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from swarmstream.llm.providers.demo.model import DemoModel
from tests.clients.runs import named, run
from tests.conftest import client, serving
from tests.fakes.answers import call, calls, offered, results, says
from tests.fakes.clock import DrivenClock
from tests.fakes.mcp_server import McpRequest, fake_mcp, listening, official
from tests.fakes.upstream import Exchange

pytestmark = pytest.mark.anyio

LOCAL: dict[str, Any] = {"mcp_allowed_hosts": ("127.0.0.1",)}


def adder() -> MCPServer:
    server = MCPServer("adder")

    @server.tool()
    def add(a: int, b: int) -> int:  # pyright: ignore[reportUnusedFunction]
        """Add two integers."""
        return a + b

    return server


async def uses_add(exchange: Exchange) -> None:
    """Calls `add`, or `echo`, whatever is offered, and then tells what came of it."""
    if results(exchange):
        await says(exchange, f"I was told: {results(exchange)[0][:50]}")
    else:
        await calls(exchange, call((offered(exchange) or ["add"])[0], {"a": 17, "b": 25}))


async def test_an_agent_uses_the_tools_of_an_mcp_server(tmp_path: Path) -> None:
    config = {"authorization_token": "secret-0123456789", "headers": {"X-Team": "blue"}}
    async with official(adder()) as (url, proxy):
        agent = {"mcp_config": {"url": url, **config}, "max_loops": 2}
        events, exchanges = await run(uses_add, tmp_path, agent, settings=LOCAL)
    [started] = named(events, "tool_start")
    [ended] = named(events, "tool_end")
    assert (started.data["tool"], started.data["arguments"]) == ("add", {"a": 17, "b": 25})
    assert (ended.data["output"], ended.data["is_error"]) == ("42", False)
    assert named(events, "agent_end")[0].data["output"] == "I was told: 42"
    assert offered(exchanges[0]) == ["add"]
    assert {headers["authorization"] for headers in proxy.headers} == {"Bearer secret-0123456789"}
    assert {headers["x-team"] for headers in proxy.headers} == {"blue"}
    assert "secret-0123456789" not in str(events)


async def test_the_list_of_tools_is_asked_for_once() -> None:
    async with official(adder()) as (url, proxy):
        models = {"demo": DemoModel(first_token_seconds=0, token_seconds=0)}
        async with serving(models=models, **LOCAL, default_model="demo/swarm") as server, client(server) as http:
            for _ in range(2):
                agent = {"agent_name": "A", "mcp_configs": {"connections": [{"url": url}]}}
                answer = await http.post("/v1/agent/completions", json={"agent_config": agent, "task": "go"})
                assert answer.status_code == 200, answer.text
    assert proxy.methods.count("tools/list") == 1


async def _ten_megabytes(asked: McpRequest) -> None:
    await asked.result({"content": [{"type": "text", "text": "x" * (10 << 20)}]})


async def _a_lie(asked: McpRequest) -> None:
    await asked.result({"content": [], "structuredContent": {"sum": "many"}})


async def _silence(asked: McpRequest) -> None:
    await anyio.sleep_forever()


async def _hangs_up(asked: McpRequest) -> None:
    asked.hang_up()


LIAR: dict[str, Any] = {
    "name": "add",
    "inputSchema": {"type": "object"},
    "outputSchema": {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]},
}


@pytest.mark.parametrize(
    ("script", "error"),
    [(_ten_megabytes, "4 MiB"), (_a_lie, "schema"), (_silence, "took longer than 12 s"), (_hangs_up, "")],
    ids=["ten megabytes", "a lie about its schema", "silence", "hangs up"],
)
async def test_a_server_that_misbehaves_fails_the_call_and_the_run_goes_on(
    script: Any, error: str, tmp_path: Path
) -> None:
    async with fake_mcp([LIAR], tools_call=script) as fake:
        clock = DrivenClock()

        async def time_passes() -> None:
            if script is _silence:
                await fake.asked_for("tools/call")
                await clock.advance(12)

        agent = {"mcp_config": {"url": fake.url, "timeout": 12}, "max_loops": 2}
        settings = {**LOCAL, "clock": clock}
        events, _ = await run(uses_add, tmp_path, agent, settings=settings, meanwhile=time_passes)
        with anyio.fail_after(30):
            await fake.deserted()
    [ended] = named(events, "tool_end")
    assert ended.data["is_error"]
    assert error in ended.data["output"]
    assert named(events, "agent_end")[0].data["status"] == "success"


async def test_a_server_that_is_down_becomes_a_warning_and_the_run_goes_on_without_it(tmp_path: Path) -> None:
    async def nobody(*_: object) -> None:
        raise AssertionError

    async def script(exchange: Exchange) -> None:
        assert offered(exchange) == ["calculator"]
        await says(exchange, "alone")

    async with listening(nobody) as origin:
        pass
    agent = {"mcp_url": f"{origin}/mcp?secret=1", "selected_tools": ["calculator"]}
    events, _ = await run(script, tmp_path, agent, settings=LOCAL)
    [ended] = named(events, "tool_end")
    assert ended.data["is_error"]
    assert ended.data["tool"] == "127.0.0.1"
    assert "secret" not in str(events)
    assert named(events, "agent_end")[0].data["output"] == "alone"


async def test_a_tool_with_the_name_of_another_is_left_out_with_a_warning(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        assert offered(exchange) == ["calculator", "echo"]
        await says(exchange, "well")

    listed = [{"name": name, "inputSchema": {"type": "object"}} for name in ("calculator", "echo")]
    async with fake_mcp(listed) as fake:
        agent = {"mcp_url": fake.url, "selected_tools": ["calculator"]}
        events, _ = await run(script, tmp_path, agent, settings=LOCAL)
    [ended] = named(events, "tool_end")
    assert (ended.data["tool"], ended.data["is_error"]) == ("calculator", True)


REFUSED_URLS = [
    "http://2130706433/mcp",
    "http://0177.0.0.1/mcp",
    "http://0x7f.1/mcp",
    "http://127.1/mcp",
    "http://[::ffff:127.0.0.1]/mcp",
    "http://localhost./mcp",
    "http://localhost/mcp",
    "http://10.0.0.1/mcp",
    "http://169.254.169.254/latest",
    "http://example.com@127.0.0.1/mcp",
    "http://elsewhere.example/mcp",
    "ftp://127.0.0.1/mcp",
    "file:///etc/passwd",
    "127.0.0.1/mcp",
    "http://",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_a_host_that_is_not_allowed_is_refused_before_the_first_byte(url: str) -> None:
    async with serving(default_model="demo/swarm", **LOCAL) as server, client(server) as http:
        for field, value in {"mcp_url": url, "mcp_config": {"url": url}, "mcp_configs": [{"url": url}]}.items():
            payload = {"agent_config": {"agent_name": "A", field: value}, "task": "go", "stream": True}
            answer = await http.post("/v1/agent/completions", json=payload)
            assert (answer.status_code, answer.json()["code"]) == (400, "mcp_host_not_allowed"), url
            assert answer.json()["errors"][0]["loc"][:2] == ["agent_config", field]


async def test_without_a_setting_no_host_is_allowed() -> None:
    async with serving(default_model="demo/swarm") as server, client(server) as http:
        payload = {"agents": [{"agent_name": "A", "mcp_url": "https://mcp.example.com/mcp"}], "task": "go"}
        answer = await http.post("/v1/swarm/completions", json=payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "mcp_host_not_allowed")
    assert answer.json()["errors"][0]["loc"] == ["agents", 0, "mcp_url"]


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_a_redirect_is_refused_before_the_first_byte_and_not_followed(status: int) -> None:
    async with fake_mcp() as elsewhere:

        async def redirect(asked: McpRequest) -> None:
            await asked.answer(b"", status, {"location": elsewhere.url})

        async with (
            fake_mcp(initialize=redirect, server_discover=redirect) as fake,
            serving(default_model="demo/swarm", **LOCAL) as server,
            client(server) as http,
        ):
            payload = {"agent_config": {"agent_name": "A", "mcp_url": fake.url}, "task": "go", "stream": True}
            answer = await http.post("/v1/agent/completions", json=payload)
    assert (answer.status_code, answer.json()["code"]) == (400, "mcp_host_not_allowed")
    assert answer.json()["errors"][0]["loc"] == ["agent_config", "mcp_url"]
    assert not elsewhere.asked
