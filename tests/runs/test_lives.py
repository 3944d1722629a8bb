"""Processes that die one after another over the same runs: what a reader was shown is never taken back."""

import os
import random
import resource
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, events_of
from tests.conftest import client
from tests.fakes.upstream import Exchange, provider

pytestmark = pytest.mark.anyio

LIVES = int(os.environ.get("LIVES", "4"))
"""For each way to die; LIVES=70 makes it a campaign."""
RUNS_AT_ONCE = 4
WORDS = 12
SWARM = "/v1/swarm/completions"
KEPT = {"agent_end", "error", "usage", "end"}
"""What readers act upon: once shown it is there for good."""


@dataclass
class Story:
    """A run as its reader has it: all that it was shown, over all processes."""

    name: str
    mode: str
    born: int
    """In which life it was posted."""
    shown: dict[int, ServerEvent] = field(default_factory=dict[int, ServerEvent])
    last: int = 0
    ends: int = 0

    def show(self, event: ServerEvent) -> None:
        """The reader is shown an event.

        Raises:
            AssertionError: its id meant another event before, or it comes out of order.
        """
        assert event.id is not None
        known = self.shown.setdefault(event.id, event)
        assert known == event, f"{self.name}: {event.id} meant {known}, now it means {event}"
        assert event.id > self.last, "ids ascend"
        self.last = event.id
        self.ends += event.event == "end"

    @property
    def has_ended(self) -> bool:
        return self.ends > 0

    def texts(self) -> dict[int, str]:
        """Each turn's text, put together as the contract says."""
        pieces: dict[int, list[tuple[int, str]]] = {}
        for number, event in sorted(self.shown.items()):
            turn = event.data.get("turn", 0)
            if event.event == "agent_start":
                pieces[turn] = []
            elif event.event == "chunk":
                pieces[turn].append((number, event.data["content"]))
            elif event.event == "turn_restart":
                pieces[turn] = [piece for piece in pieces[turn] if piece[0] < event.data["discard_from"]]
        return {turn: "".join(text for _, text in each) for turn, each in pieces.items()}


class Scene:
    """A provider whose every answer differs, a server that dies, and a reader on every run."""

    def __init__(self, data: Path, seed: int, *, breaks_disk: bool, puts_back: bool) -> None:
        self.stories: dict[str, Story] = {}
        self.asked: dict[str, int] = {}
        self.life = 0
        self._data = data
        self.moments = random.Random(seed)
        self.breaks_disk = breaks_disk
        self._posted = 0
        self._puts_back = puts_back
        self._copy: tuple[Path, int] | None = None
        self._answers = 0

    async def answer(self, exchange: Exchange) -> None:
        self._answers += 1
        number = self._answers
        self.asked[exchange.system] = self.asked.get(exchange.system, 0) + 1
        await exchange.open()
        await exchange.say(*(f"#{number}.{part} " for part in range(WORDS)))
        await exchange.finish()

    async def live(self, environ: dict[str, str], *, is_last: bool) -> None:
        """One process, until it is killed, or until all runs have ended."""
        self._go_back_in_time()
        self.life += 1
        async with server_process(environ=environ) as server, client(server.url) as http:
            life = Life(self, server, http)
            if not is_last:
                life.plan_its_end(self.moments, breaks_disk=self.breaks_disk)
            await life.live()
            if is_last:
                for path, story in self.stories.items():
                    await self._check(http, path, story)

    def new_story(self) -> Story:
        """A run that is about to be posted."""
        self._posted += 1
        return Story(f"r{self._posted}", self.moments.choice(["continue", "continue", "cancel"]), self.life)

    def _go_back_in_time(self) -> None:
        """Keep a copy of the directory, or put it back: what a restored backup or a lost disk cache does."""
        if not self._puts_back or not self._data.exists():
            return
        if self._copy is None:
            folder = self._data.with_name("copy")
            shutil.copytree(self._data, folder)
            self._copy = folder, self.life
        elif self.life - self._copy[1] >= 2:
            folder, born = self._copy
            shutil.rmtree(self._data)
            folder.rename(self._data)
            self._copy = None
            for path, story in list(self.stories.items()):
                if story.born > born:
                    del self.stories[path]  # the directory does not know of it
                else:
                    story.ends = 0

    async def _check(self, http: httpx.AsyncClient, path: str, story: Story) -> None:
        """The run as the journal has it now, against what its reader was shown."""
        async with http.stream("GET", path) as response:
            assert response.status_code == 200, story
            whole = [event async for event in events_of(response)]
        assert [event.event for event in whole].count("end") == 1
        assert whole[-1].event == "end"
        kept = {event.id: event for event in whole}
        for number, event in story.shown.items():
            assert kept.get(number, event) == event
            if not self._puts_back:
                assert event.event not in KEPT or number in kept, f"{event.event} was shown and is gone"
        status = whole[-1].data["status"]
        if self._puts_back:
            return  # calls were forgotten with the directory
        if status == "success":
            texts = story.texts()
            assert {end.data["turn"]: end.data["output"] for end in whole if end.event == "agent_end"} == texts
        elif story.mode == "cancel":
            assert status in ("interrupted", "failed")
        else:
            assert status == "failed", status
            assert self.breaks_disk
        restarts: dict[str, int] = {}
        for event in whole:
            if event.event == "turn_restart":
                restarts[event.data["agent"]] = restarts.get(event.data["agent"], 0) + 1
        for agent in "ABC":
            asked = self.asked.get(f"{story.name}/{agent}", 0)
            ended = [
                event for event in story.shown.values() if event.event == "agent_end" and event.data["agent"] == agent
            ]
            assert len(ended) <= 1, "a turn that was seen to end is not taken again"
            assert asked <= 1 + restarts.get(agent, 0) + self.life * self.breaks_disk


