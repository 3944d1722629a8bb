"""A run of many events, its frames, and a server that streams it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from swarmstream.llm.base import Finished, Reasoning, ToolCallDelta
from tests.clients.sse import Parser, ServerEvent
from tests.conftest import KEY, serving
from tests.fakes.scripted_model import ScriptedModel

SWARM = "/v1/swarm/completions"
NDJSON = {"Accept": "application/x-ndjson"}
RETRY = b"retry: 3000\n"
NAMES = "ABC"
ROUNDS = 48
"""Each agent speaks so often before it calls a tool, and so often after."""
MIDDLE = 2 + 3 + 3 + 3 * ROUNDS + 3 + 3 + 3
"""The event after which the story waits: two of the run's, and of each agent its start, thoughts, words and tool."""
EVENTS = MIDDLE + 3 * ROUNDS + 3 + 2
WORDS = ("word ", "ünï ", "🙂", "𝒜 ", 'a "quoted" \\ line\n', "\u2028")


def delta_text(number: int) -> str:
    return WORDS[number % len(WORDS)]


def _lines(name: str) -> list[Any]:
    call = ToolCallDelta(0, f"call-{name}", "calculator", '{"expression": "17 + 25"}')
    before, after = ([delta_text(number) for number in range(ROUNDS)] for _ in range(2))
    return [[Reasoning("hm 🤔"), *before, call, Finished("tool_calls")], [Reasoning("so"), *after]]


def story() -> ScriptedModel:
    """Three agents who think, speak in turns, call a tool and speak again; in the middle of it they wait for `skip`."""
    order = NAMES * ROUNDS + "|" + "".join(name * 3 for name in NAMES) * (ROUNDS // 3)
    return ScriptedModel({name: _lines(name) for name in NAMES}, order=order)


PAYLOAD: dict[str, Any] = {
    "task": "go",
    "swarm_type": "ConcurrentWorkflow",
    "stream": True,
    "agents": [
        {"agent_name": name, "model_name": f"demo/{name}", "selected_tools": ["calculator"], "max_loops": 3}
        for name in NAMES
    ],
}


def frames_of(body: bytes) -> list[bytes]:
    """A whole body's frames as they came, but for the line before the first."""
    assert body.startswith(RETRY)
    *frames, rest = body.removeprefix(RETRY).split(b"\n\n")
    assert rest == b""
    return [frame + b"\n\n" for frame in frames]


def id_of(frame: bytes) -> int:
    return int(frame.split(b"\n", 1)[0].removeprefix(b"id: "))


def events_in(body: bytes) -> list[ServerEvent]:
    return list(Parser().feed(body))


def after(frames: list[bytes], cut: int) -> bytes:
    """The body that whoever has the event `cut` is to get."""
    rest = b"".join(frame for frame in frames if id_of(frame) > cut)
    return RETRY + rest if rest else b""


@asynccontextmanager
async def crowd(url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client with as many connections as it likes."""
    async with httpx.AsyncClient(
        base_url=url, headers={"x-api-key": KEY}, timeout=20, limits=httpx.Limits(), trust_env=False, verify=False
    ) as http:
        yield http


@asynccontextmanager
async def telling(data_dir: Path | None, **settings: Any) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedModel]]:
    model = story()
    with anyio.fail_after(30):
        async with serving(models={"demo": model}, data_dir=data_dir, **settings) as url, crowd(url) as http:
            yield http, model
