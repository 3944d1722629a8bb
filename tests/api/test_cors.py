"""Pages of other origins: those that may call, the headers they may send, and the headers they may read."""

import logging
from collections.abc import Mapping

import httpx
import pytest

from swarmstream.api.cors import EXPOSED_HEADERS
from swarmstream.errors import ProviderRejected
from swarmstream.main import create_app
from swarmstream.settings import Settings
from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

PAGE = "https://page.example"
AGENT = "/v1/agent/completions"
PAYLOAD = {"agent_config": {"agent_name": "A", "model_name": "demo/A"}, "task": "go"}
SDK = "x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-retry-count,x-stainless-helper-method"


def preflight(origin: str, *, method: str = "POST", headers: str = "content-type") -> Mapping[str, str]:
    """Return the header fields of a browser's preflight."""
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }


def admitted(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}


@pytest.mark.promise("W-20")
async def test_pages_may_send_the_headers_that_sdks_and_tracers_add() -> None:
    wanted = f"{SDK},x-request-id,cache-control,tracestate,traceparent,baggage,x-api-key,Authorization, User-Agent"
    async with serving(cors_origins=(PAGE,)) as url, client(url, key=None) as http:
        answer = await http.options(AGENT, headers=preflight(PAGE, headers=wanted))
        for refused in ("x-stainless-", "x-stainless-a_b", "x-stainless-" + "a" * 65, "x-evil", "cookie"):
            answers = await http.options(AGENT, headers=preflight(PAGE, headers=f"x-api-key,{refused}"))
            assert answers.status_code == 400, refused
            assert refused[:50] in answers.json()["detail"]
            assert answers.headers["access-control-allow-origin"] == PAGE
        many = ",".join(f"x-stainless-{number}" for number in range(33))
        assert (await http.options(AGENT, headers=preflight(PAGE, headers=many))).status_code == 400
        put = await http.options(AGENT, headers=preflight(PAGE, method="PUT"))
    assert {name.strip().lower() for name in wanted.split(",")} <= admitted(answer)
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert put.status_code == 400
    assert "GET, POST, DELETE" in put.json()["detail"]


@pytest.mark.promise("W-20")
async def test_pages_can_read_every_exposed_header_and_each_is_sent_by_some_answer() -> None:
    seen: set[str] = set()
    model = ScriptedModel({"A": ["a"], "B": [ProviderRejected("no")]})
    async with serving(models={"demo": model}, cors_origins=(PAGE,)) as url, client(url) as http:
        http.headers["origin"] = PAGE
        key = {"idempotency-key": "once"}
        answers = [await http.post(AGENT, json=PAYLOAD, headers=key) for _ in range(2)]
        answers.append(
            await http.post(AGENT, json={**PAYLOAD, "agent_config": {"agent_name": "B", "model_name": "demo/B"}})
        )
    async with serving(cors_origins=(PAGE,), max_runs=0) as url, client(url) as http:
        answers.append(await http.post(AGENT, json=PAYLOAD, headers={"origin": PAGE}))
    for answer in answers:
        assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED_HEADERS)
        assert answer.headers["access-control-allow-origin"] == PAGE
        seen |= set(answer.headers)
    assert {name.lower() for name in EXPOSED_HEADERS} <= seen
    assert "idempotent-replayed" in answers[1].headers


async def test_with_a_star_every_page_may_call() -> None:
    async with serving(cors_origins=("*",)) as url, client(url, key=None) as http:
        for origin in (PAGE, "null", "http://localhost:5173"):
            answer = await http.options(AGENT, headers=preflight(origin, headers=SDK))
            read = await http.get("/health", headers={"origin": origin})
            assert answer.status_code == 200
            assert {reply.headers["access-control-allow-origin"] for reply in (answer, read)} == {"*"}


LOOPBACK = [
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:8443",
    "http://127.0.0.1:3000",
    "http://[::1]:65535",
]
LOOK_ALIKES = [
    "null",
    "file://",
    "http://localhost.evil.com",
    "http://127.0.0.1.nip.io",
    "http://localhost:80@evil.com",
    "http://localhost@evil.com",
    "http://evil.com/localhost",
    "http://evil.com#localhost",
    "http://mylocalhost",
    "http://localhost.",
    "http://LOCALHOST",
    "http://127.0.0.2",
    "http://127.1",
    "http://0.0.0.0:3000",
    "http://[::1",
    "http://::1",
    "http://[::ffff:127.0.0.1]",
    "http://localhost:",
    "http://localhost:999999",
    "http://localhost:80/",
    "ftp://localhost",
    "chrome-extension://localhost",
    "http://localhost:5173 x",
]


async def test_in_development_pages_of_this_machine_may_call_and_look_alikes_may_not() -> None:
    async with serving(dev=True, cors_origins=(PAGE,)) as url, client(url, key=None) as http:
        for origin in [*LOOPBACK, PAGE]:
            answer = await http.options(AGENT, headers=preflight(origin))
            assert answer.status_code == 200, origin
            assert answer.headers["access-control-allow-origin"] == origin
            read = await http.get("/health", headers={"origin": origin})
            assert read.headers["access-control-allow-origin"] == origin
            assert "Origin" in read.headers["vary"]
        for origin in LOOK_ALIKES:
            answer = await http.options(AGENT, headers=preflight(origin))
            assert answer.status_code == 400, origin
            assert "access-control-allow-origin" not in answer.headers
            read = await http.get("/health", headers={"origin": origin})
            assert "access-control-allow-origin" not in read.headers, origin


async def test_pages_of_this_machine_may_call_only_in_development_on_loopback() -> None:
    for dev, host in ((False, "127.0.0.1"), (True, "0.0.0.0")):
        app = create_app(Settings.model_construct(host=host), environ={}, dev=dev)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            for origin in LOOPBACK:
                assert (await http.options(AGENT, headers=preflight(origin))).status_code == 400
                read = await http.get("/health", headers={"origin": origin})
                assert "access-control-allow-origin" not in read.headers


@pytest.mark.promise("W-21")
async def test_a_refused_preflight_names_the_setting_that_would_allow_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for origins, dev in (((), False), ((PAGE,), False), ((), True)):
        async with serving(cors_origins=origins, dev=dev) as url, client(url, key=None) as http:
            answer = await http.options(AGENT, headers=preflight("http://other.example"))
        body = answer.json()
        assert (answer.status_code, body["code"]) == (400, "invalid_request")
        assert answer.headers["content-type"] == "application/problem+json"
        assert "SWARMSTREAM_CORS_ORIGINS" in body["detail"]
        assert "http://other.example" in body["detail"]
        assert body["request_id"] == answer.headers["x-request-id"]
    assert len([line for line in caplog.messages if line.startswith('preflight: pages of "http://other.example"')]) == 3
