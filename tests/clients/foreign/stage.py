"""Where foreign clients are tried: a server, a provider that tells a story, a proxy that cuts connections."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import anyio
from anyio import from_thread

from tests.clients.process import openai_environ, server_process
from tests.conftest import KEY
from tests.fakes.upstream import Exchange, Upstream, provider, reset

NAMES = ("Optimist", "Pessimist", "Judge")
WORDS = tuple(f"{number} ünï 🙂 \u2028" if number % 4 == 0 else f"{number} " for number in range(20))
TEXT = "".join(WORDS)
EVENTS = 2 + len(NAMES) * (1 + len(WORDS) + 1) + 2
"""Of one telling: two at the start, each turn's start, words and end, usage and end."""

WAIT_SECONDS = 60.0
"""For anything that a client does, on a slow machine."""


def between_frames(event_id: int) -> re.Pattern[bytes]:
    """A cut right behind an event."""
    return re.compile(rb"\nid: %d\n.*?\n\n" % event_id, re.DOTALL)


def inside_a_frame(event_id: int) -> re.Pattern[bytes]:
    """A cut right behind an event's number, before what happened."""
    return re.compile(rb"\nid: %d\n" % event_id)


AT_THE_END = re.compile(rb"\nevent: end\n.*?\n\n", re.DOTALL)
"""A cut behind the last event, before the body is over."""


def payload(task: str, **fields: Any) -> dict[str, Any]:
    """Two agents who speak at once, and a third one who has read them."""
    return {
        "task": task,
        "rearrange_flow": "Optimist, Pessimist -> Judge",
        "agents": [{"agent_name": name, "system_prompt": name} for name in NAMES],
        "stream": True,
        "stream_options": {"include_output": False},
        **fields,
    }


@dataclass(frozen=True)
class Row:
    """What came of one thing that a client was asked to do."""

    client: str
    what: str
    verdict: Literal["ok", "FAILED", "later"]
    """`later`: this server does not have it yet, and says so."""
    detail: str = ""


@dataclass
class Report:
    """What came of all that one client was asked to do."""

    client: str
    rows: list[Row] = field(default_factory=list[Row])

    @contextmanager
    def trying(self, what: str) -> Generator[None]:
        """An exception in the block is the finding."""
        try:
            yield
        except Exception as error:
            self.rows.append(Row(self.client, what, "FAILED", f"{type(error).__name__}: {error}"[:2000]))
        else:
            self.rows.append(Row(self.client, what, "ok"))

    def missing(self, what: str, call: Callable[[], object], error: type[Exception]) -> None:
        """A call that is refused until this server has the route."""
        try:
            call()
        except error:
            self.rows.append(Row(self.client, what, "later"))
        except Exception as other:
            self.rows.append(Row(self.client, what, "FAILED", f"{type(other).__name__}: {other}"[:2000]))
        else:
            self.rows.append(Row(self.client, what, "ok"))


@dataclass
class ReceivedEvents:
    """What a client has heard of a story."""

    ids: list[int] = field(default_factory=list[int])
    names: list[str] = field(default_factory=list[str])
    texts: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, event_id: str | int | None, name: str | None, data: dict[str, Any]) -> None:
        self.ids.append(int(event_id or 0))
        self.names.append(name or "")
        if name == "chunk":
            self.texts[data["agent"]] = self.texts.get(data["agent"], "") + data["content"]

    @property
    def is_over(self) -> bool:
        return "end" in self.names

    @property
    def last(self) -> str:
        return str(self.ids[-1])

    def check(self) -> None:
        """The whole story, and nothing twice."""
        assert self.ids == list(range(1, EVENTS + 1)), f"ids {self.ids}"
        assert self.texts == dict.fromkeys(NAMES, TEXT), self.texts
        assert self.names[-1] == "end"


