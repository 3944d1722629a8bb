"""A stream token opens one run, at once, and again for a reader that was there (docs/wire.md, section 5)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from pydantic import SecretStr

from swarmstream.api.auth import owner_name
from swarmstream.api.stream_tokens import TOKEN_SECONDS, token_digest
from swarmstream.events import RunDescribed, RunEnded, RunStarted, Usage, UsageTotalled
from swarmstream.journal.base import NO_CALLBACKS
from swarmstream.journal.memory import MemoryJournal
from swarmstream.journal.opening import create_journal
from swarmstream.journal.records import RunRecord
from swarmstream.journal.sqlite.journal import SqliteJournal
from swarmstream.settings import Settings
from tests.api.held_runs import PAYLOAD, ROUTES, SWARM, finished_run, held_run, server, token_of
from tests.clients.process import server_process
from tests.clients.sse import events_of
from tests.conftest import KEY, OTHER_KEY, client, serving

pytestmark = pytest.mark.anyio


async def read_to_first_chunk(http: httpx.AsyncClient, path: str) -> None:
    """Read a run up to its first chunk, and leave."""
    async with http.stream("GET", path) as response:
        await anext(event async for event in events_of(response) if event.event == "chunk")


@pytest.mark.promise("W-75")
async def test_a_token_reads_its_run_and_nothing_else(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _):
        ids = [(await http.post(SWARM, json=PAYLOAD)).json()["job_id"] for _ in range(2)]
        issued = (await http.post(f"/v1/runs/{ids[0]}/stream-token")).json()
        token = issued["token"]
        async with client(str(http.base_url), key=None) as page:
            read = await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": token})
            refused = [
                await page.get(f"/v1/runs/{ids[1]}/stream", params={"token": token}),
                await page.get(
                    f"/v1/runs/{ids[0]}/stream", params={"token": f"{token[:-2]}{'xx' if token[-2:] != 'xx' else 'yy'}"}
                ),
                await page.get(f"/v1/runs/{ids[0]}/stream", params={"token": "x"}),
                await page.get(f"/v1/runs/{ids[0]}", params={"token": token}),
                await page.get(f"/v1/runs/{ids[0]}/stream"),
            ]
            last = read.text.rpartition("id: ")[2].partition("\n")[0]
            drained = await page.get(
                f"/v1/runs/{ids[0]}/stream", params={"token": token}, headers={"Last-Event-ID": last}
            )
    assert issued["expires_in"] == 60
    assert read.text.count("event: end") == 1
    assert [answer.status_code for answer in refused] == [401] * 5
    assert drained.status_code == 204


def alterations(token: str) -> list[str]:
    job_id, expires, signature = token.split(".")
    return [
        "",
        token[:-1],
        f"{token}A",
        token.swapcase(),
        f"{job_id}{expires}.{signature}",
        f"{job_id}.{expires}",
        f"{job_id}.{expires}.",
        f"{job_id}.{expires}.\u00e9",
        f"{job_id}.{int(expires) + 1}.{signature}",
        f"{job_id}.{'9' * 13}.{signature}",
        token.replace(expires, "\u0661" * 10),
        "\0\0\0",
        "x" * 5000,
    ]


async def test_an_altered_token_is_refused() -> None:
    async with server(None) as (http, _), client(str(http.base_url), key=None) as page:
        job_id = await finished_run(http)
        token = (await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]
        path = f"/v1/runs/{job_id}/stream"
        for altered in alterations(token):
            answer = await page.get(path, params={"token": altered})
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), altered
            assert token[-20:] not in answer.text
        good = await page.get(path, params={"token": token})
    assert good.status_code == 200


async def test_a_token_opens_no_other_run_and_no_other_route(data_dir: Path | None) -> None:
    async with server(data_dir) as (http, _), client(str(http.base_url), key=None) as page:
        job_id, other_id = await finished_run(http), await finished_run(http)
        token = token_of(job_id)
        elsewhere = [
            await page.get(f"/v1/runs/{other_id}/stream", params={"token": token}),
            await page.get(f"/v1/runs/{job_id[:-1]}/stream", params={"token": token}),
        ]
        for method, path in [*ROUTES, ("GET", "/v1/runs"), ("GET", "/v1/swarm/logs"), ("POST", SWARM)]:
            if not path.endswith("/stream"):
                elsewhere.append(await page.request(method, path.format(job_id), params={"token": token}))
                elsewhere.append(await page.request(method, path.format(job_id), headers={"x-api-key": token}))
    assert {answer.status_code for answer in elsewhere} == {401}


async def test_a_token_of_a_removed_key_is_refused(data_dir: Path | None) -> None:
    async with server(data_dir, api_keys=(SecretStr(KEY),)) as (http, _):
        job_id = await finished_run(http)
        path = f"/v1/runs/{job_id}/stream"
        async with client(str(http.base_url), key=None) as page:
            removed = await page.get(path, params={"token": token_of(job_id, key="a-key-that-was")})
            foreign = await page.get(path, params={"token": token_of(job_id, key=OTHER_KEY)})
    assert (removed.status_code, foreign.status_code) == (401, 401)


@pytest.mark.promise("W-76")
async def test_a_token_is_for_connecting_at_once_and_for_coming_back_until_after_the_end(
    data_dir: Path | None,
) -> None:
    resuming = {"Last-Event-ID": "2"}
    journal = create_journal(Settings.model_construct(data_dir=data_dir))
    async with (
        server(None, order="A|A", journal=journal) as (http, model),
        client(str(http.base_url), key=None) as page,
    ):
        job_id = await held_run(http)
        path = f"/v1/runs/{job_id}/stream"
        await read_to_first_chunk(http, path)
        query = {"token": token_of(job_id, seconds_ago=TOKEN_SECONDS + 5)}
        never_connected = await page.get(path, params=query, headers={"Last-Event-ID": "0"})
        await journal.admit_token(job_id, token_digest(query["token"]))  # as it would have been a minute ago
        too_late = await page.get(path, params=query)
        by_query = await page.get(path, params={**query, "starting_after": "2"})
        async with page.stream("GET", path, params=query, headers=resuming) as response:
            assert response.status_code == 200
            model.skip()
            events = [event async for event in events_of(response)]
        after_the_end = await page.get(path, params=query, headers=resuming)
        drained = await page.get(path, params=query, headers={"Last-Event-ID": str(events[-1].id)})
        first_after_the_end = await page.get(path, params=query)
    assert (never_connected.status_code, never_connected.json()["code"]) == (401, "invalid_token")
    assert (too_late.status_code, too_late.json()["code"]) == (401, "invalid_token")
    assert by_query.status_code == 401, "EventSource comes back with the header; a query proves nothing"
    assert [event.id for event in events] == list(range(3, 9))
    assert (after_the_end.status_code, drained.status_code) == (200, 204)
    assert first_after_the_end.status_code == 401


@pytest.mark.promise("W-76")
async def test_a_minute_after_the_end_a_token_is_over() -> None:
    journal = MemoryJournal(retain_seconds=60, retain_bytes=1 << 20)
    for job_id, age_seconds in {"swarms-old": TOKEN_SECONDS + 5, "swarms-new": TOKEN_SECONDS - 20}.items():
        began = datetime.now(UTC) - timedelta(seconds=age_seconds)
        record = RunRecord(job_id=job_id, owner=owner_name(KEY), kind="swarm", created_at=began)
        log = await journal.submit(record, NO_CALLBACKS)
        log.append(RunDescribed(0, job_id, "swarm", None, None, "AgentRearrange", 1, "standard", None, began, (), None))
        log.append(RunStarted(0))
        log.append(UsageTotalled(1000, Usage(), ()))
        await log.commit(RunEnded(1000, status="success", duration_seconds=1, failed_agents=()))
    resuming = {"Last-Event-ID": "2"}
    async with serving(journal=journal) as url, client(url, key=None) as page:

        async def read(job_id: str, headers: dict[str, str], seconds_ago: float = 0) -> int:
            token = token_of(job_id, seconds_ago=seconds_ago)
            if seconds_ago:
                await journal.admit_token(job_id, token_digest(token))
            return (await page.get(f"/v1/runs/{job_id}/stream", params={"token": token}, headers=headers)).status_code

        back_in_time = await read("swarms-new", resuming, TOKEN_SECONDS + 30)
        too_late = await read("swarms-old", resuming, TOKEN_SECONDS + 30)
        made_late = [await read("swarms-old", {}), await read("swarms-old", resuming)]
    assert (back_in_time, too_late, made_late) == (200, 401, [200, 200])


@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "2"}])
async def test_a_token_that_has_connected_is_remembered(data_dir: Path | None, headers: dict[str, str]) -> None:
    journal = create_journal(Settings.model_construct(data_dir=data_dir))
    async with server(None, journal=journal) as (http, _), client(str(http.base_url), key=None) as page:
        job_id = await finished_run(http)
        issued = [(await http.post(f"/v1/runs/{job_id}/stream-token")).json()["token"]]
        issued += [token_of(job_id, seconds_ago=20), token_of(job_id, seconds_ago=TOKEN_SECONDS + 5)]
        written_otherwise = issued[0].replace(".", ".0", 1)
        for token in (written_otherwise, issued[2]):
            await page.get(f"/v1/runs/{job_id}/stream", params={"token": token}, headers=headers)
        assert [await journal.has_admitted_token(job_id, token_digest(token)) for token in issued] == [
            True,
            False,
            False,
        ]


async def test_a_token_that_has_connected_is_remembered_after_a_crash(tmp_path: Path) -> None:
    environ = {"SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_DATA_DIR": str(tmp_path / "data")}
    with anyio.fail_after(60):
        async with server_process(environ=environ) as process, client(process.url) as http:
            job_id = await finished_run(http)
            path = f"/v1/runs/{job_id}/stream"
            used, unused = token_of(job_id, seconds_ago=1), token_of(job_id, seconds_ago=2)
            assert (await http.get(path, params={"token": used})).status_code == 200
            process.process.kill()
            await process.process.wait()
        journal = SqliteJournal(tmp_path / "data", retain_seconds=60, retain_bytes=1 << 20)
        await journal.open()
        assert [await journal.has_admitted_token(job_id, token_digest(token)) for token in (used, unused)] == [
            True,
            False,
        ]
        await journal.close()