class Life:
    """One process, and the readers that it has."""

    def __init__(self, scene: Scene, server: ServerProcess, http: httpx.AsyncClient) -> None:
        self._scene = scene
        self._server = server
        self._http = http
        self._is_doomed = anyio.Event()
        self._is_broken = False
        self._is_mortal = False
        self._breaks_in = self._dies_in = -1
        """After so many events."""
        self._readers = 0

    def plan_its_end(self, moments: random.Random, *, breaks_disk: bool) -> None:
        """Let it die after some events, and its disk be full before, perhaps."""
        self._is_mortal = True
        self._dies_in = moments.choice([1, moments.randrange(2, 30), moments.randrange(30, 200)])
        if breaks_disk and moments.random() < 0.6:
            self._breaks_in = moments.randrange(0, self._dies_in + 1)

    async def live(self) -> None:
        """Until it has died, or all runs have ended."""
        stories = self._scene.stories
        async with anyio.create_task_group() as tasks:
            if self._is_mortal:
                tasks.start_soon(self._die)
            going_on = [path for path, story in stories.items() if not story.has_ended]
            new = RUNS_AT_ONCE - len(going_on) if self._is_mortal else 0
            self._readers = len(going_on) + max(0, new)
            for path in going_on:
                tasks.start_soon(self._follow, path)
            for _ in range(new):
                tasks.start_soon(self._post)

    async def _die(self) -> None:
        await self._is_doomed.wait()
        self._server.process.kill()
        await self._server.process.wait()

    async def _follow(self, path: str) -> None:
        story = self._scene.stories[path]
        async with (
            self._reading(),
            self._http.stream("GET", path, headers={"Last-Event-ID": str(story.last)}) as answer,
        ):
            if answer.status_code == 204:
                story.ends = 1
                return
            assert answer.status_code == 200, (story, await answer.aread())
            await self._read(story, answer)

    async def _post(self) -> None:
        story = self._scene.new_story()
        payload = team(story.name, on_disconnect=story.mode)
        async with self._reading(), self._http.stream("POST", SWARM, json=payload) as answer:
            if answer.status_code != 200:
                assert self._is_broken, await answer.aread()
                return
            self._scene.stories[answer.headers["location"]] = story
            await self._read(story, answer)

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[None]:
        """One reader; when the last one has read all, or one is let go of because of the disk, the process dies."""
        try:
            yield
        except httpx.TransportError:
            assert self._is_doomed.is_set() or self._is_broken, "nobody is let go of without a reason"
            self._is_doomed.set()
        self._readers -= 1
        if self._readers == 0:
            self._is_doomed.set()

    async def _read(self, story: Story, answer: httpx.Response) -> None:
        async for event in events_of(answer):
            story.show(event)
            self._dies_in -= 1
            self._breaks_in -= 1
            if self._is_mortal and self._breaks_in == 0:
                resource.prlimit(self._server.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
                self._is_broken = True
            if self._is_mortal and self._dies_in <= 0:
                self._is_doomed.set()


def team(name: str, **fields: Any) -> dict[str, Any]:
    agents = [{"agent_name": agent, "system_prompt": f"{name}/{agent}", "num_retries": 0} for agent in "ABC"]
    return {
        "task": "go",
        "rearrange_flow": "A, B -> C",
        "agents": agents,
        "stream": True,
        "stream_options": {"include_output": False},
        **fields,
    }


@pytest.mark.noisy
@pytest.mark.parametrize(
    ("seed", "breaks_disk", "puts_back"), [(1, False, False), (2, True, False), (3, False, True)],
    ids=["killed", "killed with writes failing", "killed and put back"],
)  # fmt: skip
async def test_every_event_that_readers_were_shown_stays_true(
    tmp_path: Path, seed: int, breaks_disk: bool, puts_back: bool
) -> None:
    scene = Scene(tmp_path / "data", int(os.environ.get("SEED", seed)), breaks_disk=breaks_disk, puts_back=puts_back)
    async with provider(scene.answer) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"))
        for life in range(LIVES + 1):
            with anyio.fail_after(60):
                await scene.live(environ, is_last=life == LIVES)
