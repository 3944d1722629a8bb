"""The worst payloads within the limits, field by field: others are answered meanwhile, memory is bounded.

A new field of a payload needs an entry here.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio import to_thread

from swarmstream.swarm.fields import Payload
from swarmstream.swarm.messages import Message
from swarmstream.swarm.payloads import AgentSpec, RunSpec
from tests.clients.process import server_process
from tests.conftest import KEY

pytestmark = pytest.mark.anyio

SWARM = "/v1/swarm/completions"
AGENT = "/v1/agent/completions"
MIB = 1024 * 1024

LONG = "x" * 950_000
WORDS = "ä, b: c; " * 60_000
"""What has to be escaped, or takes more than a byte."""
IMAGE = "data:image/png;base64," + "iVBORw0K" * 2_300_000
WRONG = [1] * 190_000
MANY = ["a"] * 60_000
DEEP: Any = json.loads('{"a":' * 90 + "1" + "}" * 90)
WIDE = {f"k{number}": number for number in range(45_000)}

HEALTH_SECONDS = 0.25
TRIES = 3
"""What the machine does to us, it does not do each time; what a payload does, it does."""
LOOP_SECONDS = 0.035
"""What `slowness` counts on the machine that these bounds were set on."""


def swarm(**fields: Any) -> tuple[str, dict[str, Any]]:
    return SWARM, {"task": "go", "agents": [{"agent_name": "A"}], **fields}


def team(size: int = 64, /, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return a swarm whose agents all run at once."""
    agents = [{"agent_name": f"A{number}"} for number in range(size)]
    return swarm(agents=agents, swarm_type="ConcurrentWorkflow", **fields)


def agent(**fields: Any) -> tuple[str, dict[str, Any]]:
    return AGENT, {"task": "go", "agent_config": {"agent_name": "A", **fields}}


def single(**fields: Any) -> tuple[str, dict[str, Any]]:
    return AGENT, {"task": "go", "agent_config": {"agent_name": "A"}, **fields}


def message(**fields: Any) -> tuple[str, dict[str, Any]]:
    return team(messages=[{"role": "user", "content": "go", **fields}], task=None)


def part(**fields: Any) -> tuple[str, dict[str, Any]]:
    return message(content=[fields])


def calling(**fields: Any) -> tuple[str, dict[str, Any]]:
    return message(role="assistant", tool_calls=[{**CALL, **fields}])


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "t", "parameters": parameters}}


def mcp(**fields: Any) -> tuple[str, dict[str, Any]]:
    return agent(mcp_config={"url": "https://mcp.example.com/mcp", **fields})


def named(specs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"agent_name": str(number), **spec} for number, spec in enumerate(specs)]


def handed_off(depth: int) -> list[dict[str, Any]]:
    below: dict[str, Any] = {"handoffs": handed_off(depth - 1)} if depth else {}
    return named([below] * 28)


ANCHORED = {"$defs": {"x": {"$anchor": "a"}}, "type": "object", "allOf": [{"$ref": "#a"}] * 15_000}
POINTED: dict[str, Any] = {"$defs": {"x": {}}, "type": "object", "allOf": [{"$ref": "#/$defs/x"}] * 8_000}
PATTERNS = {"properties": {f"p{number}": {"pattern": f"\\w{{{30 + number}}}"} for number in range(200)}}
NOTHING: dict[str, Any] = {}
PICTURE = {"type": "image_url", "image_url": "https://x.y"}
CALL = {"id": "1", "function": {"name": "f", "arguments": "{}"}}

