"""A run that was cut off behind any of its events ends as it would have ended without the crash (docs/wire.md, section
5)."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from swarmstream.engine.replay import recovered_turns
from swarmstream.errors import UnknownModel
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
from swarmstream.journal.base import NO_CALLBACKS
from swarmstream.journal.records import Entry, RunRecord
from swarmstream.journal.sqlite.data_directory import FILE
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.runs.compiled_job import job_from_record
from swarmstream.runs.job import Job
from swarmstream.runs.limits import RunLimits
from swarmstream.swarm.limits import PlanLimits
from swarmstream.tools.policy import AllowedTools
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import AnyModel, ScriptedModel
from tests.journal.sample_runs import read_all, record
from tests.runs.courses import CASES, Course, crashed, opened, recovered, team, uncut
from tests.runs.supervisors import supervisor_of

pytestmark = pytest.mark.anyio


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
    texts: dict[int, list[tuple[int, str]]] = {}
    attempts: Counter[int] = Counter()
    begun: dict[int, int] = {}
    for number, event in entries:
        match event:
            case TurnStarted():
                assert event.turn not in texts, "a turn's number is its own"
                texts[event.turn] = []
                attempts[event.turn], begun[event.turn] = 1, number
            case TurnRestarted():
                attempts[event.turn] += 1
                assert event.attempt == attempts[event.turn]
                assert event.discard_from == begun[event.turn] + 1
                begun[event.turn] = number
                texts[event.turn] = [piece for piece in texts[event.turn] if piece[0] < event.discard_from]
                assert not texts[event.turn]
            case TextDelta():
                texts[event.turn].append((number, event.text))
            case TurnEnded():
                assert "".join(text for _, text in texts[event.turn]) == event.output
            case _:
                pass


@pytest.mark.parametrize("case", CASES)
async def test_a_run_that_was_cut_behind_any_event_comes_to_the_same(case: str, tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", case)
    prompts = whole.prompts()
    for cut in range(2, len(whole.entries)):
        folder = tmp_path / str(cut)
        await crashed(folder, whole.entries[:cut])
        after = await recovered(folder, case)
        check_recovery(whole.entries[:cut], whole, after, crashes=1)
        assert not Counter(after.prompts()) - Counter(prompts), "a turn is told what it was told before"
        done = {event.turn for _, event in whole.entries[:cut] if isinstance(event, TurnEnded)}
        unfinished = [prompt for turn, prompt in enumerate(prompts, start=1) if turn not in done]
        assert Counter(after.prompts()) == Counter(unfinished)


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


async def test_a_failure_of_a_turn_counts_only_if_the_turns_end_was_written(tmp_path: Path) -> None:
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
async def test_a_run_that_cannot_be_resumed_ends_once_with_the_reason(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")

    def gone(_: RunRecord) -> Job:
        raise UnknownModel("there is no model gone/model")

    await crashed(tmp_path / "data", whole.entries[:8])
    async with opened(tmp_path / "data") as journal, supervisor_of(journal, {}, RunLimits()) as supervisor:
        await supervisor.recover(gone)
        entries = await read_all(await journal.open_cursor("run-1"))
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
        log = await journal.submit(record(kind=kind, body=b'{"agents": 7}', on_disconnect="continue"), NO_CALLBACKS)
        await log.commit(RunStarted(0))
    async with opened(tmp_path) as journal, supervisor_of(journal, {}, RunLimits()) as supervisor:
        await supervisor.recover(lambda stored: job_from_record(stored, AnyModel(), PlanLimits(), AllowedTools()))
        assert (await journal.status("run-1")).state == "failed"


@pytest.mark.promise("W-54")
async def test_a_run_that_needs_no_client_is_written_down_before_it_is_announced(tmp_path: Path) -> None:
    job, _ = team("parallel")
    model = ScriptedModel({name: ["x"] for name in "ABC"}, order="-")
    async with opened(tmp_path) as journal, supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor:
        run = await supervisor.start(job)
        with closing(sqlite3.connect(tmp_path / FILE)) as connection:
            assert connection.execute("SELECT job_id FROM runs").fetchall() == [(run.job_id,)]
        await journal.cancel(run.job_id)


def test_recovered_turns_of_receivers_belong_to_the_handoffs_in_their_order() -> None:
    """Siblings may pass it to agents of one name."""

    def started(agent: str, turn: int) -> TurnStarted:
        return TurnStarted(0, agent, turn, 1, 1, None, agent, "scripted")

    def ended(agent: str, turn: int) -> TurnEnded:
        return TurnEnded(0, agent, turn, None, agent, "", "success", "stop", Usage(), 0.0, handed_to="X")

    events = [started("A", 1), started("B", 2), ended("B", 2), ended("A", 1), started("X", 3), started("X", 4)]
    recovered_so_far = recovered_turns(enumerate(events, start=1))
    taken = [recovered_so_far.find("X", stage=1, loop=1, task_index=None, handed_by=turn) for turn in (1, 2)]
    assert [turn and turn.started.turn for turn in taken] == [4, 3]
    assert recovered_so_far.find("X", stage=1, loop=1, task_index=None, handed_by=None) is None


async def test_a_run_that_was_taken_up_can_be_cancelled(tmp_path: Path) -> None:
    whole = await uncut(tmp_path / "whole", "parallel")
    await crashed(tmp_path / "data", whole.entries[:4])
    job, _ = team("parallel")
    model = ScriptedModel({name: ["x"] for name in "ABC"}, order="-")
    with anyio.fail_after(5):
        async with (
            opened(tmp_path / "data") as journal,
            supervisor_of(journal, {"scripted": model}, RunLimits()) as supervisor,
        ):
            await supervisor.recover(lambda _: job)
            await journal.cancel("run-1")
            entries = await read_all(await journal.open_cursor("run-1"))
    assert isinstance(entries[-1][1], RunEnded)
    assert entries[-1][1].status == "cancelled"


async def test_the_time_that_a_run_has_had_counts_after_a_crash(tmp_path: Path) -> None:
    await crashed(tmp_path, [(1, RunStarted(0)), (2, TurnStarted(90_000, "A", 1, 1, 1, None, "A", "scripted"))])
    after = await recovered(tmp_path, "parallel", timeout_seconds=60)
    assert after.end.status == "timed_out"


@pytest.mark.promise("W-48")
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
        [found] = await journal.claim_interrupted()
        await found.load()
        log = found.resume(NO_CALLBACKS)
        await log.flush()
        numbers += [log.append(TextDelta(0, "A", 1, "x")) for _ in range(10)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 1 << 53
    for journal in reversed(dead):
        await journal.close()
