"""Runs outlive the process that runs them: what a crash costs, and what readers see of it (docs/wire.md, section 5)."""

import os
import random
import shutil
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import httpx
import pytest

from swarmstream.engine.replay import recovered_turns
from swarmstream.errors import ProviderRejected, UnknownModel
from swarmstream.events import (
    RunEnded,
    RunFailed,
    RunStarted,
    TextDelta,
    TurnEnded,
    TurnFailed,
    TurnRestarted,
    TurnStarted,
    Usage,
    UsageTotalled,
)
from swarmstream.journal.base import Entry, RunRecord
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.journal.sqlite.store import FILE
from swarmstream.llm.base import ToolCallDelta
from swarmstream.runs.job import Job, job_from_record
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.recovery import Recovery
from swarmstream.runs.supervisor import Supervisor
from swarmstream.swarm.plan import Compiled, PlanLimits
from swarmstream.tools.policy import ToolAccess
from swarmstream.wire.shapes.events import TurnRestartFrame
from tests.clients.process import ServerProcess, openai_environ, server_process
from tests.clients.sse import ServerEvent, events_of
from tests.conftest import KEY, client
from tests.fakes.clock import DrivenClock
from tests.fakes.crash_provider import Ledger, teams
from tests.fakes.scripted_model import AnyModel, ScriptedModel, swarm
from tests.fakes.upstream import Exchange, provider
from tests.journal.test_journal import nothing, read_all, record

pytestmark = pytest.mark.anyio

SWARM = "/v1/swarm/completions"
KILLS = int(os.environ.get("KILLS", "4"))
"""More of them for a campaign."""
RUNS_AT_ONCE = 4

TEAM: dict[str, Any] = {
    "task": "go",
    "rearrange_flow": "A -> B -> C",
    "agents": [{"agent_name": name, "system_prompt": name, "num_retries": 0} for name in "ABC"],
    "stream": True,
    "stream_options": {"include_output": False},
    "on_disconnect": "continue",
}


def headers(**more: str) -> dict[str, str]:
    return {"x-api-key": KEY, **more}


