"""The runs of a journal: listed, forgotten, found by their idempotency keys, known to their owners only."""

from datetime import UTC, datetime, timedelta

import pytest

from swarmstream.errors import IdempotencyMismatch, NotFound, StillRunning
from swarmstream.events import RunStarted, TextDelta
from swarmstream.journal.base import AlreadySubmitted, Journal
from swarmstream.journal.records import MAX_ADMITTED, IdempotencyKey
from tests.journal.kinds import SqlitePlace, serving_process
from tests.journal.sample_runs import DESCRIBED, END, ENDED, begin, finish, read_all, text

pytestmark = pytest.mark.anyio


async def test_an_owners_runs_are_listed_newest_first_page_by_page(journal: Journal) -> None:
    for number in range(7):
        await finish(journal, f"run-{number}", owner="me" if number != 3 else "you")
    pages = [await journal.list("me", limit=2)]
    while pages[-1].has_more:
        pages.append(await journal.list("me", limit=2, after=pages[-1].job_ids[-1]))
    assert [list(page.job_ids) for page in pages] == [
        ["run-6", "run-5"], ["run-4", "run-2"], ["run-1", "run-0"]
    ]  # fmt: skip
    assert list((await journal.list("you")).job_ids) == ["run-3"]
    assert not (await journal.list("nobody")).job_ids


@pytest.mark.parametrize("after", ["run-1", "none"])
async def test_a_page_begins_behind_a_run_of_the_owners_only(journal: Journal, after: str) -> None:
    await finish(journal, "run-1", owner="you")
    await finish(journal, "run-2", owner="me")
    with pytest.raises(NotFound):
        await journal.list("me", after=after)


async def test_runs_are_listed_by_their_state(journal: Journal) -> None:
    await finish(journal, "well")
    await finish(journal, "badly", status="failed")
    await begin(journal, "now")
    states = {
        state: list((await journal.list("o", state=state)).job_ids)
        for state in ("success", "failed", "running", "cancelled")
    }
    assert states == {"success": ["well"], "failed": ["badly"], "running": ["now"], "cancelled": []}
    assert list((await journal.list("o")).job_ids) == ["now", "badly", "well"]
    assert list((await journal.list("o", state="success", limit=1)).job_ids) == ["well"]


async def test_whoever_has_begun_a_run_finds_it_at_once(journal: Journal) -> None:
    log = await begin(journal)
    assert list((await journal.list("o", state="running")).job_ids) == ["run-1"]
    log.append(text(1))
    await log.commit(END)
    assert list((await journal.list("o", state="success")).job_ids) == ["run-1"]


async def test_runs_do_not_mix(journal: Journal) -> None:
    logs = [await begin(journal, f"run-{number}") for number in range(5)]
    for turn in range(40):
        for number, log in enumerate(logs):
            assert log.append(TextDelta(turn, "A", number, "x")) == turn + 1
    for number, log in enumerate(logs):
        await log.commit(END)
        entries = await read_all(await journal.open_cursor(f"run-{number}"))
        assert [entry[0] for entry in entries] == list(range(1, 42))
        assert {event.turn for _, event in entries if isinstance(event, TextDelta)} == {number}


async def test_a_runs_summary_is_that_of_its_events_before_and_after_its_end(journal: Journal) -> None:
    log = await begin(journal, body=b"{}", include_output=False, coalesce_ms=5, on_disconnect="continue")
    for event in (DESCRIBED, RunStarted(0), text(1)):
        log.append(event)
    await log.commit(ENDED)
    live = await journal.status("run-1")
    assert (live.summary.described, live.summary.answers, live.summary.ended) == (DESCRIBED, [ENDED], None)
    await log.commit(END)
    for status in (await journal.status("run-1"), await journal.status("run-1", owner="o")):
        assert (status.summary.described, status.summary.answers, status.summary.ended) == (DESCRIBED, [ENDED], END)
        assert (status.first_event_id, status.last_event_id) == (1, 5)
        assert (status.record.body, status.record.include_output, status.record.coalesce_ms) == (b"{}", False, 5)


async def test_a_deleted_run_is_gone(journal: Journal) -> None:
    await finish(journal, "run-1")
    await finish(journal, "run-2")
    await read_all(await journal.open_cursor("run-1"))
    await journal.delete("run-1")
    for call in (journal.open_cursor, journal.status, journal.cancel, journal.delete):
        with pytest.raises(NotFound):
            await call("run-1")
    assert list((await journal.list("o")).job_ids) == ["run-2"]


async def test_a_live_run_is_not_deleted(journal: Journal) -> None:
    log = await begin(journal)
    with pytest.raises(StillRunning):
        await journal.delete("run-1")
    log.append(text(1))
    await log.commit(END)
    await journal.delete("run-1")


async def test_a_trimmed_run_says_where_it_begins_now(journal: Journal) -> None:
    await finish(journal, "run-1", *"abcdefgh")
    await journal.trim("run-1", 6)
    status = await journal.status("run-1")
    assert (status.first_event_id, status.last_event_id, status.state) == (6, 9, "success")
    first_available: list[int | None] = []
    for after in (0, 4, 5, 7):
        cursor = await journal.open_cursor("run-1", after=after)
        assert [number for number, _ in await read_all(cursor)] == list(range(max(after + 1, 6), 10))
        first_available.append(cursor.first_available)
    assert first_available == [6, 6, None, None]


