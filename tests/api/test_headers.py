"""Headers of every answer: protection against browsers' guesses, and the request id."""

import re

import anyio
import pytest

from tests.clients.raw import raw_client, status_of
from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

PAYLOAD = {"agent_config": {"agent_name": "A", "model_name": "demo/A"}, "task": "go", "stream": True}


async def test_every_answer_forbids_sniffing_and_referrers() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        answers = [await http.get(path) for path in ("/", "/health", "/docs", "/openapi.json", "/v1/runs", "/nowhere")]
        answers += [await http.post("/v1/agent/completions", json=body) for body in (PAYLOAD, {})]
        answers += [await http.head("/health"), await http.delete("/health")]
        answers += [await http.get("/v1/runs", headers={"x-api-key": "wrong"})]
    assert {answer.status_code for answer in answers} == {200, 401, 404, 405, 422}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff", answer
        assert answer.headers["referrer-policy"] == "no-referrer", answer


@pytest.mark.promise("W-16")
async def test_a_request_id_that_could_pass_for_a_log_line_is_replaced() -> None:
    ids = {"mine-1": True, "a.b:c_D-9": True, "x" * 128: True, "x" * 129: False, "": False}
    ids |= {"ok] 2026-01-01 ERROR app: forged [": False, "a b": False, "a/b": False, '"a"': False}
    async with serving() as url, client(url) as http:
        for request_id, is_kept in ids.items():
            received = (await http.get("/health", headers={"x-request-id": request_id})).headers["x-request-id"]
            assert (received == request_id) is is_kept, request_id
            assert re.fullmatch(r"[\w.:-]{1,128}", received, re.ASCII)


async def test_a_request_id_with_letters_beyond_ascii_is_replaced() -> None:
    async with serving() as url, raw_client(url) as raw:
        with anyio.fail_after(30):
            request = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: Zoë\r\n\r\n"
            await raw.send(request.encode("latin-1"))
            answer, _ = await raw.rest()
    assert status_of(answer) == 200
    assert b"x-request-id: req-" in answer