WORST: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "RunSpec.stream": [swarm(stream=LONG)],
    "RunSpec.on_disconnect": [swarm(on_disconnect=LONG)],
    "RunSpec.on_error": [swarm(on_error=WORDS)],
    "RunSpec.timeout": [swarm(timeout=1e300), swarm(timeout=10**18)],
    "RunSpec.metadata": [swarm(metadata=WIDE), swarm(metadata=DEEP), swarm(metadata={LONG: 1})],
    "RunSpec.stream_options": [swarm(stream_options=WIDE)],
    "RunSpec.background": [swarm(background=WRONG)],
    "RunSpec.max_cost_usd": [swarm(max_cost_usd=1e300)],
    "RunSpec.max_total_tokens": [swarm(max_total_tokens=10**18)],
    "RunSpec.img": [swarm(img=IMAGE), swarm(img=LONG), swarm(img="data:image/png;base64," + "\\" * 9_000_000)],
    "RunSpec.history": [
        single(history=[{"role": "user", "content": "a"}] * 13_000),
        single(history={str(number): {"role": "user", "content": "a"} for number in range(11_000)}),
        single(history=WRONG),
        swarm(history=[{"role": "user", "content": "a"}] * 13_000),
    ],
    "RunSpec.imgs": [
        single(imgs=["https://x.y"] * 60_000),
        single(imgs=[IMAGE]),
        single(imgs=WRONG),
        swarm(imgs=["https://x.y"] * 900),
    ],
    "RunSpec.tools_enabled": [
        single(tools_enabled=MANY),
        single(tools_enabled=["calculator"] * 50_000),
        single(tools_enabled=["create_file", "read_file"] * 30_000),
    ],
    "RunSpec.strict": [swarm(strict=LONG), swarm(strict=True, **WIDE), swarm(strict=True, **{"é" * 400_000: 1})],
    "AgentRequest.agent_config": [(AGENT, {"task": "go", "agent_config": WIDE})],
    "AgentRequest.task": [single(task=LONG), single(task=WORDS), single(task="A" * 19_000_000)],
    "SwarmRequest.name": [swarm(name=LONG)],
    "SwarmRequest.description": [swarm(description=WORDS, stream=True)],
    "SwarmRequest.agents": [swarm(agents=named([NOTHING] * 10_000)), swarm(agents=WRONG), team(64, stream=True)],
    "SwarmRequest.swarm_type": [swarm(swarm_type=WORDS)],
    "SwarmRequest.rearrange_flow": [swarm(rearrange_flow="A->" * 300_000), swarm(rearrange_flow="A," * 450_000)],
    "SwarmRequest.task": [team(task=LONG), team(task="A" * 19_000_000)],
    "SwarmRequest.tasks": [swarm(task=None, tasks=MANY), swarm(tasks=WRONG), team(15, task=None, tasks=["a"] * 66)],
    "SwarmRequest.messages": [team(task=None, messages=[{"role": "user", "content": "a"}] * 13_000)],
    "SwarmRequest.max_loops": [swarm(max_loops=10**18), swarm(max_loops=200)],
    "SwarmRequest.rules": [team(rules=LONG), swarm(agents=handed_off(2), rules="r" * 500_000)],
    "SwarmRequest.service_tier": [swarm(service_tier=WORDS)],
    "SwarmRequest.return_history": [swarm(return_history=DEEP)],
    "AgentSpec.agent_name": [agent(agent_name=LONG)],
    "AgentSpec.description": [agent(handoffs=named([{"description": "d" * 29_000}] * 32))],
    "AgentSpec.system_prompt": [agent(system_prompt=LONG), agent(system_prompt=WORDS)],
    "AgentSpec.model_name": [agent(model_name=LONG)],
    "AgentSpec.role": [agent(role=LONG)],
    "AgentSpec.max_loops": [agent(max_loops=10**18), agent(max_loops=1_000_000), agent(max_loops="9" * 900_000)],
    "AgentSpec.max_tokens": [agent(max_tokens=2**64 - 1), agent(max_tokens=10**9)],
    "AgentSpec.temperature": [agent(temperature=1e308)],
    "AgentSpec.top_p": [agent(top_p="1" * 900_000)],
    "AgentSpec.llm_args": [agent(llm_args=WIDE), agent(llm_args={"logit_bias": WIDE}), agent(llm_args={"stop": DEEP})],
    "AgentSpec.reasoning_effort": [agent(reasoning_effort=LONG)],
    "AgentSpec.thinking_tokens": [agent(thinking_tokens=2**63)],
    "AgentSpec.streaming_on": [agent(streaming_on=WRONG)],
    "AgentSpec.timeout": [agent(timeout=1e308)],
    "AgentSpec.num_retries": [agent(num_retries=2**63)],
    "AgentSpec.fallbacks": [agent(fallbacks=MANY), agent(fallbacks=WRONG)],
    "AgentSpec.response_format": [
        agent(response_format={"type": "object", "allOf": [{}] * 60_000}),
        agent(response_format=ANCHORED),
        agent(response_format={"enum": list(range(30_000))}),
        swarm(agents=named([{"response_format": PATTERNS}] * 25)),
    ],
    "AgentSpec.tools_list_dictionary": [
        agent(tools_list_dictionary=[tool(ANCHORED)]),
        agent(tools_list_dictionary=[tool({"type": "object", "allOf": [{}] * 60_000})]),
        swarm(agents=named([{"tools_list_dictionary": [tool(POINTED)]}] * 4)),
        agent(tools_list_dictionary=WRONG),
        agent(tools_list_dictionary=[{}] * 60_000),
    ],
    "AgentSpec.tools_dictionary": [agent(tools_dictionary=[tool(ANCHORED)]), agent(tools_dictionary=WRONG)],
    "AgentSpec.selected_tools": [agent(selected_tools=MANY), agent(selected_tools=["calculator"] * 60_000)],
    "AgentSpec.mcp_url": [agent(mcp_url="https://" + LONG)],
    "AgentSpec.mcp_config": [agent(mcp_config=WIDE)],
    "AgentSpec.mcp_configs": [agent(mcp_configs=[{"url": "https://a.b/mcp"}] * 20_000), agent(mcp_configs=WRONG)],
    "AgentSpec.handoffs": [agent(handoffs=handed_off(2)), agent(handoffs=WRONG)],
    "McpConfig.url": [mcp(url="https://" + "a." * 450_000)],
    "McpConfig.transport": [mcp(transport=LONG)],
    "McpConfig.type": [mcp(type=LONG)],
    "McpConfig.authorization_token": [mcp(authorization_token=LONG)],
    "McpConfig.headers": [mcp(headers={f" {number}": number for number in range(45_000)}), mcp(headers={"a": LONG})],
    "McpConfig.timeout": [mcp(timeout=1e308)],
    "McpConfigs.connections": [agent(mcp_configs={"connections": [{}] * 60_000})],
    "Message.role": [message(role=LONG)],
    "Message.content": [
        message(content=LONG),
        message(content=[{"type": "text", "text": "a"}] * 13_000),
        team(task=None, messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 1000}] * 13),
    ],
    "Message.name": [message(name=LONG)],
    "Message.refusal": [message(refusal=LONG)],
    "Message.tool_calls": [
        message(role="assistant", tool_calls=[CALL] * 9_000),
        message(tool_calls=WRONG),
        team(task=None, messages=[{"role": "assistant", "tool_calls": [CALL] * 650}] * 11),
    ],
    "Message.tool_call_id": [message(role="tool", tool_call_id=LONG)],
    "TextPart.type": [part(type=LONG, text="a")],
    "TextPart.text": [part(type="text", text=LONG)],
    "ImagePart.type": [part(type=LONG, image_url="a")],
    "ImagePart.image_url": [
        swarm(task=None, messages=[{"role": "user", "content": [PICTURE | {"image_url": IMAGE}]}]),
        message(content=[PICTURE] * 11_000),
        team(task=None, messages=[{"role": "user", "content": [PICTURE] * 900}] * 12),
    ],
    "ImageUrl.url": [part(type="image_url", image_url={"url": "https://" + LONG})],
    "ImageUrl.detail": [part(type="image_url", image_url={"url": "https://x.y", "detail": LONG})],
    "AudioPart.type": [part(type=LONG, input_audio={"data": "a", "format": "b"})],
    "AudioPart.input_audio": [part(type="input_audio", input_audio=WIDE)],
    "InputAudio.data": [part(type="input_audio", input_audio={"data": LONG, "format": "wav"})],
    "InputAudio.format": [part(type="input_audio", input_audio={"data": "a", "format": LONG})],
    "RefusalPart.type": [part(type=LONG, refusal="a")],
    "RefusalPart.refusal": [message(role="assistant", content=[{"type": "refusal", "refusal": LONG}])],
    "FunctionCall.name": [
        message(role="assistant", tool_calls=[{**CALL, "function": {"name": LONG, "arguments": ""}}])
    ],
    "FunctionCall.arguments": [
        message(role="assistant", tool_calls=[{**CALL, "function": {"name": "f", "arguments": LONG}}])
    ],
    "ToolCall.id": [message(role="assistant", tool_calls=[{**CALL, "id": LONG}])],
    "ToolCall.type": [message(role="assistant", tool_calls=[{**CALL, "type": LONG}])],
    "ToolCall.function": [message(role="assistant", tool_calls=[{**CALL, "function": WIDE}])],
    "StreamOptions.include_output": [swarm(stream_options={"include_output": LONG})],
    "StreamOptions.coalesce_ms": [swarm(stream_options={"coalesce_ms": 2**63})],
    "StreamOptions.starting_after": [swarm(stream_options={"starting_after": 2**63})],
    "a field that nobody knows": [
        swarm(**{"u" * 900_000: 1}),
        swarm(**WIDE),
        swarm(agents=[{"agent_name": "A", **WIDE}]),
        swarm(**{f"{letter}" * 90 + str(number): 1 for letter in "xyz" for number in range(3000)}),
    ],
}