async def test_the_last_event_stays_whatever_is_trimmed(journal: Journal) -> None:
    await finish(journal, "run-1", *"abc")
    await journal.trim("run-1", 3)
    await journal.trim("run-1", 100)
    assert [number for number, _ in await read_all(await journal.open_cursor("run-1"))] == [4]
    assert (await journal.status("run-1")).first_event_id == 4
    with pytest.raises(NotFound):
        await journal.trim("run-2", 1)


async def test_a_trimmed_run_keeps_its_summary(journal: Journal) -> None:
    log = await begin(journal)
    for event in (DESCRIBED, RunStarted(0), ENDED):
        log.append(event)
    await log.commit(END)
    await journal.trim("run-1", 100)
    summary = (await journal.status("run-1")).summary
    assert (summary.described, summary.answers, summary.ended) == (DESCRIBED, [ENDED], END)


async def test_one_claim_is_one_run(journal: Journal) -> None:
    log = await begin(journal, "first", idempotency_key=IdempotencyKey("key", "body"))
    with pytest.raises(AlreadySubmitted) as claimed:
        await begin(journal, "second", idempotency_key=IdempotencyKey("key", "body"))
    assert claimed.value.job_id == "first"
    with pytest.raises(IdempotencyMismatch):
        await begin(journal, "second", idempotency_key=IdempotencyKey("key", "other"))
    with pytest.raises(NotFound):
        await journal.status("second")
    await begin(journal, "third", idempotency_key=IdempotencyKey("other", "body"))
    await log.commit(END)
    with pytest.raises(AlreadySubmitted):
        await begin(journal, "second", idempotency_key=IdempotencyKey("key", "body"))


async def test_a_claim_goes_with_its_run(journal: Journal) -> None:
    await finish(journal, "first", idempotency_key=IdempotencyKey("key", "body"))
    await journal.delete("first")
    await finish(journal, "second", idempotency_key=IdempotencyKey("key", "other"))
    assert (await journal.status("second")).state == "success"


async def test_an_owner_is_told_of_its_own_runs_only(journal: Journal) -> None:
    await finish(journal, "done", owner="me")
    await begin(journal, "live", owner="me")
    for job_id in ("done", "live"):
        assert (await journal.status(job_id, owner="me")).record.job_id == job_id
        for stranger in ("you", ""):
            with pytest.raises(NotFound):
                await journal.status(job_id, owner=stranger)


def digest(number: int) -> bytes:
    return number.to_bytes(32)


async def test_the_tokens_that_have_connected_are_remembered_by_run(journal: Journal) -> None:
    await finish(journal, "done")
    await begin(journal, "live")
    for job_id, number in (("done", 1), ("live", 2), ("live", 2), ("live", 3)):
        await journal.admit_token(job_id, digest(number))
    found = {
        job_id: [number for number in range(5) if await journal.has_admitted_token(job_id, digest(number))]
        for job_id in ("done", "live", "none")
    }
    assert found == {"done": [1], "live": [2, 3], "none": []}
    with pytest.raises(NotFound):
        await journal.admit_token("none", digest(1))


async def test_of_too_many_tokens_the_oldest_are_forgotten(journal: Journal) -> None:
    await begin(journal, "run-1")
    await begin(journal, "run-2")
    await journal.admit_token("run-2", digest(0))
    for number in range(MAX_ADMITTED + 2):
        await journal.admit_token("run-1", digest(number))
    found = [await journal.has_admitted_token("run-1", digest(number)) for number in range(MAX_ADMITTED + 2)]
    assert found == [False] * 2 + [True] * MAX_ADMITTED
    assert await journal.has_admitted_token("run-2", digest(0)), "another run has its own"


async def test_a_forgotten_runs_tokens_are_forgotten(journal: Journal) -> None:
    await finish(journal, "run-1")
    await journal.admit_token("run-1", digest(1))
    await journal.delete("run-1")
    await finish(journal, "run-1")
    assert not await journal.has_admitted_token("run-1", digest(1))


async def test_the_tokens_that_have_connected_are_remembered_after_reopening(place: SqlitePlace) -> None:
    async with serving_process(place) as owner:
        await begin(owner.journal)
        await owner.journal.admit_token("run-1", digest(1))
        async with serving_process(place) as other:
            assert await other.journal.has_admitted_token("run-1", digest(1))
            await other.resume().commit(END)
            assert await other.journal.has_admitted_token("run-1", digest(1)), "also once it has ended"


async def test_a_run_has_ended_when_its_end_was_written_however_long_nobody_went_on_with_it(place: SqlitePlace) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    async with serving_process(place) as owner:
        await (await begin(owner.journal, created_at=began)).commit(RunStarted(0))
        assert (await owner.journal.status("run-1")).ended_at is None
    async with serving_process(place) as owner:
        await owner.resume().commit(END)
        ended_at = (await owner.journal.status("run-1")).ended_at
        assert ended_at is not None
        assert ended_at - began.timestamp() >= 3600
