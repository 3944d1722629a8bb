"""Payloads keep neither secrets nor images once their run has ended."""

import base64
from typing import Any

import orjson
import pytest

from swarmstream.journal.blanking import blank

SECRET = "canary-3f9c"
IMAGE = base64.b64encode(b"\x89PNG" + b"canary" * 100).decode()
MARK = "[808 bytes, sha256 "


def after(payload: Any) -> Any:
    return orjson.loads(blank(orjson.dumps(payload)))


@pytest.mark.parametrize(
    "agent",
    [
        {"mcp_url": f"https://user:{SECRET}@tools.example:8443/mcp"},
        {"mcp_url": f"https://tools.example/mcp?key={SECRET}#{SECRET}"},
        {"mcp_url": f"https://tools.example/api/{SECRET}/mcp"},
        {"mcp_url": f"https://tools.example:no/{SECRET}"},
        {"mcp_url": SECRET},
        {"mcp_config": {"url": "https://tools.example", "authorization_token": SECRET}},
        {"mcp_config": {"url": f"https://tools.example/?{SECRET}", "headers": {"X-Key": SECRET}}},
        {"mcp_config": {"url": "https://tools.example", "api_key": SECRET, "more": [{"deep": SECRET}]}},
        {"mcp_configs": [{"headers": {"X-Key": SECRET}}]},
        {"mcp_configs": {"connections": [{"authorization_token": SECRET}]}},
        {"mcp_confg": {"authorization_token": SECRET}},
    ],
)
@pytest.mark.parametrize("deep", [0, 1, 5])
def test_no_credential_of_an_mcp_server_is_left_at_any_depth(agent: dict[str, Any], deep: int) -> None:
    for _ in range(deep):
        agent = {"agent_name": "A", "handoffs": [agent]}
    for payload in ({"agents": [agent], "task": "t"}, {"agent_config": agent, "task": "t"}):
        body = orjson.dumps(payload)
        for spelt in (body, body.replace(b'"mcp', b'"\\u006dcp').replace(b'"auth', b'"\\u0061uth')):
            assert SECRET.encode() not in blank(spelt)


def test_the_host_and_the_kind_of_an_mcp_server_are_left() -> None:
    config = {"type": "mcp", "transport": "sse", "timeout": 5, "url": "http://[::1]:80/sse", "headers": {"X-A": "b"}}
    assert after({"mcp_config": config}) == {
        "mcp_config": {
            "type": "mcp",
            "transport": "sse",
            "timeout": 5,
            "url": "http://[::1]:80/[blanked]",
            "headers": {"X-A": "[blanked]"},
        }
    }


@pytest.mark.parametrize(
    "payload",
    [
        {"img": IMAGE},
        {"imgs": [IMAGE, IMAGE]},
        {"img": f"data:image/png;base64,{IMAGE}"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]},
        {"history": [{"role": "user", "content": [{"type": "image_url", "image_url": IMAGE}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": IMAGE}}]}]},
    ],
)
def test_images_and_sounds_leave_their_size_and_digest(payload: dict[str, Any]) -> None:
    left = blank(orjson.dumps({"task": "t", **payload}))
    assert IMAGE[:40].encode() not in left
    assert b" bytes, sha256 " in left
    assert len(left) < 250


def test_different_images_have_different_digests() -> None:
    one, same, other = after({"imgs": [IMAGE, IMAGE, IMAGE.lower()]})["imgs"]
    assert one == same != other
    assert one.startswith(MARK)


def test_all_other_fields_stay_as_they_were() -> None:
    payload: dict[str, Any] = {
        "img": "https://pictures.example/1.png?size=2",
        "task": "the headers and the authorization_token",
        "agents": [{"agent_name": "img", "tools_list_dictionary": [{"function": {"parameters": {"headers": {}}}}]}],
        "metadata": {"n": [1, 2.5, None, True], "ü": "\u2028"},
    }
    assert after(payload) == payload
    plain = b'{ "task" : "no such field" }'
    assert blank(plain) is plain


def test_a_payload_nested_too_deep_to_be_written_is_dropped() -> None:
    body = b'{"metadata":' + b"[" * 1000 + b"]" * 1000 + b',"mcp_url":"https://a/' + SECRET.encode() + b'"}'
    assert blank(body) == b"{}"