def models() -> Generator[type[Payload]]:
    """Yield all models of payloads and of their parts."""
    pending: list[type[Payload]] = [Payload]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__ in (AgentSpec.__module__, Message.__module__):
            yield kind


def test_every_field_of_every_payload_has_a_worst_case() -> None:
    assert {RunSpec, AgentSpec, Message} <= set(models())
    fields = {
        f"{model.__name__}.{name}" for model in models() for name in model.__annotations__ if name != "model_config"
    }
    assert fields == {name for name in WORST if "." in name}


@dataclass
class Health:
    """The longest answer of `/health` since the last reset, in seconds.

    `late` is by how much this process itself was woken too late meanwhile: what the machine, not the server, does.
    """

    url: str
    worst: float = 0.0
    late: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        ended = time.monotonic()
        while not self._stop.wait(0.005):
            began = time.monotonic()
            self.late = max(self.late, began - ended - 0.005)
            connection.request("GET", "/health")
            assert connection.getresponse().read()
            ended = time.monotonic()
            self.worst = max(self.worst, ended - began)
        connection.close()

    def reset(self) -> tuple[float, float]:
        found = self.worst, self.late
        self.worst = self.late = 0.0
        return found

    @contextmanager
    def watched(self) -> Generator[None]:
        thread = threading.Thread(target=self.watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def slowness() -> float:
    """Return how many times slower this machine is at present than the one that the bounds were set on; at least 1."""
    began = time.perf_counter()
    sum(number % 7 for number in range(500_000))
    return max(1.0, (time.perf_counter() - began) / LOOP_SECONDS)


def memory(pid: int, what: str) -> int:
    """`VmRSS`, or `VmHWM`, the most that it has been since `forget_peak`, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def post(url: str, path: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    connection.request("POST", path, body, {"x-api-key": KEY, "content-type": "application/json"})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@asynccontextmanager
async def sink() -> AsyncGenerator[str]:
    """Yield the base URL of a provider that reads everything, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.sink_provider", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        with anyio.fail_after(30):
            port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux tells it")
async def test_the_costliest_value_of_every_field_never_blocks_the_loop_and_takes_four_times_its_size(
    tmp_path: Path,
) -> None:
    aliases = tmp_path / "models.toml"
    async with sink() as base_url:
        aliases.write_text(f'["*"]\nmodel = "openai/local"\napi_base = "{base_url}"\n')
        environ = {
            "SWARMSTREAM_API_KEYS": KEY,
            "SWARMSTREAM_MODELS_FILE": str(aliases),
            "SWARMSTREAM_DATA_DIR": str(tmp_path / "data"),
            "SWARMSTREAM_MCP_ALLOWED_HOSTS": "127.0.0.1",
        }
        async with server_process(environ=environ) as server:
            pid, health = server.process.pid, Health(server.url)
            too_much: list[str] = []
            with health.watched():
                await to_thread.run_sync(post, server.url, AGENT, json.dumps(single()[1]).encode())
                health.reset()
                await anyio.sleep(0.5)
                idle, _ = health.reset()
                for name, path, payload in ((name, *each) for name, payloads in WORST.items() for each in payloads):
                    body = json.dumps(payload).encode()
                    for _ in range(TRIES):
                        before = memory(pid, "VmRSS")
                        forget_peak(pid)
                        health.reset()
                        status, answer = await to_thread.run_sync(post, server.url, path, body)
                        assert status < 500, (name, status, answer[:500])
                        (stall, late), grown = health.reset(), memory(pid, "VmHWM") - before
                        figures = f"{len(body):,} B, {status}, /health {stall * 1000:.0f} ms, +{grown / MIB:.0f} MiB"
                        print(f"{name}: {figures}")
                        is_quick = stall <= max(HEALTH_SECONDS * slowness(), 5 * idle, 5 * late)
                        if is_quick and grown <= 4 * len(body) + 50 * MIB:
                            break
                    else:
                        too_much.append(f"{name}: {figures}")  # pyright: ignore[reportPossiblyUnboundVariable]
            assert not too_much, "\n".join(too_much)
