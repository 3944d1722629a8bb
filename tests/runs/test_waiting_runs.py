"""Interrupted runs that wait: for a directory that cannot be written, or behind one that kills its process."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.errors import UnknownModel
from swarmstream.events import (
    RunEnded,
    RunFailed,
)
from swarmstream.journal.base import RunCallbacks
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.runs.recovery import Recovery
from tests.clients.process import openai_environ, server_process
from tests.conftest import client
from tests.fakes.clock import DrivenClock
from tests.fakes.run_callbacks import RecordedCallbacks
from tests.fakes.upstream import Exchange, provider
from tests.journal.sample_runs import read_all, record
from tests.runs.courses import crashed, opened, team, uncut
from tests.runs.restarts import SWARM, TEAM, read
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio


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


@pytest.mark.promise("W-64")
async def test_readers_of_a_waiting_run_are_woken_when_it_resumes_and_a_cancellation_is_kept(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:4])
    async with opened(tmp_path / "data") as journal:
        [found] = await journal.claim_interrupted()
        tail = await journal.open_cursor("run-1", after=2)
        status = await journal.status("run-1")
        assert (status.state, status.is_waiting, status.record.body) == ("running", True, b"")
        callbacks = RecordedCallbacks()
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
                found.resume(callbacks)
            await callbacks.cancelled.wait()
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

    def resume(self, callbacks: RunCallbacks) -> Any:
        raise AssertionError("it never gets so far")


@pytest.mark.noisy
async def test_an_attempt_that_takes_long_counts_more_than_one_that_was_cut_off_at_once(tmp_path: Path) -> None:
    clock = DrivenClock()
    found = Counted(record(on_disconnect="continue"))
    compiling, may_end = threading.Event(), threading.Event()

    class Held(MemoryJournal):
        async def claim_interrupted(self) -> Sequence[Any]:
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
async def test_a_run_that_processes_have_died_of_is_given_up_and_keeps_back_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:2])
    attempts: list[int] = []
    for times in (9, 10):  # two processes that die as they are at it
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 30, clock=DrivenClock())
        await journal.open()
        [found] = await journal.claim_interrupted()
        attempts.append(found.attempts)
        await found.load()
        found.count_attempt(times)
        await journal.close()
    job, model = team("parallel")
    async with (
        opened(tmp_path / "data") as journal,
        supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor,
    ):
        other = await supervisor.start(replace(job, on_disconnect="continue"))
        with anyio.fail_after(30):
            await supervisor.recover(lambda _: job)
            given_up = await read_all(await journal.open_cursor("run-1"))
            assert (await read_all(await journal.open_cursor(other.job_id)))[-1][1].status == "success"  # type: ignore[union-attr]
    assert attempts == [0, 10]
    [failure] = [event.failure for _, event in given_up if isinstance(event, RunFailed)]
    assert (failure.code, failure.message) == (
        "internal", "the run cannot go on: the server has ended again and again as it took it up"
    )  # fmt: skip
    assert isinstance(given_up[-1][1], RunEnded)