async def read(url: str, path: str, after: int = 0) -> list[ServerEvent]:
    """The events of a run from behind this one to its end."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=10) as http,
        http.stream("GET", path, headers=headers(**{"Last-Event-ID": str(after)})) as response,
    ):
        assert response.status_code == 200, await response.aread()
        return [event async for event in events_of(response)]


@pytest.mark.noisy
async def test_a_run_goes_on_at_the_turn_that_a_crash_interrupted(tmp_path: Path) -> None:
    crashed = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system}1 ", f"{exchange.system}2 ")
        if exchange.system == "B" and not crashed.is_set():
            await crashed.wait()
        await exchange.finish(usage=(10, 2))

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"))
            seen: list[ServerEvent] = []
            async with (
                server_process(environ=environ) as server,
                httpx.AsyncClient(base_url=server.url, timeout=10) as http,
                http.stream("POST", "/v1/swarm/completions", json=TEAM, headers=headers()) as response,
            ):
                path = response.headers["location"]
                async for event in events_of(response):
                    seen.append(event)
                    if event.data.get("content") == "B2 ":
                        break
                server.process.send_signal(signal.SIGKILL)
            crashed.set()
            async with server_process(environ=environ) as server:
                after = seen[-1].id
                assert after is not None
                rest = await read(server.url, path, after)
                whole = await read(server.url, path)
                async with httpx.AsyncClient() as http:
                    drained = await http.get(server.url + path, headers=headers(**{"Last-Event-ID": str(rest[-1].id)}))
    assert drained.status_code == 204
    names = [event.event for event in rest]
    assert names[0] == "turn_restart"
    assert rest[0].data.keys() == get_type_hints(TurnRestartFrame).keys()
    assert rest[0].data["discard_from"] == next(event.id for event in seen if event.data.get("content") == "B1 ")
    assert (rest[0].data["agent"], rest[0].data["turn"], rest[0].data["attempt"]) == ("B", 2, 2)
    assert [event.data["content"] for event in rest if event.event == "chunk"] == ["B1 ", "B2 ", "C1 ", "C2 "]
    ids = [event.id for event in seen + rest if event.id is not None]
    assert ids == sorted(set(ids)), "no number is used twice"
    assert sum(later != earlier + 1 for earlier, later in pairwise(ids)) == 1, "one jump"
    assert [exchange.system for exchange in upstream.exchanges] == ["A", "B", "B", "C"], "A was not run again"
    assert rest[-1].data["status"] == "success"
    assert [entry["content"] for entry in rest[-1].data["output"]] == ["A1 A2 ", "B1 B2 ", "C1 C2 "]
    assert rest[-2].data["input_tokens"] == 30
    assert [event.event for event in whole].count("turn_restart") == 1


# At every event of a run, in this process.


def passes(name: str) -> list[Any]:
    return ["over ", ToolCallDelta(0, "c", "handoff", f'{{"agent": "X", "message": "from {name}"}}')]


def passer(name: str) -> dict[str, Any]:
    return {"agent_name": name, "model_name": name, "handoffs": [{"agent_name": "X", "model_name": "X"}]}


def speaking(**others: Any) -> ScriptedModel:
    return ScriptedModel({**{name: [f"{name}1 ", f"{name}2 "] for name in "ABCX"}, **others})


HANDOFFS = {"agents": [passer("A"), passer("B"), {"agent_name": "C", "model_name": "C"}]}
REFUSED = {"B": ["b1 ", ProviderRejected("no")]}

CASES: dict[str, tuple[Compiled, Any, dict[str, Any]]] = {
    "parallel": (swarm("A, B -> C"), "fail", {}),
    "loops": (swarm("A -> B", max_loops=2), "fail", {}),
    "tasks": (swarm("A, B", task=None, tasks=["t1", "t2"]), "fail", {}),
    "one agent twice": (swarm("A -> B -> A"), "fail", {}),
    "handoffs": (swarm("A, B -> C", **HANDOFFS), "fail", {"A": passes("A"), "B": passes("B")}),
    "a failure that counts": (swarm("A, B -> C"), "fail", REFUSED),
    "a failure that does not": (swarm("A -> B -> C"), "continue", REFUSED),
}


@dataclass
class Course:
    """What a run came to, and what its models were told for it."""

    entries: Sequence[Entry]
    model: ScriptedModel

    @property
    def answers(self) -> list[tuple[Any, ...]]:
        ended = {event.turn: event for _, event in self.entries if isinstance(event, TurnEnded)}
        return sorted(
            (turn.agent, turn.output, turn.status, turn.task_index or 0, turn.handed_to or "")
            for turn in ended.values()
        )

    @property
    def end(self) -> RunEnded:
        [end] = [event for _, event in self.entries if isinstance(event, RunEnded)]
        assert self.entries[-1][1] is end
        return end

    @property
    def usage(self) -> tuple[int, int, int]:
        [usage] = [event for _, event in self.entries if isinstance(event, UsageTotalled)]
        return usage.total.input_tokens, usage.total.output_tokens, sum(agent.turns for agent in usage.agents)

    def told(self) -> list[str]:
        """What each call was, in the order of the turns."""
        return [f"{call.model.target} {call.messages}" for call in self.model.calls]


def team(case: str, **fields: Any) -> tuple[Job, ScriptedModel]:
    compiled, on_error, lines = CASES[case]
    fields = {"on_disconnect": "continue", "on_error": on_error, **fields}
    return Job(kind="swarm", plan=compiled.plan, owner="o", swarm_type="AgentRearrange", **fields), speaking(**lines)


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[SqliteJournal]:
    # The clock stands still, so that numbers after a crash are the same each time.
    journal = SqliteJournal(folder, retain_seconds=60, retain_bytes=1 << 30, clock=DrivenClock())
    await journal.open()
    yield journal
    await journal.close()


async def uncut(folder: Path, case: str, **fields: Any) -> Course:
    job, model = team(case, **fields)
    with anyio.fail_after(5):
        async with opened(folder) as journal, Supervisor(journal, {"scripted": model}, RunLimits()) as supervisor:
            run = await supervisor.start(job)
            return Course(await read_all(await journal.tail(run.job_id)), model)


async def crashed(folder: Path, *lives: Sequence[Entry], **fields: Any) -> None:
    """Leave behind what processes that crashed have written of a run, one after the other."""
    for number, entries in enumerate(lives):
        async with opened(folder) as journal:
            if number:
                [found] = await journal.unfinished()
                await found.load()
                log = found.go_on(on_cancel=nothing, on_failure=nothing)
            else:
                log = await journal.submit(
                    record(kind="swarm", **{"on_disconnect": "continue", **fields}), on_cancel=nothing
                )
            for _, event in entries:
                log.append(event)
            await log.suspend()


async def recovered(folder: Path, case: str, **fields: Any) -> Course:
    job, model = team(case, **fields)
    with anyio.fail_after(5):
        async with opened(folder) as journal, Supervisor(journal, {"scripted": model}, RunLimits()) as supervisor:
            await supervisor.recover(lambda _: job)
            return Course(await read_all(await journal.tail("run-1")), model)


def check_recovery(before: Sequence[Entry], whole: Course, after: Course, *, crashes: int) -> None:
    """What was written before stays, what was not finished is done, as it would have been without the crash."""
    entries = after.entries
    assert list(entries[: len(before)]) == list(before)
    numbers = [number for number, _ in entries]
    assert numbers == sorted(set(numbers))
    assert sum(later != earlier + 1 for earlier, later in pairwise(numbers)) <= crashes
    assert after.answers == whole.answers
    assert (after.end.status, after.end.failed_agents) == (whole.end.status, whole.end.failed_agents)
    assert after.usage == whole.usage
    places = {event.turn: place(event) for _, event in before if isinstance(event, TurnStarted)}
    done = Counter(places[event.turn] for _, event in before if isinstance(event, TurnEnded))
    todo = Counter(place(event) for _, event in whole.entries if isinstance(event, TurnStarted)) - done
    assert len(after.model.calls) == todo.total(), "each turn that was not finished is taken once"
    check_restarts(entries)


def place(event: TurnStarted) -> tuple[Any, ...]:
    return event.agent, event.stage, event.loop, event.task_index


def check_restarts(entries: Sequence[Entry]) -> None:
    """A reader that discards what it is told to discard has each turn's answer."""
    said: dict[int, list[tuple[int, str]]] = {}
    attempts: Counter[int] = Counter()
    begun: dict[int, int] = {}
    for number, event in entries:
        match event:
            case TurnStarted():
                assert event.turn not in said, "a turn's number is its own"
                said[event.turn] = []
                attempts[event.turn], begun[event.turn] = 1, number
            case TurnRestarted():
                attempts[event.turn] += 1
                assert event.attempt == attempts[event.turn]
                assert event.discard_from == begun[event.turn] + 1
                begun[event.turn] = number
                said[event.turn] = [piece for piece in said[event.turn] if piece[0] < event.discard_from]
                assert not said[event.turn]
            case TextDelta():
                said[event.turn].append((number, event.text))
            case TurnEnded():
                assert "".join(text for _, text in said[event.turn]) == event.output
            case _:
                pass


