"""The run of another key is like none, and every route of runs wants a key (docs/wire.md, sections 1 and 5)."""

from pathlib import Path

import anyio
import pytest

from tests.api.held_runs import ROUTES, finished_run, held_run, server
from tests.conftest import KEY, OTHER_KEY, client

pytestmark = pytest.mark.anyio


@pytest.mark.promise("W-15")
async def test_the_run_of_another_key_looks_like_one_that_does_not_exist(data_dir: Path | None) -> None:
    async with server(data_dir, order="A|") as (http, _), client(str(http.base_url), key=OTHER_KEY) as other:
        own = await held_run(http)
        for is_live in (True, False):
            if not is_live:
                await http.post(f"/v1/runs/{own}/cancel")
            missing = f"{own[:-4]}0000"
            for method, path in ROUTES:
                answers = [await other.request(method, path.format(job_id)) for job_id in (own, missing)]
                bodies = [{**answer.json(), "request_id": ""} for answer in answers]
                assert [answer.status_code for answer in answers] == [404, 404], path
                assert bodies[0] == bodies[1]
                assert own not in str(bodies)
                heads = [set(answer.headers) for answer in answers]
                assert heads[0] == heads[1]
                assert answers[0].headers["content-length"] == answers[1].headers["content-length"]
            body = (await http.get(f"/v1/runs/{own}")).json()
            assert body["status"] == ("running" if is_live else "cancelled"), "a stranger did nothing to it"


@pytest.mark.parametrize("key", [b"%s ", b" %s", b"\t%s \t"])
async def test_white_space_around_a_key_is_no_part_of_it(key: bytes) -> None:
    guess = key % KEY.encode()
    async with server(None) as (http, _), client(str(http.base_url), key=None) as nobody:
        for name, value in ((b"x-api-key", guess), (b"authorization", b"  Bearer " + guess)):
            # Written by hand: clients drop it, or refuse to send it.
            answer = await raw_answer(str(nobody.base_url), name + b":" + value)
            assert answer.startswith(b"HTTP/1.1 200"), (name, value)
        padded = await raw_answer(str(nobody.base_url), b"x-api-key:" + KEY.encode()[:3] + b" " + KEY.encode()[3:])
    assert padded.startswith(b"HTTP/1.1 401"), "within it, it is"


async def raw_answer(url: str, header: bytes) -> bytes:
    """What `GET /v1/runs` with this line is answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as connection:
        await connection.send(b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n")
        return await connection.receive()


async def test_every_route_of_runs_wants_a_key() -> None:
    async with server(None) as (http, _), client(str(http.base_url), key=None) as nobody:
        job_id = await finished_run(http)
        paths = [*ROUTES, ("GET", "/v1/runs"), ("GET", "/v1/swarm/logs")]
        answers = [await nobody.request(method, path.format(job_id)) for method, path in paths]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "invalid_api_key")}
