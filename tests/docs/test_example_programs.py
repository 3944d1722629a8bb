"""The programs in scripts/examples do what their first lines say."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import connect

from tests.clients.process import openai_environ, server_process
from tests.conftest import KEY, client
from tests.fakes.upstream import Exchange, hello, provider

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
ANSWER = "This is swarmstream's built-in demo model"


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]


@dataclass
class Outputs:
    """The output of the examples, which have ended well, and the file that one of them writes."""

    log: Path
    texts: dict[str, str]


@pytest.fixture(scope="module")
async def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """All examples that end by themselves, run at once: each waits for its model most of the time."""
    ran = Outputs(tmp_path_factory.mktemp("examples") / "run.jsonl", {})
    environ = {**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"}

    async def run(name: str, *arguments: str | Path) -> None:
        ended = await anyio.run_process(command(name, "tea", *arguments), env=environ, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        ran.texts[name] = ended.stdout.decode()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "progress_bar", "--tokens", "1000")
            tasks.start_soon(run, "file_logging", ran.log)
            tasks.start_soon(run, "custom_panel")
            tasks.start_soon(run, "agent_panels")
    return ran


def test_each_example_is_run_here() -> None:
    run = {"websocket_bridge", "progress_bar", "file_logging", "custom_panel", "agent_panels", "resuming_client"}
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py"} == run
    assert {path.name for path in EXAMPLES.glob("*.html")} == {"resuming_page.html", "fetch_page.html"}
    assert all(os.access(path, os.X_OK) for path in EXAMPLES.glob("*.py"))


def test_the_progress_bar_is_full_at_the_end(outputs: Outputs) -> None:
    bar, answer = outputs.texts["progress_bar"].split("\n", 1)
    assert bar.startswith("tokens ")
    assert bar.split()[-2] == str(len(answer.split()))
    assert answer.startswith(ANSWER)


def test_every_event_is_logged(outputs: Outputs) -> None:
    events = [json.loads(line) for line in outputs.log.read_text().splitlines()]
    assert [event["type"] for event in events if event["type"] != "token"] == [
        *("metadata", "start", "agent_start", "agent_end", "agent_start", "agent_end", "usage", "end")
    ]
    spoken_text = "".join(
        event["token"] for event in events if event.get("agent") == "Writer" and event["type"] == "token"
    )
    assert f"Writer:\n{spoken_text}\n" in outputs.texts["file_logging"]
    assert all(event["at"].endswith("+00:00") for event in events)


def test_a_panel_of_ones_own_holds_the_whole_answer(outputs: Outputs) -> None:
    drawn = outputs.texts["custom_panel"]
    assert "─ done ─" in drawn
    assert ANSWER in drawn


def test_each_agent_has_a_panel(outputs: Outputs) -> None:
    drawn = outputs.texts["agent_panels"]
    for name in ("Optimist", "Pessimist", "Judge"):
        assert f" {name} ─" in drawn


async def test_a_websocket_gets_every_event_of_each_task() -> None:
    async with await anyio.open_process(command("websocket_bridge", "--port", "0")) as bridge:
        try:
            assert bridge.stdout
            with anyio.fail_after(30):
                url = (await bridge.stdout.receive()).decode().strip()
                async with connect(url) as websocket:
                    for task in ("tea", "coffee"):
                        await websocket.send(task)
                        events = [json.loads(await websocket.recv())]
                        while events[-1]["type"] != "end":
                            events.append(json.loads(await websocket.recv()))
                        spoken_text = "".join(event["token"] for event in events if event["type"] == "token")
                        assert f'The task is "{task}"' in spoken_text
                        assert events[-1]["status"] == "success"
        finally:
            bridge.terminate()


# --- Clients that lose nothing --------------------------------------------------------------------------------------

WORDS = 12
BROWSER = """
class Element {
  parts = [];
  append(...parts) { this.parts.push(...parts); }
  get textContent() { return this.parts.map((part) => part.textContent ?? part).join(""); }
  set textContent(text) { this.drawn = (this.drawn ?? "") + `<${text}>`; this.parts = [text]; }
}
globalThis.document = { title: "", body: new Element(), createElement: () => new Element() };
globalThis.location = { search: `?task=${process.env.TASK}&server=${process.env.URL}` };
globalThis.prompt = () => process.env.KEY;