@pytest.mark.parametrize("case", CASES)
async def test_a_run_that_was_cut_behind_any_event_comes_to_the_same(case: str, tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", case)
    told = whole.told()
    for cut in range(2, len(whole.entries)):
        folder = tmp_path / str(cut)
        await crashed(folder, whole.entries[:cut])
        after = await recovered(folder, case)
        check_recovery(whole.entries[:cut], whole, after, crashes=1)
        assert not Counter(after.told()) - Counter(told), "a turn is told what it was told before"
        done = {event.turn for _, event in whole.entries[:cut] if isinstance(event, TurnEnded)}
        unfinished = [words for turn, words in enumerate(told, start=1) if turn not in done]
        assert Counter(after.told()) == Counter(unfinished)


@pytest.mark.parametrize("case", CASES)
async def test_a_run_that_was_cut_twice_comes_to_the_same(case: str, tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", case)
    for cut in range(2, len(whole.entries)):
        folder = tmp_path / str(cut)
        await crashed(folder / "first", whole.entries[:cut])
        once = (await recovered(folder / "first", case)).entries
        again = cut + 1 + cut * 7 % (len(once) - cut)
        if again == len(once):
            again -= 1
        await crashed(folder / "second", whole.entries[:cut], once[cut:again])
        check_recovery(once[:again], whole, await recovered(folder / "second", case), crashes=2)


async def test_a_run_that_ends_with_its_client_is_interrupted_by_a_crash(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel", on_disconnect="cancel")
    for cut in range(2, len(whole.entries)):
        await crashed(tmp_path / str(cut), whole.entries[:cut], on_disconnect="cancel")
        after = await recovered(tmp_path / str(cut), "parallel", on_disconnect="cancel")
        had_ended = any(isinstance(event, UsageTotalled) for _, event in whole.entries[:cut])
        assert after.end.status == ("success" if had_ended else "interrupted")
        codes = [event.failure.code for _, event in after.entries if isinstance(event, RunFailed)]
        assert codes == ([] if had_ended else ["interrupted"])
        assert after.usage[2] == sum(isinstance(event, TurnEnded) for _, event in whole.entries[:cut])
        assert not after.model.calls


async def test_what_made_a_turn_fail_counts_only_if_its_end_was_written(tmp_path: Path) -> None:
    job, _ = team("parallel")
    failing = await uncut(tmp_path / "failing", "a failure that counts")
    cut = next(number for number, event in failing.entries if isinstance(event, TurnFailed))
    await crashed(tmp_path / "cut", failing.entries[:cut])
    first = await recovered(tmp_path / "cut", "parallel")
    assert first.end.status == "success"
    ended = next(
        place
        for place, (_, event) in enumerate(first.entries, 1)
        if isinstance(event, TurnEnded) and event.agent == "B"
    )
    await crashed(tmp_path / "again", failing.entries[:cut], first.entries[cut:ended])
    second = await recovered(tmp_path / "again", "parallel")
    assert (second.end.status, second.answers) == (first.end.status, first.answers)
    assert job.on_error == "fail"


@pytest.mark.noisy
async def test_a_run_that_cannot_go_on_ends_once_and_says_why(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")

    def gone(_: RunRecord) -> Job:
        raise UnknownModel("there is no model gone/model")

    await crashed(tmp_path / "data", whole.entries[:8])
    async with opened(tmp_path / "data") as journal, Supervisor(journal, {}, RunLimits()) as supervisor:
        await supervisor.recover(gone)
        entries = await read_all(await journal.tail("run-1"))
        assert (await journal.status("run-1")).state == "failed"
    [failed] = [event for _, event in entries if isinstance(event, RunFailed)]
    assert failed.failure.message == "the run cannot go on: there is no model gone/model"
    assert sum(isinstance(event, RunEnded) for _, event in entries) == 1


@pytest.mark.noisy
@pytest.mark.parametrize("kind", ["agent", "swarm"])
async def test_a_payload_that_this_release_refuses_does_not_keep_the_server_from_starting(
    kind: Any, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal:
        log = await journal.submit(
            record(kind=kind, body=b'{"agents": 7}', on_disconnect="continue"), on_cancel=nothing
        )
        await log.commit(RunStarted(0))
    async with opened(tmp_path) as journal, Supervisor(journal, {}, RunLimits()) as supervisor:
        await supervisor.recover(lambda its: job_from_record(its, AnyModel(), PlanLimits(), ToolAccess()))
        assert (await journal.status("run-1")).state == "failed"


async def test_a_run_that_needs_no_client_is_written_down_before_anybody_is_told_of_it(tmp_path: Path) -> None:
    job, _ = team("parallel")
    model = ScriptedModel({name: ["x"] for name in "ABC"}, order="-")
    async with opened(tmp_path) as journal, Supervisor(journal, {"scripted": model}, RunLimits()) as supervisor:
        run = await supervisor.start(job)
        with closing(sqlite3.connect(tmp_path / FILE)) as connection:
            assert connection.execute("SELECT job_id FROM runs").fetchall() == [(run.job_id,)]
        await journal.cancel(run.job_id)


def test_who_passed_the_word_first_was_answered_first() -> None:
    """Siblings may pass it to agents of one name."""

    def started(agent: str, turn: int) -> TurnStarted:
        return TurnStarted(0, agent, turn, 1, 1, None, agent, "scripted")

    def ended(agent: str, turn: int) -> TurnEnded:
        return TurnEnded(0, agent, turn, None, agent, "", "success", "stop", Usage(), 0.0, handed_to="X")

    events = [started("A", 1), started("B", 2), ended("B", 2), ended("A", 1), started("X", 3), started("X", 4)]
    past = recovered_turns(enumerate(events, start=1))
    taken = [past.take("X", stage=1, loop=1, task_index=None, handed_by=turn) for turn in (1, 2)]
    assert [turn and turn.started.turn for turn in taken] == [4, 3]
    assert past.take("X", stage=1, loop=1, task_index=None, handed_by=None) is None


async def test_a_run_that_was_taken_up_can_be_cancelled(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:4])
    job, _ = team("parallel")
    model = ScriptedModel({name: ["x"] for name in "ABC"}, order="-")
    with anyio.fail_after(5):
        async with (
            opened(tmp_path / "data") as journal,
            Supervisor(journal, {"scripted": model}, RunLimits()) as supervisor,
        ):
            await supervisor.recover(lambda _: job)
            await journal.cancel("run-1")
            entries = await read_all(await journal.tail("run-1"))
    assert isinstance(entries[-1][1], RunEnded)
    assert entries[-1][1].status == "cancelled"


async def test_the_time_that_a_run_has_had_counts_after_a_crash(tmp_path: Path) -> None:
    await crashed(tmp_path, [(1, RunStarted(0)), (2, TurnStarted(90_000, "A", 1, 1, 1, None, "A", "scripted"))])
    after = await recovered(tmp_path, "parallel", timeout_seconds=60)
    assert after.end.status == "timed_out"


# In processes that are killed.


def fold(events: Sequence[ServerEvent]) -> dict[int, str]:
    """Each turn's text, as a client has it that discards what it is told to discard."""
    said: dict[int, list[tuple[int, str]]] = {}
    for event in events:
        turn = event.data.get("turn", 0)
        if event.event == "agent_start":
            said[turn] = []
        elif event.event == "chunk":
            assert event.id is not None
            said[turn].append((event.id, event.data["content"]))
        elif event.event == "turn_restart":
            said[turn] = [piece for piece in said[turn] if piece[0] < event.data["discard_from"]]
        elif event.event == "agent_end":
            assert "".join(text for _, text in said[turn]).endswith(event.data["output"])
    return {turn: "".join(text for _, text in pieces) for turn, pieces in said.items()}


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
            numbers = [int(word[1:]) for word in texts[turn].split() if word.startswith("#")]
            who = f"{self.names[path]}/{end['agent']}"
            counted[who] += len(numbers)
            assert set(numbers) <= set(self.ledger.asked.get(who, [])), "its own answer"
            charged = [self.ledger.charged[number] for number in numbers]
            usage = (sum(each[0] for each in charged), sum(each[1] for each in charged))
            assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == usage
            spent = [spent[0] + usage[0], spent[1] + usage[1]]
        total = whole[-2].data
        assert whole[-2].event == "usage"
        assert [total["input_tokens"], total["output_tokens"]] == spent
        for who, numbers in self.ledger.asked.items():
            run, _, agent = who.partition("/")
            if run == self.names[path] and agent != "Failing":
                steps = 2 if agent == "Caller" else 1
                assert counted[who] <= len(numbers) <= counted[who] + restarts[agent] * steps, "nothing is run twice"


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


@pytest.mark.noisy
async def test_who_had_seen_more_than_was_written_reads_on_without_a_number_twice(tmp_path: Path) -> None:
    data, crashed, is_locked = tmp_path / "data", anyio.Event(), anyio.Event()

    async def script(exchange: Exchange) -> None:
        first, *others = (f"{exchange.system}{number} " for number in range(50))
        await exchange.open()
        await exchange.say(first)
        if exchange.system == "B":
            await is_locked.wait()
        await exchange.say(*others)
        if exchange.system == "B" and not crashed.is_set():
            await crashed.wait()
        await exchange.finish(usage=(10, 2))

    seen: list[ServerEvent] = []
    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(data))
            async with (
                server_process(environ=environ) as server,
                client(server.url) as http,
                http.stream("POST", SWARM, json=TEAM) as response,
            ):
                path = response.headers["location"]
                other: sqlite3.Connection | None = None
                async for event in events_of(response):
                    seen.append(event)
                    if event.data.get("content") == "B0 ":  # whose turn's beginning is written by now
                        other = sqlite3.connect(data / FILE)
                        other.execute("BEGIN IMMEDIATE")  # nothing is written from now on
                        is_locked.set()
                    if event.data.get("content") == "B49 ":
                        break
                server.process.send_signal(signal.SIGKILL)
                await server.process.wait()
                assert other is not None
                other.close()
            crashed.set()
            async with server_process(environ=environ) as server:
                rest = await read(server.url, path, seen[-1].id or 0)
                whole = await read(server.url, path)
    kept = {event.id: event for event in whole}
    lost = [event for event in seen if event.id not in kept]
    assert all(kept[event.id] == event for event in seen if event.id in kept)
    assert not {event.id for event in rest} & {event.id for event in seen}
    assert rest[0].event in ("turn_restart", "agent_start")
    assert len(lost) >= 10, "the reader had seen what was not written"
    assert fold(whole) == {
        turn: "".join(f"{name}{number} " for number in range(50)) for turn, name in enumerate("ABC", 1)
    }
    assert fold([*seen, *rest]) == fold(whole)
    assert [exchange.system for exchange in upstream.exchanges] == ["A", "B", "B", "C"]


@pytest.mark.noisy
async def test_a_restart_is_a_hiccup_for_some_runs_and_the_end_of_others(tmp_path: Path) -> None:
    """SIGTERM: after the drain, runs that need no client go on in the next process; the others end."""
    stopped = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system}1 ")
        if not stopped.is_set():
            await (finishing.wait() if exchange.system == "D" else anyio.sleep_forever())
        await exchange.finish(usage=(10, 2))

    payloads: dict[str, dict[str, Any]] = {
        "goes on": TEAM,
        "ends": {**TEAM, "on_disconnect": "cancel"},
        "finishes": {**TEAM, "agents": [{"agent_name": "D", "system_prompt": "D"}], "rearrange_flow": "D"},
    }
    seen: dict[str, list[ServerEvent]] = {}
    paths: dict[str, str] = {}
    cut: list[str] = []
    finishing = anyio.Event()
    speaking = anyio.Semaphore(0)

    async def follow(http: httpx.AsyncClient, name: str) -> None:
        seen[name] = []
        async with http.stream("POST", SWARM, json=payloads[name]) as response:
            paths[name] = response.headers["location"]
            try:
                async for event in events_of(response):
                    seen[name].append(event)
                    if event.event == "chunk":
                        speaking.release()
            except httpx.RemoteProtocolError:
                cut.append(name)

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(
                upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"), SWARMSTREAM_DRAIN_SECONDS="1"
            )
            async with server_process(environ=environ) as server, client(server.url) as http:
                async with anyio.create_task_group() as tasks:
                    for name in payloads:
                        tasks.start_soon(follow, http, name)
                    for _ in payloads:
                        await speaking.acquire()
                    server.process.send_signal(signal.SIGTERM)
                    await server.logged("Stopping")
                    finishing.set()
                assert await server.stopped(5) == 0
            assert "Traceback" not in server.log
            stopped.set()
            async with server_process(environ=environ) as server:
                rest = await read(server.url, paths["goes on"], seen["goes on"][-1].id or 0)
                ended = await read(server.url, paths["ends"])
    assert cut == ["goes on"], "its reader was let go, and knows"
    assert [event.event for event in seen["goes on"]][-1] == "chunk"
    assert not [event for event in seen["goes on"] if event.event in ("agent_end", "error", "end")]
    assert (seen["ends"][-1].event, seen["ends"][-1].data["status"]) == ("end", "interrupted")
    assert (seen["finishes"][-1].event, seen["finishes"][-1].data["status"]) == ("end", "success")
    assert ended == seen["ends"]
    assert rest[0].event == "turn_restart"
    assert rest[-1].data["status"] == "success"
    assert fold([*seen["goes on"], *rest]) == {1: "A1 ", 2: "B1 ", 3: "C1 "}


@pytest.mark.noisy
async def test_a_run_whose_model_is_gone_after_the_restart_fails(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say("word ")
        await anyio.sleep_forever()

    with anyio.fail_after(30):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(tmp_path / "data"))
            async with (
                server_process(environ=environ) as server,
                client(server.url) as http,
                http.stream("POST", SWARM, json=TEAM) as response,
            ):
                path = response.headers["location"]
                async for event in events_of(response):
                    if event.event == "chunk":
                        break
                server.process.send_signal(signal.SIGKILL)
            del environ["OPENAI_API_KEY"]
            async with server_process(environ=environ) as server, client(server.url) as http:
                events = await read(server.url, path)
                run = (await http.get(path.removesuffix("/stream"))).json()
    assert [event.event for event in events][-3:] == ["error", "usage", "end"]
    assert "the run cannot go on" in events[-3].data["error"]
    assert (events[-1].data["status"], run["status"]) == ("failed", "failed")


# A directory that cannot be written, and runs that wait.


@pytest.mark.noisy
async def test_runs_are_taken_up_once_a_directory_that_could_not_be_used_at_the_start_can(tmp_path: Path) -> None:
    data, away = tmp_path / "data", tmp_path / "away"

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.say(f"{exchange.system}1 ")
        if len(upstream.exchanges) == 1:
            await anyio.sleep_forever()
        await exchange.finish()

    with anyio.fail_after(60):
        async with provider(script) as upstream:
            environ = openai_environ(upstream, SWARMSTREAM_DATA_DIR=str(data), SWARMSTREAM_HEARTBEAT_SECONDS="0.05")
            async with server_process(environ=environ) as server, client(server.url) as http:
                run = (await http.post(SWARM, json={**TEAM, "stream": False, "background": True})).json()["job_id"]
                await upstream.asked(1)
            data.rename(away)
            data.write_text("")
            keyed = {"Idempotency-Key": "k"}
            async with server_process(environ=environ) as server, client(server.url) as http:
                stream = f"/v1/runs/{run}/stream"
                health = await http.get("/health/ready"), await http.get("/health")
                alone = await http.get(f"/v1/runs/{run}")
                refused = await http.post(SWARM, json=TEAM, headers=keyed)
                is_cut = False
                try:
                    async with http.stream("GET", stream) as response:
                        assert response.status_code == 200
                        async for content in response.aiter_raw():
                            assert content == b": ping\n"
                            if data.is_file():
                                data.unlink()
                                away.rename(data)
                except httpx.TransportError:
                    is_cut = True
                assert is_cut, "kept waiting, and then told to ask again"
                events = await read(server.url, stream)
                ready = await http.get("/health/ready")
            assert "Traceback" not in server.log
    assert [answer.status_code for answer in (*health, alone, refused)] == [503, 200, 503, 503]
    assert {"retry-after"} <= alone.headers.keys() & refused.headers.keys()
    assert ready.status_code == 200
    assert events[-1].data["status"] == "success"
    assert [exchange.system for exchange in upstream.exchanges] == ["A", "A", "B", "C"]


async def test_readers_of_a_run_that_waits_are_told_when_it_goes_on_and_a_cancellation_is_kept(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:4])
    async with opened(tmp_path / "data") as journal:
        [found] = await journal.unfinished()
        tail = await journal.tail("run-1", after=2)
        status = await journal.status("run-1")
        assert (status.state, status.is_waiting, status.record.body) == ("running", True, b"")
        asked = anyio.Event()
        seen: list[Entry] = []

        async def read() -> None:
            seen.extend(await tail.read())

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                assert not seen
                await journal.cancel("run-1")
                await found.load()
                found.go_on(on_cancel=asked.set, on_failure=nothing)
            await asked.wait()
        assert seen == list(whole.entries[2:4])
        assert not (await journal.status("run-1")).is_waiting


@dataclass
class Counted:
    """A run of another process that counts what taking it up costs."""

    record: RunRecord
    attempts: int = 0
    fault: str | None = None

    async def load(self) -> tuple[RunRecord, Sequence[Entry]]:
        self.attempts += 1
        return self.record, ()

    def count_attempt(self, times: int) -> None:
        self.attempts += times

    def go_on(self, *, on_cancel: Any, on_failure: Any) -> Any:
        raise AssertionError("it never gets so far")


@pytest.mark.noisy
async def test_an_attempt_that_takes_long_counts_more_than_one_that_was_cut_off_at_once(tmp_path: Path) -> None:
    clock = DrivenClock()
    found = Counted(record(on_disconnect="continue"))
    compiling, may_end = threading.Event(), threading.Event()

    class Held(MemoryJournal):
        async def unfinished(self) -> Sequence[Any]:
            return [found]

    def compile_it(_: RunRecord) -> Job:
        compiling.set()
        may_end.wait(30)
        raise UnknownModel("gone")

    recovery = Recovery(Held(retain_seconds=1, retain_bytes=1), compile_it, lambda _: None, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recovery.run)
        await anyio.to_thread.run_sync(compiling.wait, 30)
        assert found.attempts == 1
        await clock.advance(0.1)
        assert found.attempts == 10
        may_end.set()
        tasks.cancel_scope.cancel()


@pytest.mark.noisy
async def test_what_processes_have_died_of_is_given_up_and_keeps_nobody_else_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:2])
    attempts: list[int] = []
    for times in (9, 10):  # two processes that die as they are at it
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 30, clock=DrivenClock())
        await journal.open()
        [found] = await journal.unfinished()
        attempts.append(found.attempts)
        await found.load()
        found.count_attempt(times)
        await journal.close()
    job, model = team("parallel")
    async with (
        opened(tmp_path / "data") as journal,
        Supervisor(journal, {"scripted": model}, RunLimits()) as supervisor,
    ):
        other = await supervisor.start(replace(job, on_disconnect="continue"))
        with anyio.fail_after(30):
            await supervisor.recover(lambda _: job)
            given_up = await read_all(await journal.tail("run-1"))
            assert (await read_all(await journal.tail(other.job_id)))[-1][1].status == "success"  # type: ignore[union-attr]
    assert attempts == [0, 10]
    [failure] = [event.failure for _, event in given_up if isinstance(event, RunFailed)]
    assert (failure.code, failure.message) == (
        "internal", "the run cannot go on: the server has ended again and again as it took it up"
    )  # fmt: skip
    assert isinstance(given_up[-1][1], RunEnded)


@pytest.mark.noisy
async def test_no_number_is_used_twice_where_the_directory_is_put_back_or_the_clock_is(tmp_path: Path) -> None:
    """Nor where nothing of a life was written: each of these processes dies with what it has shown."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    clock = DrivenClock()  # it stands still, so that batches are not written
    await crashed(data, [(1, RunStarted(0))])
    shutil.copytree(data, copy)
    numbers: list[int] = []
    dead: list[SqliteJournal] = []
    for back_to, seconds in ((None, 0.0), (copy, 1.0), (None, -86_400.0), (None, 0.0)):
        if back_to is not None:
            shutil.rmtree(data)
            shutil.copytree(back_to, data)
        (data / "lock").unlink(missing_ok=True)
        clock.offset += seconds
        journal = SqliteJournal(data, retain_seconds=60, retain_bytes=1 << 30, clock=clock)
        dead.append(journal)
        await journal.open()
        [found] = await journal.unfinished()
        await found.load()
        log = found.go_on(on_cancel=nothing, on_failure=nothing)
        await log.safe()
        numbers += [log.append(TextDelta(0, "A", 1, "x")) for _ in range(10)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 1 << 53
    for journal in reversed(dead):
        await journal.close()