class Proxy:
    """Stands before the server and hangs up in the middle of streams, once at each of `cuts`; then it lets all pass.

    Its story waits in the middle of the last turn until `is_enough`: by default until the stream behind the last cut
    has begun, so that whoever comes back finds the run still speaking.
    """

    def __init__(
        self,
        target: str,
        cuts: Sequence[re.Pattern[bytes]],
        is_enough: "Callable[[Proxy], bool] | None",
        *,
        resets: bool,
    ) -> None:
        self._port = int(target.rpartition(":")[2])
        self._cuts = list(cuts)
        self._resets = resets
        self._is_enough = is_enough or partial(Proxy._is_behind, cuts=len(cuts))
        self._connections = set[asyncio.Task[None]]()
        self.url = ""
        self.streams = 0
        """How many have begun here."""
        self.posts = 0
        self.go_on = anyio.Event()
        self._look()

    def _is_behind(self, *, cuts: int) -> bool:
        return self.streams > cuts

    def _look(self) -> None:
        if self._is_enough(self):
            self.go_on.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def close(self) -> None:
        """Hang up on those who have kept a connection and not used it again."""
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.ensure_future(self._forward(reader, to_server))
        answering = asyncio.ensure_future(self._answer(from_server, writer))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.wait((asking, answering))
            to_server.transport.abort()
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            self.posts += content.startswith(b"POST ")
            self._look()
            to_server.write(content)

    async def _answer(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = b""
        while content := await from_server.read(65536):
            begun = len(passed)
            passed += content
            self.streams += b"text/event-stream" in content
            self._look()
            found = self._cuts[0].search(passed) if self._cuts else None
            writer.write(content if found is None else passed[begun : found.end()])
            await writer.drain()
            if found is not None:
                self._cuts.pop(0)
                if self._resets:
                    reset(writer)
                return


@dataclass
class Stage:
    """A running server, and what its provider was asked."""

    url: str
    upstream: Upstream
    gates: dict[str, anyio.Event]
    key: str = KEY

    @contextmanager
    def cutting(
        self,
        task: str,
        *cuts: re.Pattern[bytes],
        is_enough: Callable[[Proxy], bool] | None = None,
        resets: bool = False,
    ) -> Generator[str]:
        """The URL of a proxy for the story of this task; to be used in a worker thread."""
        context = self.proxied(task, *cuts, is_enough=is_enough, resets=resets)
        url = from_thread.run(context.__aenter__)
        try:
            yield url
        finally:
            from_thread.run(context.__aexit__, None, None, None)

    @asynccontextmanager
    async def proxied(
        self,
        task: str,
        *cuts: re.Pattern[bytes],
        is_enough: Callable[[Proxy], bool] | None = None,
        resets: bool = False,
    ) -> AsyncGenerator[str]:
        """As `cutting`, for a client in a process."""
        proxy = Proxy(self.url, cuts, is_enough, resets=resets)
        self.gates[task] = proxy.go_on
        async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as listening:
            port: int = listening.sockets[0].getsockname()[1]
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                await proxy.close()

    def check_calls(self, task: str, calls: int = len(NAMES)) -> None:
        """The provider was paid for one run."""
        made = sum(task in _asked(exchange) for exchange in self.upstream.exchanges)
        assert made == calls, f"{made} model calls instead of {calls}"


def _asked(exchange: Exchange) -> str:
    return " ".join(str(message["content"]) for message in exchange.body["messages"])


@asynccontextmanager
async def stage() -> AsyncGenerator[Stage]:
    """A server in a process of its own, and its provider, for the length of the block."""
    gates: dict[str, anyio.Event] = {}

    async def stream_story(exchange: Exchange) -> None:
        gate = next((gate for task, gate in gates.items() if task in _asked(exchange)), None)
        half = len(WORDS) // 2
        await exchange.open()
        await exchange.say(*WORDS[:half])
        if gate is not None and exchange.system == NAMES[-1]:
            await gate.wait()
        await exchange.say(*WORDS[half:])
        await exchange.finish()

    async with provider(stream_story) as upstream, server_process(environ=openai_environ(upstream)) as server:
        yield Stage(server.url, upstream, gates)