// The WHATWG's, as far as a page needs it: it comes back by itself, and gives up at an answer that is no stream.
globalThis.EventSource = class EventSource extends EventTarget {
  static CLOSED = 2;
  readyState = 0;
  #last = "";
  #retry = 3000;
  constructor(url) { super(); this.url = url; this.#run(); }
  close() { this.readyState = 2; }
  async #run() {
    while (this.readyState !== 2) {
      try { await this.#connect(); } catch {}
      if (this.readyState === 2) break;
      this.#fail();
      await new Promise((wake) => setTimeout(wake, this.#retry / 100));
    }
  }
  #fail() { const event = new Event("error"); this.dispatchEvent(event); this.onerror?.(event); }
  async #connect() {
    const response = await fetch(this.url, { headers: this.#last ? { "Last-Event-ID": this.#last } : {} });
    if (response.status !== 200) {
      this.readyState = 2;
      await response.body?.cancel();
      return this.#fail();
    }
    let text = "", id = this.#last, name = "", data = [];
    const decoder = new TextDecoder();
    for await (const bytes of response.body) {
      const lines = (text + decoder.decode(bytes, { stream: true })).split("\\n");
      text = lines.pop();
      for (const line of lines) {
        const [, field, value] = line.match(/^([^:]*):? ?(.*)$/);
        if (line === "") {
          this.#last = id;
          const event = new Event(name);
          Object.assign(event, { data: data.join("\\n"), lastEventId: id });
          if (data.length && this.readyState !== 2) this.dispatchEvent(event);
          [name, data] = ["", []];
        } else if (field === "id") id = value;
        else if (field === "event") name = value;
        else if (field === "data") data.push(value);
        else if (field === "retry") this.#retry = Number(value);
      }
    }
  }
};
// A page's pauses are a tenth of what it says: they are not what is tried here. Node's own clocks stay.
const wait = globalThis.setTimeout;
globalThis.setTimeout = (then, pause, ...rest) => wait(then, pause > 20_000 ? pause : pause / 10, ...rest);
console.warn = () => {};
"""
"""As much of a browser as the pages need. A panel remembers all that it has shown."""

SEEN = """
while (!document.title) await new Promise((wake) => setTimeout(wake, 50));
const parts = document.body.parts.map((part) => part.textContent ?? part);
const drawn = document.body.parts.map((part) => part.drawn ?? "").join("");
console.log(JSON.stringify([document.title, parts, drawn]));
process.exit(0);
"""


@dataclass
class Cutter:
    """A proxy before a server that comes and goes: it hangs up after so many bytes of every answer."""

    bytes_a_connection: int
    target: str = ""
    url: str = ""
    cuts: int = 0
    passed: bytes = b""
    connections: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    _passed: anyio.Event = field(default_factory=anyio.Event)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.ensure_future(self.serve(reader, writer)))

    async def saw(self, *texts: str) -> None:
        """Wait until all of these have gone through."""
        while not all(text.encode() in self.passed for text in texts):
            await self._passed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(self.target.rpartition(":")[2])
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        asking = asyncio.ensure_future(self._forward(reader, to_server))
        left = self.bytes_a_connection
        try:
            while left and (content := await from_server.read(left)):
                writer.write(content)
                await writer.drain()
                left -= len(content)
                self.passed += content
                self._passed.set()
                self._passed = anyio.Event()
            self.cuts += left == 0
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            to_server.transport.abort()
            writer.close()

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            to_server.write(content)


@asynccontextmanager
async def cutter(bytes_a_connection: int) -> AsyncGenerator[Cutter]:
    proxy = Cutter(bytes_a_connection)
    async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as listening:
        port: int = listening.sockets[0].getsockname()[1]
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy
        for connection in proxy.connections:  # those that a client has kept open and not used again
            connection.cancel()
        await asyncio.wait(proxy.connections)


@dataclass
class Survivors:
    """The output of clients whose runs were cut all the time, and whose server was killed."""

    out: dict[str, str] = field(default_factory=dict[str, str])
    err: dict[str, str] = field(default_factory=dict[str, str])
    cuts: int = 0
    turns: int = 0


def page(name: str, folder: Path) -> list[str | Path]:
    """A command that runs a page's script."""
    [script] = re.findall(r'<script type="module">\n(.*)</script>', (EXAMPLES / name).read_text(), re.DOTALL)
    file = folder / f"{name}.mjs"
    file.write_text(BROWSER + script + SEEN)
    return ["node", file]


@pytest.fixture(scope="module")
async def survivors(tmp_path_factory: pytest.TempPathFactory) -> Survivors:
    """All clients at once, each with a run of its own. While the third agent of all runs speaks, the server dies."""
    folder = tmp_path_factory.mktemp("survivors")
    found, killed, ended = Survivors(), anyio.Event(), anyio.Semaphore(0)
    clients: dict[str, list[str | Path]] = {
        "python": [*command("resuming_client", "task-python.", "--key", KEY, "--pause", "0.02", "--url")]
    }
    if shutil.which("node"):
        clients |= {"eventsource": page("resuming_page.html", folder), "fetch": page("fetch_page.html", folder)}

    async def script(exchange: Exchange) -> None:
        asked = " ".join(str(message["content"]) for message in exchange.body["messages"])
        task = next((task for task in clients if f"task-{task}." in asked), "")
        if not task:
            await hello(exchange)
            return
        speaker = "judge" if "Pessimist: " in asked else "view"
        deltas = [f"{speaker}{number}-{task} " for number in range(WORDS)]
        await exchange.open()
        await exchange.say(*deltas[: WORDS // 2])
        if speaker == "judge":
            await killed.wait()
        await exchange.say(*deltas[WORDS // 2 :])
        await exchange.finish()

    async def run(name: str, line: list[str | Path], url: str) -> None:
        environ = {**os.environ, "TASK": f"task-{name}.", "KEY": KEY, "URL": url, "PYTHONWARNINGS": "error"}
        process = await anyio.run_process([*line, url] if name == "python" else line, env=environ, check=False)
        found.out[name], found.err[name] = process.stdout.decode(), process.stderr.decode()
        assert process.returncode == 0, found.err[name]
        ended.release()

    async with provider(script) as upstream, cutter(1500) as proxy, anyio.create_task_group() as tasks:
        environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(folder / "data"))
        with anyio.fail_after(40):
            async with server_process(environ=environ) as server:
                proxy.target = server.url
                for name, line in clients.items():
                    tasks.start_soon(run, name, line, proxy.url)
                await proxy.saw(*(f"judge{WORDS // 2 - 1}-{name} " for name in clients))
                async with client(server.url) as http:  # once the end of this is written, all before it is
                    await http.post("/v1/agent/completions", json={"agent_config": {"agent_name": "A"}, "task": "go"})
                server.process.kill()
                await server.stopped(30)
            killed.set()
            async with server_process(environ=environ) as server:
                proxy.target = server.url
                for _ in clients:
                    await ended.acquire()
        found.turns, found.cuts = len(upstream.exchanges) - 1, proxy.cuts
    return found


def spoken_text(speaker: str, task: str) -> str:
    return "".join(f"{speaker}{number}-{task} " for number in range(WORDS))


def test_the_python_client_prints_every_chunk_once_through_every_break(survivors: Survivors) -> None:
    out, err = survivors.out["python"], survivors.err["python"]
    panels = dict(panel.split(":\n") for panel in out.split("\n\n")[:-1])
    assert panels == {
        "Optimist": spoken_text("view", "python"),
        "Pessimist": spoken_text("view", "python"),
        "Judge": spoken_text("judge", "python"),
    }
    assert out.endswith("\n\nsuccess\n")
    assert err.count("(cut off after event ") >= 2
    assert "(Judge begins again)" in err


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
@pytest.mark.parametrize("name", ["eventsource", "fetch"])
def test_the_pages_show_every_chunk_once_through_every_break(survivors: Survivors, name: str) -> None:
    title, parts, drawn = json.loads(survivors.out[name])
    assert title == "success"
    shown = dict(zip(parts[::2], parts[1::2], strict=True))
    assert shown == {
        "Optimist:\n": spoken_text("view", name),
        "Pessimist:\n": spoken_text("view", name),
        "Judge:\n": spoken_text("judge", name),
    }
    half = "".join(f"judge{number}-{name} " for number in range(WORDS // 2 - 1))
    assert f"<{half}" in drawn.rpartition("<>")[0], "the crashed turn had been shown, and was taken back"


def test_their_runs_were_cut_off_and_begun_once(survivors: Survivors) -> None:
    clients = len(survivors.out)
    assert survivors.cuts >= 4 * clients
    assert survivors.turns == clients * 4, "two views, and the judge twice"
