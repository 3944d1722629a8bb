"""One key cannot take all that there is from the others (shares.py): runs at once, threads for tools, reads."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from swarmstream.api.auth import owner_name
from swarmstream.errors import Unavailable
from swarmstream.events import RunEnded
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import RunStatus
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.llm.base import Finished, ToolCallDelta
from swarmstream.places import Places
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.supervisor import Supervisor
from swarmstream.shares import Owner, Shares, current_owner
from swarmstream.tools.threads import MAX_THREADS
from tests.api.stored_runs import add_run
from tests.conftest import KEY, OTHER_KEY, client, serving
from tests.fakes.scripted_model import ScriptedModel, swarm
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio

SWARM = "/v1/swarm/completions"
AGENT = "/v1/agent/completions"
ONE, OTHER = Owner("one", of=2), Owner("other", of=2)


def taken(shares: Shares, owner: Owner) -> int:
    """How many places an owner gets that takes all it can."""
    count = 0
    while shares.take(owner):
        count += 1
    return count


# --- The rule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "first", "second"), [(1, 1, 0), (2, 2, 0), (4, 3, 1), (8, 6, 2), (40, 30, 10)])
def test_the_last_quarter_is_for_owners_that_hold_less_than_a_quarter(total: int, first: int, second: int) -> None:
    shares = Shares(total)
    assert [taken(shares, ONE), taken(shares, OTHER)] == [first, second]
    assert not shares.take(Owner("third", of=3))


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 8, 40, 1000])
def test_an_owner_by_itself_may_have_everything(total: int) -> None:
    assert taken(Shares(total), Owner()) == total


def test_a_share_that_is_given_back_can_be_taken_again() -> None:
    shares = Shares(4)
    assert [taken(shares, ONE), taken(shares, OTHER)] == [3, 1]
    shares.give_back("other")
    assert [taken(shares, ONE), taken(shares, OTHER)] == [0, 1]


def test_shares_taken_above_the_limit_count() -> None:
    shares = Shares(4)
    for _ in range(6):
        shares.take_anyway("one")
    assert [shares.left, taken(shares, OTHER)] == [-2, 0]
    for _ in range(3):
        shares.give_back("one")
    assert [taken(shares, ONE), taken(shares, OTHER)] == [0, 1]


@given(
    st.integers(1, 8), st.lists(st.tuples(st.sampled_from([True, True, False]), st.sampled_from("aaab")), min_size=9)
)
def test_no_more_is_held_than_there_is_and_a_beginner_finds_a_place_beside_one_other(
    total: int, steps: list[tuple[bool, str]]
) -> None:
    shares, held = Shares(total), Counter[str]()
    for takes, name in steps:
        if takes:
            held[name] += shares.take(Owner(name, of=4))
        elif held[name]:
            shares.give_back(name)
            held[name] -= 1
        assert shares.left == total - held.total() >= 0
        assert all(shares.held(name) == held[name] for name in "ab")
        if total >= 4 and len(+held) == 1:
            assert shares.take(Owner("beginner", of=4))
            shares.give_back("beginner")


# --- Runs ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_keys(
    model: ScriptedModel, **settings: Any
) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    with anyio.fail_after(30):
        async with (
            serving(models={"demo": model}, **settings) as url,
            client(url, key=KEY) as one,
            client(url, key=OTHER_KEY) as other,
        ):
            yield one, other


async def begun(http: httpx.AsyncClient) -> httpx.Response:
    payload = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}], "background": True}
    return await http.post(SWARM, json=payload)


async def test_a_key_that_takes_all_runs_leaves_a_quarter_to_the_other() -> None:
    async with two_keys(ScriptedModel({"A": ["a"]}, order="|"), max_runs=8) as (one, other):
        first = [await begun(one) for _ in range(8)]
        second = [await begun(other) for _ in range(3)]
        assert [answer.status_code for answer in first] == [202] * 6 + [503] * 2
        assert [answer.status_code for answer in second] == [202, 202, 503]
        refused, full = first[-1], second[-1]
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("unavailable", "5")
        assert refused.json()["detail"] == (
            "the server is full but for what is kept for other keys: SWARMSTREAM_MAX_RUNS is 8"
        )
        assert full.json()["detail"] == "the server is full: SWARMSTREAM_MAX_RUNS is 8"
        for answer in first[:3]:
            await one.post(f"/v1/runs/{answer.json()['job_id']}/cancel")
        assert [(await begun(one)).status_code, (await begun(one)).status_code] == [202, 503], "they are free again"


async def test_the_only_key_may_have_all_runs() -> None:
    model = ScriptedModel({"A": ["a"]}, order="|")
    async with two_keys(model, max_runs=8, api_keys=(SecretStr(KEY), SecretStr(KEY))) as (one, _):
        assert [(await begun(one)).status_code for _ in range(9)] == [202] * 8 + [503]


async def test_a_run_that_could_not_begin_holds_no_place() -> None:
    payload = {"task": "go", "agents": [{"agent_name": "A", "model_name": "demo/A"}]}
    async with two_keys(ScriptedModel({"A": ["a"]}), max_runs=1) as (one, _):
        for _ in range(3):  # the second and the third are the first one's, and begin nothing
            answer = await one.post(SWARM, json=payload, headers={"Idempotency-Key": "once"})
            assert answer.status_code == 200
        assert (await one.post(SWARM, json=payload)).status_code == 200


async def test_recovered_runs_are_admitted_however_many_and_count(tmp_path: Path) -> None:
    plan = swarm("A").plan
    job = Job(kind="swarm", plan=plan, owner="one", swarm_type="AgentRearrange", on_disconnect="continue")
    model = ScriptedModel({"A": ["a"]}, order="|AAA")

    @asynccontextmanager
    async def supervising(max_runs: int) -> AsyncGenerator[Supervisor]:
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 20)
        await journal.open()
        async with supervisor_of(journal, {"scripted": model}, RunLimits(max_runs=max_runs, keys=2)) as supervisor:
            yield supervisor
        await journal.close()

    with anyio.fail_after(30):
        async with supervising(4) as before:
            runs = [await before.start(job) for _ in range(3)]
        async with supervising(1) as after:
            await after.recover(lambda _: job)
            refused = await _refusal(after, job)
            readings = [await after.runs_of("one").read(run.job_id) for run in runs]
            model.skip()
            for reading in readings:
                while not any(isinstance(event, RunEnded) for _, event in await reading.cursor.read()):
                    pass
            while await _refusal(after, job) is not None:  # their places are free in a moment
                await anyio.lowlevel.checkpoint()
    assert refused == "the server is full: SWARMSTREAM_MAX_RUNS is 1"


async def _refusal(supervisor: Supervisor, job: Job) -> str | None:
    try:
        await supervisor.start(job)
    except Unavailable as error:
        return error.detail
    return None


# --- Threads for tools ---------------------------------------------------------------------------------------------

_go_on = threading.Event()
_inside = threading.Semaphore(0)


def hang() -> str:
    """Take a thread."""
    _inside.release()
    _go_on.wait(30)
    return "late"


def answer() -> str:
    """Answer at once."""
    return "at once"


def _asking(name: str, times: int) -> list[Any]:
    """A model that calls a tool so many times at once, then has its last word."""
    return [[*(ToolCallDelta(n, f"call_{n}", name, "{}") for n in range(times)), Finished("tool_calls")], ["done"]]


async def test_a_key_whose_tools_hang_leaves_threads_to_the_tools_of_the_other() -> None:
    _go_on.clear()
    model = ScriptedModel({"Hangs": _asking("hang", MAX_THREADS), "Answers": _asking("answer", 3)})

    def payload(agent: str, tool: str) -> dict[str, Any]:
        config = {"agent_name": agent, "model_name": f"demo/{agent}", "selected_tools": [tool], "max_loops": 2}
        return {"task": "go", "agent_config": config}

    async with two_keys(model, tools=(f"{__name__}:hang", f"{__name__}:answer")) as (one, other):
        try:
            hanging = await one.post(AGENT, json={**payload("Hangs", "hang"), "background": True})
            assert hanging.status_code == 202
            for _ in range(MAX_THREADS * 3 // 4):
                await anyio.to_thread.run_sync(_inside.acquire, True, 10)
            served = await other.post(AGENT, json=payload("Answers", "answer"))
            assert not _inside.acquire(blocking=False), "the other calls wait"
        finally:
            _go_on.set()
        path = hanging.headers["location"]
        late = await one.get(path)
    assert served.status_code == 200
    answered = [call for call in model.calls if call.model.target == "Answers"][-1]
    results = [message["content"] for message in answered.messages if message["role"] == "tool"]
    assert results == ["at once"] * 3
    assert late.text.count("event: tool_end") == MAX_THREADS
    assert '"is_error":true' not in late.text.replace(" ", ""), "those that waited had their thread in the end"


# --- Reads ---------------------------------------------------------------------------------------------------------


async def test_a_key_that_reads_many_runs_at_once_is_no_long_wait_for_the_other(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 20)
    await journal.open()
    await add_run(journal, "run-1", "x", owner="o")
    done: list[str] = []

    async def read(owner: Owner) -> None:
        current_owner.set(owner)
        await journal.status("run-1", owner="o")
        done.append(owner.name)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            with journal._reader._reading:  # pyright: ignore[reportPrivateUsage]  # as while a long read goes on
                for _ in range(100):
                    tasks.start_soon(read, ONE)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(read, OTHER)
                await anyio.wait_all_tasks_blocked()
    await journal.close()
    assert done.index("other") <= 8
    assert len(done) == 101


class AskedJournal(MemoryJournal):
    """Notes for whom it is asked."""

    def __init__(self) -> None:
        super().__init__(retain_seconds=60, retain_bytes=1 << 20)
        self.asked: set[Owner] = set()

    async def status(self, job_id: str, *, owner: str | None = None) -> RunStatus:
        self.asked.add(current_owner.get())
        return await super().status(job_id, owner=owner)


@pytest.mark.parametrize(
    ("path", "by_token"),
    [
        *(("/v1/runs", False), ("/v1/swarm/logs", False), ("/v1/runs/run-1", False)),
        *(("/v1/runs/run-1/stream", False), ("/v1/runs/run-1/stream", True)),
    ],
)
async def test_the_journal_is_read_for_the_key_of_the_request(path: str, by_token: bool) -> None:
    journal = AskedJournal()
    async with serving(journal=journal) as url, client(url) as http:
        await add_run(journal, "run-1", "x")
        token = (await http.post("/v1/runs/run-1/stream-token")).json()["token"]
        journal.asked.clear()
        async with client(url, key=None if by_token else KEY) as reader:
            assert (await reader.get(path, params={"token": token} if by_token else {})).status_code == 200
    assert journal.asked == {Owner(owner_name(KEY), of=2)}


async def test_a_task_that_gives_up_waiting_holds_no_place() -> None:
    places, owner = Places(1), Owner()
    await places.take(owner)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.take, owner)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    granted = asyncio.create_task(places.take(owner))
    await anyio.wait_all_tasks_blocked()
    places.give_back(owner)
    granted.cancel()  # before it knows of its place
    with pytest.raises(asyncio.CancelledError):
        await granted
    with anyio.fail_after(5):
        await places.take(owner)
