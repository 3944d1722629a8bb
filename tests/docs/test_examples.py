"""The examples of README and docs/ run as they stand, and do what the text around them says."""

import asyncio
import json
import os
import re
import shlex
import shutil
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.llm.aliases import read_aliases
from swarmstream.llm.providers.demo.model import DemoModel
from swarmstream.settings import ENV_PREFIX, Settings
from tests.clients.sse import Parser, ServerEvent, check_stream
from tests.conftest import KEY, client, serving
from tests.docs.pages import EVERYTHING, PAGES, ROOT, blocks, quoted
from tests.fakes.upstream import Upstream, hello, provider

pytestmark = pytest.mark.anyio

DEV_URL = "http://127.0.0.1:8000"
DEMO: dict[str, Any] = {"default_model": "demo/swarm"}
NOTHING: dict[str, Any] = {}
AGENT = {"agent_name": "A"}

BROWSER = """
class Element {
  parts = [];
  append(...parts) { this.parts.push(...parts); }
  get text() { return this.parts.map((part) => part.text ?? part).join(""); }
}
globalThis.document = { body: new Element(), createElement: () => new Element() };
globalThis.prompt = () => process.env.KEY;
"""
"""As much of a browser as the page needs."""

BYTEWISE = """
const bytes = Array.from(new TextEncoder().encode(process.argv[2]), (byte) => Uint8Array.of(byte));
for await (const event of events(ReadableStream.from(bytes))) console.log(JSON.stringify(event));
"""
"""Prints the events that the page's parser finds in a body that comes byte by byte."""

SEEN = "console.log(JSON.stringify([document.title, ...document.body.parts.map((part) => part.text ?? part)]));"


def events_in(text: str) -> list[ServerEvent]:
    return list(Parser().feed(text.encode()))


@asynccontextmanager
async def quick_demo(**settings: Any) -> AsyncGenerator[str]:
    """The URL of a server with the demo model, which sends as fast as it can."""
    models = {"demo": DemoModel(first_token_seconds=0, token_seconds=0)}
    async with serving(models=models, **DEMO, **settings) as url:
        yield url


async def run(*command: str, url: str, code: int = 0) -> tuple[str, str]:
    """Run an example with URL and KEY as the pages have them; return its two outputs."""
    environ = {"PATH": os.environ["PATH"], "URL": url, "KEY": KEY, "PYTHONIOENCODING": "utf-8"}
    with anyio.fail_after(30):
        ended = await anyio.run_process(command, env=environ, check=False)
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert ended.returncode == code, err
    return out, err


BEGUN = ': ping\nid: 1\nevent: agent_start\ndata: {"agent":"A","turn":1}\n\n'
SPOKEN = ': ping\n: ping\nid: 2\nevent: chunk\ndata: {"agent":"A","turn":1,"content":"a: b\\n"}\n\n'
ENDED = 'id: 3\nevent: end\ndata: {"status":"success","execution_time":1.5}\n\n'


