"""A server that is killed at random moments loses nothing that a reader was shown, and pays for nothing twice."""

import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import pytest

from swarmstream.journal.sqlite.data_directory import FILE
from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, events_of
from tests.conftest import client
from tests.fakes.crash_provider import Ledger, teams
from tests.fakes.upstream import provider
from tests.runs.restarts import SWARM, fold, read

pytestmark = pytest.mark.anyio

KILLS = int(os.environ.get("KILLS", "4"))
"""More of them for a campaign."""
RUNS_AT_ONCE = 4


@dataclass
class Siege:
    """A server that is killed again and again, with runs in all states and a reader on each."""

    environ: dict[str, str]
    ledger: Ledger
    moments: random.Random
    seen: dict[str, list[ServerEvent]] = field(default_factory=dict[str, list[ServerEvent]])
    """What the reader of each run has seen, in this order, by the run's path."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    crashes: Counter[str] = field(default_factory=Counter[str])
    kills: int = 0
    _posted: int = 0

    def ended(self, path: str) -> bool:
        return bool(self.seen[path]) and self.seen[path][-1].event == "end"

    async def life(self, *, is_last: bool = False) -> None:
        """One process, from its start until it is killed, or until all runs have ended."""
        async with server_process(environ=self.environ) as server, client(server.url) as http:
            going_on = [path for path in self.seen if not self.ended(path)]
            patience = self.moments.choice([self.moments.randrange(1, 30), self.moments.randrange(30, 300)])
            dying = anyio.Event()

            async def read(path: str) -> None:
                nonlocal patience
                after = str(self.seen[path][-1].id) if self.seen[path] else "0"
                try:
                    async with http.stream("GET", path, headers={"Last-Event-ID": after}) as response:
                        assert response.status_code == 200, await response.aread()
                        async for event in events_of(response):
                            self.seen[path].append(event)
                            patience -= 1
                            if patience <= 0 and not is_last:
                                dying.set()
                    if len(going_on) >= RUNS_AT_ONCE and all(map(self.ended, going_on)):
                        dying.set()
                except httpx.HTTPError:
                    assert dying.is_set()

            async with anyio.create_task_group() as tasks:
                if not is_last:
                    tasks.start_soon(self._kill, server, dying)
                for path in going_on:
                    tasks.start_soon(read, path)
                while not is_last and len(going_on) < RUNS_AT_ONCE:
                    try:
                        path = await self._post(http)
                    except httpx.HTTPError:
                        break  # killed meanwhile
                    going_on.append(path)
                    tasks.start_soon(read, path)
            for path in going_on:
                self.crashes[path] += 0 if self.ended(path) else 1

    async def _kill(self, server: ServerProcess, dying: anyio.Event) -> None:
        await dying.wait()
        server.process.send_signal(signal.SIGKILL)
        await server.process.wait()
        self.kills += 1

    async def _post(self, http: httpx.AsyncClient) -> str:
        name = f"r{self._posted}"
        kinds = teams(name)
        payload = {
            "task": "go", **kinds[self._posted % len(kinds)], "background": True, "on_error": "continue",
            "stream_options": {"include_output": False},
        }  # fmt: skip
        self._posted += 1
        answer = await http.post(SWARM, json=payload)
        assert answer.status_code == 202, answer.text
        path = answer.headers["location"]
        self.seen[path], self.names[path] = [], name
        return path

    def check(self, path: str, whole: Sequence[ServerEvent]) -> None:
        """One run, as it stands in the journal after its end, against its reader and the provider's books."""
        assert [event.event for event in whole].count("end") == 1
        assert whole[-1].event == "end"
        assert whole[-1].data["status"] == "success"
        kept = {event.id: event for event in whole}
        for events in (self.seen[path], whole):
            ids = [event.id or 0 for event in events]
            assert ids == sorted(set(ids)), "ids ascend"
            assert sum(later != before + 1 for before, later in pairwise(ids)) <= self.crashes[path]
        for event in self.seen[path]:
            assert kept.get(event.id, event) == event, "an id never means another event"
        last_seen = self.seen[path][-1].id
        assert last_seen == whole[-1].id
        self._check_books(path, whole)

    def _check_books(self, path: str, whole: Sequence[ServerEvent]) -> None:
        texts = fold(whole)
        ended = {event.data["turn"]: event.data for event in whole if event.event == "agent_end"}
        assert ended.keys() == texts.keys()
        restarts = Counter(event.data["agent"] for event in whole if event.event == "turn_restart")
        counted: Counter[str] = Counter()
        spent = [0, 0]
        for turn, end in ended.items():
            numbers = [int(piece[1:]) for piece in texts[turn].split() if piece.startswith("#")]
            label = f"{self.names[path]}/{end['agent']}"
            counted[label] += len(numbers)
            assert set(numbers) <= set(self.ledger.asked.get(label, [])), "its own answer"
            charged = [self.ledger.charged[number] for number in numbers]
            usage = (sum(each[0] for each in charged), sum(each[1] for each in charged))
            assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == usage
            spent = [spent[0] + usage[0], spent[1] + usage[1]]
        total = whole[-2].data
        assert whole[-2].event == "usage"
        assert [total["input_tokens"], total["output_tokens"]] == spent
        for label, numbers in self.ledger.asked.items():
            run, _, agent = label.partition("/")
            if run == self.names[path] and agent != "Failing":
                steps = 2 if agent == "Caller" else 1
                assert counted[label] <= len(numbers) <= counted[label] + restarts[agent] * steps, (
                    "nothing is run twice"
                )


async def besiege(folder: Path, *, kills: int, seed: int) -> Siege:
    """Kill a server so many times; every run ends as if nothing had been."""
    ledger = Ledger()
    async with provider(ledger.answer) as upstream:
        environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(folder))
        siege = Siege(environ, ledger, random.Random(seed))
        for _ in range(kills):
            with anyio.fail_after(20):
                await siege.life()
        with anyio.fail_after(20):
            await siege.life(is_last=True)
            async with server_process(environ=environ) as server, client(server.url) as http:
                # Those too whose request was cut off before it was answered.
                for run in (await http.get("/v1/runs", params={"status": "running"})).json()["data"]:
                    await read(server.url, f"/v1/runs/{run['job_id']}/stream")
                for path in siege.seen:
                    siege.check(path, await read(server.url, path))
    with closing(sqlite3.connect(folder / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (0,)
    return siege


@pytest.mark.noisy
async def test_a_server_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    siege = await besiege(tmp_path / "data", kills=KILLS, seed=5)
    assert siege.kills == KILLS
    assert siege.crashes.total() >= KILLS, "runs were going on when it was killed"
