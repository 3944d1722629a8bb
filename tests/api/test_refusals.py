"""Bad input gets a 4xx before the first byte, in one shape, and nothing is asked of a provider."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from starlette.datastructures import Headers

from swarmstream.api.body import is_sent_by_program
from tests.api.refusals import AGENT, SWARM, agent, check_problem, refusing_server, swarm
from tests.conftest import KEY, client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio

REFUSED: dict[str, tuple[str, dict[str, Any], int, str, list[str | int]]] = {
    "unknown swarm type": (SWARM, swarm(swarm_type="MixtureOfAgents"), 400, "unknown_swarm_type", ["swarm_type"]),
    "flow missing": (SWARM, swarm(swarm_type="AgentRearrange"), 400, "invalid_request", ["rearrange_flow"]),
    "flow syntax": (SWARM, swarm(rearrange_flow="A -> -> B"), 400, "flow_syntax", ["rearrange_flow"]),
    "flow with an unknown name": (SWARM, swarm(rearrange_flow="A -> C"), 400, "unknown_agent", ["rearrange_flow"]),
    "flow with a name twice": (SWARM, swarm(rearrange_flow="A, A"), 400, "flow_syntax", ["rearrange_flow"]),
    "duplicate names": (SWARM, swarm(agents=[agent(), agent()]), 400, "duplicate_agent", ["agents", 1, "agent_name"]),
    "no agents": (SWARM, swarm(agents=[]), 400, "invalid_request", ["agents"]),
    "agents missing": (SWARM, {"task": "go"}, 400, "invalid_request", ["agents"]),
    "no task": (SWARM, swarm(task=None), 400, "no_task", ["task"]),
    "a blank task": (SWARM, swarm(task=" \n"), 400, "no_task", ["task"]),
    "no task for an agent": (AGENT, {"agent_config": agent()}, 400, "no_task", ["task"]),
    "no agent_config": (AGENT, {"task": "go"}, 422, "invalid_schema", ["agent_config"]),
    "agents of a wrong type": (SWARM, swarm(agents="A"), 422, "invalid_schema", ["agents"]),
    "a null agent": (SWARM, swarm(agents=[None]), 422, "invalid_schema", ["agents", 0]),
    "a number for text": (SWARM, swarm(task=5), 422, "invalid_schema", ["task"]),
    "text for a number": (SWARM, swarm(max_loops="two"), 422, "invalid_schema", ["max_loops"]),
    "a bool for a number": (SWARM, swarm(max_loops=True), 422, "invalid_schema", ["max_loops"]),
    "zero loops": (SWARM, swarm(max_loops=0), 422, "invalid_schema", ["max_loops"]),
    "zero loops of an agent": (
        SWARM,
        swarm(agents=[agent(max_loops=0)]),
        422,
        "invalid_schema",
        ["agents", 0, "max_loops"],
    ),
    "text for a bool": (SWARM, swarm(stream="maybe"), 422, "invalid_schema", ["stream"]),
    "a name with a line break": (
        SWARM,
        swarm(agents=[agent("x\nevent: end\ndata: {}")]),
        422,
        "invalid_schema",
        ["agents", 0, "agent_name"],
    ),
    "a name that is too long": (
        SWARM,
        swarm(agents=[agent("x" * 101)]),
        422,
        "invalid_schema",
        ["agents", 0, "agent_name"],
    ),
    "an empty name": (SWARM, swarm(agents=[agent("")]), 422, "invalid_schema", ["agents", 0, "agent_name"]),
    "a wrong role": (
        AGENT,
        {"agent_config": agent(), "history": [{"role": "boss", "content": "x"}]},
        422,
        "invalid_schema",
        ["history", 0, "role"],
    ),
    "metadata that is too large": (SWARM, swarm(metadata={"k": "x" * 5000}), 422, "invalid_schema", ["metadata"]),
    "a wrong on_error": (SWARM, swarm(on_error="ignore"), 422, "invalid_schema", ["on_error"]),
    "a timeout of nothing": (SWARM, swarm(timeout=0), 422, "invalid_schema", ["timeout"]),
    "llm_args that we do not know": (
        SWARM,
        swarm(agents=[agent(llm_args={"api_base": "http://elsewhere"})]),
        400,
        "unsupported_option",
        ["agents", 0, "llm_args", "api_base"],
    ),
    "a model of nobody": (
        SWARM,
        swarm(agents=[agent(model_name="no-such-model")]),
        400,
        "unknown_model",
        ["agents", 0, "model_name"],
    ),
    "a model without credentials": (
        SWARM,
        swarm(agents=[agent(model_name="claude-sonnet-4-20250514")]),
        400,
        "no_credentials",
        ["agents", 0, "model_name"],
    ),
    "a fallback without credentials": (
        SWARM,
        swarm(agents=[agent(fallbacks=["gpt-4.1"])]),
        400,
        "no_credentials",
        ["agents", 0, "fallbacks", 0],
    ),
    "too many agents": (SWARM, swarm(agents=[agent(f"A{n}") for n in range(65)]), 400, "limit_exceeded", ["agents"]),
    "too many turns": (SWARM, swarm(max_loops=501), 400, "limit_exceeded", ["max_loops"]),
    "too many stages": (
        SWARM,
        swarm(rearrange_flow="->".join(["A", "B"] * 129)),
        400,
        "limit_exceeded",
        ["rearrange_flow"],
    ),
    "a tool of nobody's": (
        SWARM,
        swarm(agents=[agent(selected_tools=["calculator", "x"])]),
        400,
        "unknown_tool",
        ["agents", 0, "selected_tools", 1],
    ),
    "a file for an image": (SWARM, swarm(img="/etc/passwd"), 400, "invalid_request", ["img"]),
}


@pytest.mark.promise("W-11")
@pytest.mark.parametrize("stream", [False, True])
async def test_every_refusal_names_its_code_and_its_field(stream: bool) -> None:
    async with refusing_server() as http:
        for name, (path, payload, status, code, location) in REFUSED.items():
            answer = await http.post(path, json={"stream": stream, **payload})
            body = check_problem(answer, status, code)
            assert body["errors"][0]["loc"] == location, name
            assert body["error"]["param"] == ".".join(map(str, location)), name


async def test_a_refusal_helps() -> None:
    async with refusing_server() as http:
        unknown_type = (await http.post(SWARM, json=swarm(swarm_type="GroupChat"))).json()["detail"]
        bad_flow = (await http.post(SWARM, json=swarm(rearrange_flow="A -> -> B"))).json()["detail"]
        no_key = (await http.post(SWARM, json=swarm(agents=[agent(model_name="gpt-4.1")]))).json()["detail"]
    assert "SequentialWorkflow, AgentRearrange, ConcurrentWorkflow" in unknown_type
    assert "column 6" in bad_flow
    assert "OPENAI_API_KEY" in no_key


BROKEN: dict[str, tuple[bytes, int, str]] = {
    "no body": (b"", 422, "invalid_json"),
    "no JSON": (b"{", 422, "invalid_json"),
    "a list": (b"[]", 422, "invalid_schema"),
    "NaN": (b'{"task": "go", "agents": [{"agent_name": "A", "temperature": NaN}]}', 422, "invalid_json"),
    "infinity": (b'{"task": "go", "timeout": 1e999}', 422, "invalid_json"),
    "a lone surrogate": (rb'{"task": "\ud800"}', 422, "invalid_json"),
    "NUL in a value": (rb'{"task": "a\u0000b"}', 422, "invalid_json"),
    "NUL in a key": (rb'{"metadata": {"a\u0000": 1}}', 422, "invalid_json"),
    "a raw control character": (b'{"task": "a\x01"}', 422, "invalid_json"),
    "broken UTF-8": (b'{"task": "\xff"}', 422, "invalid_json"),
    "lists 99,000 deep": (b'{"metadata": {"a": ' + b"[" * 99_000 + b"]" * 99_000 + b"}}", 422, "invalid_json"),
    "objects 33,000 deep": (b'{"a":' * 33_000 + b"1" + b"}" * 33_000, 422, "invalid_json"),
    "a level too many": (b'{"metadata": {"a": ' + b"[" * 99 + b"]" * 99 + b"}}", 422, "invalid_json"),
    "lists 200,001 deep": (b"[" * 200_001, 413, "body_too_large"),
    "too many parts": (b'{"task": "go", "agents": [' + b"1," * 200_000 + b"1]}", 413, "body_too_large"),
    "a member twice": (b'{"task": "go", "metadata": {"a": 1, "b": ":", "a": 2}}', 422, "invalid_json"),
    "an integer of 65 bits": (b'{"task": "go", "metadata": {"a": 18446744073709551616}}', 422, "invalid_json"),
    "a negative one": (b'{"task": "go", "metadata": {"a": -9223372036854775809}}', 422, "invalid_json"),
    "an endless number": (b'{"task": "go", "max_loops": ' + b"9" * 5000 + b"}", 422, "invalid_json"),
}


async def test_invalid_and_harmful_json_is_refused() -> None:
    headers = {"content-type": "application/json"}
    async with refusing_server() as http:
        for name, (content, status, code) in BROKEN.items():
            answer = await http.post(SWARM, content=content, headers=headers)
            assert answer.status_code == status, (name, answer.text)
            check_problem(answer, status, code)


@pytest.mark.promise("W-13")
async def test_a_body_full_of_mistakes_does_not_delay_other_requests() -> None:
    """As many wrong items as a body can hold; a server that collected a complaint for each would stand still."""
    headers = {f" {number}": number for number in range(45_000)}
    bodies: list[dict[str, Any]] = [
        {"agents": [1] * 190_000},
        {"messages": [{}] * 60_000},
        {"task": "go", "tasks": [1] * 190_000},
        {"agents": [{"agent_name": "A", "mcp_config": {"url": "https://example.com/mcp", "headers": headers}}]},
    ]
    async with refusing_server() as http:
        for body in bodies:
            with anyio.fail_after(30):
                problem = check_problem(await http.post(SWARM, json=body), 422, "invalid_schema")
            assert len(problem["errors"]) == 1


@pytest.mark.promise("W-31")
async def test_metadata_comes_back_as_it_was_however_deep() -> None:
    async with serving(models={"demo": ScriptedModel({"A": ["a"], "B": ["b"]})}) as url, client(url) as http:
        deep: Any = 1
        for _ in range(98):
            deep = [deep]
        answer = await http.post(SWARM, json=swarm(metadata={"deep": deep}))
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"deep": deep}


async def test_a_body_that_is_not_json_is_named_as_such() -> None:
    async with refusing_server() as http:
        for content_type in ("text/plain", "multipart/form-data; boundary=x", ""):
            answer = await http.post(SWARM, content=b"{}", headers={"content-type": content_type})
            body = check_problem(answer, 415, "unsupported_media_type")
            assert "-H 'Content-Type: application/json'" in body["detail"]


FORM = "application/x-www-form-urlencoded"
"""What `curl -d` declares its body as."""


@pytest.mark.promise("W-5")
async def test_a_body_with_the_default_content_type_of_curl_is_read_as_json() -> None:
    model = ScriptedModel({"A": ["a"], "B": ["b"]})
    body = b"\r\n\t " + json.dumps(swarm()).encode()
    async with serving(models={"demo": model}) as url, client(url, key=None) as http:
        for key in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
            for more in (
                {},
                {"content-type": f"{FORM}; charset=UTF-8"},
                {"sec-fetch-site": "same-origin"},
                {"sec-fetch-site": "none"},
            ):
                answer = await http.post(SWARM, content=body, headers={"content-type": FORM, **key, **more})
                assert answer.status_code == 200, (more, answer.text)


@pytest.mark.promise("W-5")
async def test_a_body_that_a_page_could_have_sent_as_a_form_is_not_read_as_json() -> None:
    body = json.dumps(swarm()).encode()
    refused: list[tuple[bytes, dict[str, str]]] = [
        (body, {"origin": "https://elsewhere.example"}),
        (body, {"origin": "null"}),
        (body, {"origin": ""}),
        (body, {"referer": "https://elsewhere.example/page"}),
        (body, {"referer": ""}),
        (body, {"sec-fetch-site": "cross-site"}),
        (body, {"sec-fetch-site": "same-site"}),
        (body, {"sec-fetch-site": ""}),
        (b"", {}),
        (b"[]", {}),
        (b"task=go", {}),
        (b"\x0b{}", {}),
        (b"%7B%22task%22%3A%22go%22%7D", {}),
    ]
    async with refusing_server() as http:
        for content, headers in refused:
            answer = await http.post(SWARM, content=content, headers={"content-type": FORM, **headers})
            assert (
                "content-type: application/json"
                in check_problem(answer, 415, "unsupported_media_type")["detail"].lower()
            ), (content, headers)
        mixed = [("content-type", FORM), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]
        check_problem(await http.post(SWARM, content=body, headers=mixed), 415, "unsupported_media_type")
        for key in ({}, {"cookie": f"x-api-key={KEY}"}, {"authorization": "Basic eDp5"}):
            http.headers.pop("x-api-key", None)
            path = f"{SWARM}?x-api-key={KEY}&token={KEY}"
            answer = await http.post(path, content=body, headers={"content-type": FORM, **key})
            check_problem(answer, 401, "invalid_api_key")


def test_a_form_without_a_key_in_a_header_is_one() -> None:
    assert is_sent_by_program(Headers({"x-api-key": "k"}))
    assert is_sent_by_program(Headers({"authorization": "Bearer k"}))
    assert not is_sent_by_program(Headers({"cookie": "x-api-key=k"}))


async def test_fifty_megabytes_are_refused_and_the_client_gets_the_refusal() -> None:
    body = b'{"task": "' + b"x" * 50_000_000 + b'"}'

    async def pieces() -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    headers = {"content-type": "application/json"}
    async with refusing_server() as http:
        check_problem(await http.post(SWARM, content=body, headers=headers), 413, "body_too_large")
        check_problem(await http.post(SWARM, content=pieces(), headers=headers), 413, "body_too_large")


async def test_a_client_that_leaves_while_it_sends_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving() as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST {SWARM} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + b"content-length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()
        with anyio.fail_after(30):
            while "POST /v1/swarm/completions 400" not in caplog.text:
                await anyio.lowlevel.checkpoint()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("sent", [b"", b'{"task": '])
async def test_a_body_that_never_arrives_is_not_waited_for(sent: bytes) -> None:
    clock = DrivenClock()
    async with serving(body_seconds=15, clock=clock) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST {SWARM} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + b"content-length: 1000\r\n\r\n" + sent)
        await clock.waiting(15)
        await clock.advance(15)
        with anyio.fail_after(30):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_timeout"


@pytest.mark.promise("W-1")
async def test_the_key_is_asked_for_before_anything_else() -> None:
    async with serving() as url, client(url, key=None) as http:
        for headers in (
            {},
            {"x-api-key": "wrong"},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {KEY}"},
        ):
            answer = await http.post(SWARM, content=b"not json", headers=headers)
            check_problem(answer, 401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "wrong" not in answer.text
        for path in ("/v1/models", "/v1/models/available", "/v1/swarms/available", "/v1/runs/swarms-0/stream"):
            check_problem(await http.get(path), 401, "invalid_api_key")


@pytest.mark.promise("W-1")
async def test_both_ways_to_send_a_key_are_accepted() -> None:
    async with serving() as url, client(url, key=None) as http:
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}):
            assert (await http.get("/v1/models", headers=headers)).status_code == 200


async def test_a_key_without_the_word_bearer_is_answered_with_how_to_send_it() -> None:
    async with serving() as url, client(url, key=None) as http:
        for value in (KEY, f"Basic {KEY}", f"Token {KEY}", "Bearer", f"Bearer{KEY}"):
            answer = await http.get("/v1/models", headers={"authorization": value})
            check_problem(answer, 401, "invalid_api_key")
            assert "Authorization: Bearer <key>" in answer.json()["detail"]
            assert "behind the word Bearer" in answer.json()["detail"]
            assert KEY not in answer.text
        nothing = await http.get("/v1/models")
    check_problem(nothing, 401, "invalid_api_key")
    assert nothing.json()["detail"] == "send an API key, as x-api-key: <key> or as Authorization: Bearer <key>"


@pytest.mark.promise("W-13")
async def test_unknown_paths_and_methods_have_the_same_error_body() -> None:
    async with serving() as url, client(url) as http:
        check_problem(await http.get("/nowhere"), 404, "not_found")
        answer = await http.get(SWARM)
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


async def test_a_full_server_says_so_and_when_to_come_back() -> None:
    model = ScriptedModel({"A": ["a"]}, order="never")
    async with serving(models={"demo": model}, max_runs=1) as url, client(url) as http:
        payload = {"agent_config": agent(), "task": "go", "stream": True}
        async with http.stream("POST", AGENT, json=payload) as first:
            assert first.status_code == 200
            answer = await http.post(AGENT, json=payload)
        body = check_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert body["error"]["type"] == "server_error"


@pytest.mark.promise("W-45")
async def test_no_name_can_forge_a_frame() -> None:
    """What is no control character may stand in a name; JSON escapes the rest."""
    name = 'x"}\\n\\nevent: end data: {}'
    model = ScriptedModel({name: ["\n\nevent: end\ndata: {}\n\n"]})
    payload = {"agent_config": {"agent_name": name, "model_name": f"demo/{name}"}, "task": "go", "stream": True}
    async with serving(models={"demo": model}) as url, client(url) as http:
        answer = await http.post(AGENT, json=payload)
    lines = answer.text.split("\n")
    assert [line for line in lines if line.startswith("event: ")].count("event: end") == 1
    assert json.loads(lines[-3].removeprefix("data: "))["outputs"][0]["role"] == name