@asynccontextmanager
async def answering(*frames: str, cut: bool = False) -> AsyncGenerator[str]:
    """The URL of something that answers every request with these frames, and then closes or is `cut` off."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length
        await reader.readexactly(int(length[1]))
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
            + "".join(frames).encode()
        )
        await writer.drain()
        if cut:
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


# --- Examples -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash is not installed")
async def test_the_curl_line_streams_three_agents_as_the_excerpt_shows() -> None:
    [command] = [block for block in blocks("README", "bash") if block.startswith("curl ")]
    async with quick_demo() as url:
        out, _ = await run("bash", "-c", command, url=url)
    events = events_in(out)
    check_stream(events)
    answers = events[-1].data["output"]
    assert [answer["role"] for answer in answers] == ["Optimist", "Pessimist", "Summary"]
    assert "that Pessimist wrote before me" in answers[-1]["content"]

    def essence(event: ServerEvent) -> tuple[object, str, dict[str, Any]]:
        return event.id, event.event, {**event.data, "t": 0}

    [excerpt] = blocks("README", "text")
    shown = [essence(event) for event in events_in(excerpt + "\n")]
    assert len(shown) == excerpt.count("id: ") >= 2
    assert all(event in [essence(event) for event in events] for event in shown)


async def test_the_curl_line_of_tools_shows_the_call_and_its_answer() -> None:
    [command] = [block for block in blocks("tools", "bash") if block.startswith("curl ")]
    async with quick_demo() as url:
        out, _ = await run("bash", "-c", command, url=url)
    events = events_in(out)
    assert [event.event for event in events][-2:] == ["usage", "end"]
    [started, ended] = [event.data for event in events if event.event.startswith("tool_")]
    assert (started["tool"], started["arguments"]) == ("calculator", {"expression": "17 + 25"})
    assert (ended["output"], ended["is_error"]) == ("42", False)
    assert "The calculator says 42." in events[-1].data["outputs"][0]["content"]


async def test_the_library_example_prints_each_agents_text() -> None:
    [example] = blocks("library", "python")
    out, _ = await run(sys.executable, "-c", example, url="")
    found = re.fullmatch(r"\n\nCalculator:\n(.*)\n\nWriter:\n(.*)", out)
    assert found, out
    assert "words that Calculator wrote before me" in found[2]


async def test_the_ten_lines_of_the_readme_print_two_agents_at_once_and_then_a_third() -> None:
    [example] = blocks("README", "python")
    assert len([line for line in example.splitlines() if line]) <= 10
    out, _ = await run(sys.executable, "-c", example, url="")
    speakers = [line.partition(": ")[0] for line in out.splitlines() if line]
    at_once, last = speakers[: speakers.index("Summary")], speakers[speakers.index("Summary") :]
    assert at_once[:4].count("Optimist") == at_once[:4].count("Pessimist") == 2
    assert set(last) == {"Summary"}


async def test_the_commands_of_the_terminal_run_as_they_stand() -> None:
    [block] = [block for block in blocks("terminal", "bash") if ".venv/bin/swarmstream run" in block]
    outputs: list[str] = []
    for command in block.splitlines():
        program, *arguments = shlex.split(command)
        swarmstream = Path(sys.executable).with_name(Path(program).name)
        with anyio.fail_after(60):
            ended = await anyio.run_process([swarmstream, *arguments], cwd=ROOT, env={"PATH": "/usr/bin:/bin"})
        outputs.append(ended.stdout.decode())
    agent, team = outputs
    assert '"Why do cats purr?"' in agent
    assert all(name in team for name in ("Optimist: ", "Pessimist: ", "--- Summary ---"))


async def test_the_function_of_the_example_is_a_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = blocks("tools", "python")
    (tmp_path / "orders_of_docs.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    async with quick_demo(tools=("orders_of_docs:find_orders",)) as url, client(url) as http:
        listed = (await http.get("/v1/tools/available")).json()
    assert listed["tools"] == ["calculator", "clock", "find_orders", "query_json"]
    [own] = [tool for tool in listed["details"] if tool["name"] == "find_orders"]
    assert own["description"] == "Find the orders of a customer."
    assert own["parameters"]["properties"] == {"customer": {"type": "string", "description": "Name or number."}}


async def test_the_python_example_prints_each_agents_text() -> None:
    [example] = blocks("streaming", "python")
    async with quick_demo() as url:
        out, _ = await run(sys.executable, "-c", example, url=url)
    found = re.fullmatch(r"\n\nResearcher:\n(.*)\n\nWriter:\n(.*)\n\nsuccess after .* s\n", out)
    assert found, out
    assert '"Why do cats purr?"' in found[1]
    assert "words that Researcher wrote before me" in found[2]


async def test_the_python_example_shows_the_refusal() -> None:
    [example] = blocks("streaming", "python")
    async with serving() as url:
        _, err = await run(sys.executable, "-c", example, url=url, code=1)
    assert err.startswith('this server has no credentials for the model "gpt-6-luna" of openai: set OPENAI_API_KEY')


async def test_the_python_example_bears_heartbeats_and_notices_a_stream_without_end() -> None:
    [example] = blocks("streaming", "python")
    async with answering(BEGUN, SPOKEN, ENDED) as url:
        out, _ = await run(sys.executable, "-c", example, url=url)
    assert out == "\n\nA:\na: b\n\n\nsuccess after 1.5 s\n"
    for cut in (False, True):
        async with answering(BEGUN, SPOKEN, cut=cut) as url:
            _, err = await run(sys.executable, "-c", example, url=url, code=1)
        assert err.startswith("the stream broke off before its end: ")


def _script() -> str:
    """The script of the page."""
    [page] = blocks("browser", "html")
    [script] = re.findall(r'<script type="module">\n(.*)</script>', page, re.DOTALL)
    return script


async def _page(url: str, tmp_path: Path) -> list[str]:
    """The title of the page, and its panels, after its script has run."""
    script = _script()
    assert script.count(DEV_URL) == 1
    file = tmp_path / "page.mjs"
    file.write_text(BROWSER + script.replace(DEV_URL, url) + SEEN)
    out, _ = await run("node", str(file), url=url)
    return json.loads(out)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
async def test_the_browser_example_fills_a_panel_for_each_agent(tmp_path: Path) -> None:
    async with quick_demo() as url:
        title, *panels = await _page(url, tmp_path)
    assert title == "success"
    assert [panel.split("\n")[0] for panel in panels] == ["Optimist", "Pessimist", "Summary"]
    assert all('The task is "AI in healthcare"' in panel for panel in panels)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
async def test_the_browser_example_shows_the_refusal(tmp_path: Path) -> None:
    async with serving() as url:
        title, shown = await _page(url, tmp_path)
    assert title == "refused"
    assert shown.startswith("this server has no credentials for the model")


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
async def test_the_browser_example_bears_heartbeats_and_notices_a_stream_without_end(tmp_path: Path) -> None:
    async with answering(BEGUN, SPOKEN, ENDED) as url:
        assert await _page(url, tmp_path) == ["success", "A\na: b\n"]
    async with answering(BEGUN, SPOKEN) as url:
        assert await _page(url, tmp_path) == ["the stream broke off before its end", "A\na: b\n"]


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
async def test_the_browser_example_reads_frames_however_they_are_cut(tmp_path: Path) -> None:
    [parser] = re.findall(r"^async function\* events.*?^}\n", _script(), re.DOTALL | re.MULTILINE)
    file = tmp_path / "parser.mjs"
    file.write_text(parser + BYTEWISE)
    out, _ = await run("node", str(file), "".join((BEGUN, SPOKEN, ENDED)), url="")
    seen = [json.loads(line) for line in out.splitlines()]
    assert [event for event, _ in seen] == ["agent_start", "chunk", "end"]
    assert seen[1][1] == {"agent": "A", "turn": 1, "content": "a: b\n"}


def environments() -> Iterator[dict[str, str]]:
    """The variables that the pages set for a command, a mapping for each command."""
    for line in [*"".join("".join(blocks(page, "bash")) for page in PAGES).splitlines(), *quoted(EVERYTHING)]:
        if re.match("[A-Z_]+=", line):
            yield dict(assignment.split("=", 1) for assignment in shlex.split(line) if re.match("[A-Z_]+=", assignment))


async def test_the_example_page_and_pages_of_the_listed_origin_may_call() -> None:
    [listed] = [environ[name] for environ in environments() for name in environ if name.endswith("CORS_ORIGINS")]
    [port] = re.findall(r"^python3 -m http\.server (\d+)$", PAGES["browser"], re.MULTILINE)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}

    async def allowed(http: httpx.AsyncClient) -> list[str]:
        pages = (f"http://localhost:{port}", f"http://127.0.0.1:{port}", listed, "http://example.com")
        answers = [await http.options("/v1/swarm/completions", headers={**preflight, "Origin": page}) for page in pages]
        return [page for page, answer in zip(pages, answers, strict=True) if answer.status_code == 200]

    async with serving(dev=True) as url, client(url, key=None) as http:
        assert await allowed(http) == [f"http://localhost:{port}", f"http://127.0.0.1:{port}"]
    async with serving(cors_origins=(listed,)) as url, client(url, key=None) as http:
        assert await allowed(http) == [listed]


def test_the_settings_in_commands_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [
        {name: value for name, value in environ.items() if name.startswith(ENV_PREFIX)} for environ in environments()
    ]
    assert sum(len(environ) for environ in ours) >= 4
    for environ in ours:
        with monkeypatch.context() as context:
            for name, value in environ.items():
                context.setenv(name, value)
            documented = {f"{ENV_PREFIX}{name.upper()}" for name in Settings(**NOTHING).model_fields_set}
        assert environ.keys() <= documented


# --- Models ---------------------------------------------------------------------------------------------------------


async def _asked(upstream: Upstream, url: str, model: str) -> tuple[str, str, dict[str, Any]]:
    """Ask for a model; return its name and the credentials that the provider gets, and the usage."""
    payload: dict[str, Any] = {"task": "go", "agents": [{**AGENT, "model_name": model}]}
    async with client(url) as http:
        answer = await http.post("/v1/swarm/completions", json=payload)
    assert answer.status_code == 200, answer.text
    exchange = upstream.exchanges[-1]
    return exchange.body["model"], exchange.headers.get("authorization", ""), answer.json()["usage"]


async def test_the_alias_file_sends_a_key_only_to_its_address(tmp_path: Path) -> None:
    [example] = blocks("models", "toml")
    aliases = tmp_path / "models.toml"
    aliases.write_text(example)
    read = read_aliases(aliases)
    assert list(read) == ["gpt-6-luna", "claude-*"]
    environ = {"OPENAI_API_KEY": "sk-openai", "MY_LLM_KEY": "sk-mine"}
    async with provider(hello) as upstream:
        for alias in read.values():
            assert alias.api_base
            aliases.write_text(aliases.read_text().replace(alias.api_base, upstream.base_url))
        async with serving(models_file=aliases, environ=environ) as url:
            plain = await _asked(upstream, url, "gpt-6-luna")
            keyed = await _asked(upstream, url, "claude-sonnet-5-5")
    assert plain[0] == keyed[0] == "my-model"
    assert "sk-" not in plain[1]
    assert keyed[1] == "Bearer sk-mine"
    assert plain[2]["priced"] is False
    assert keyed[2]["priced"] is True
    usage = keyed[2]
    assert usage["billing_info"]["total_cost"] == pytest.approx(
        (usage["input_tokens"] * 0.5 + usage["output_tokens"] * 1.5) / 1e6
    )


async def test_one_variable_serves_everything_from_ones_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    [environ] = [environ for environ in environments() if "HOSTED_VLLM_API_BASE" in environ]
    aliases = json.loads(environ["SWARMSTREAM_MODEL_ALIASES"])
    async with provider(hello) as upstream:
        # litellm reads such variables from the process's environment itself.
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", upstream.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
        async with serving(model_aliases=aliases, environ=os.environ) as url:
            model, credentials, _ = await _asked(upstream, url, "gpt-6-luna")
    assert model == "my-model"
    assert "sk-" not in credentials
