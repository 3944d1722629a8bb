"""Keys and tokens stand in no log and in no stored file."""

import logging
from pathlib import Path

import anyio
import pytest

from swarmstream.logs import Redactor, TextFormatter
from tests.api.held_runs import SWARM, token_of
from tests.clients.process import OPENAI_KEY, openai_environ, server_process
from tests.conftest import client
from tests.fakes.upstream import hello, provider

pytestmark = pytest.mark.anyio

LONG_KEY = "key-of-an-operators-client-0123456789"


@pytest.mark.parametrize("layout", ["text", "json"])
async def test_no_log_contains_a_key_or_a_token(layout: str, tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with provider(hello) as upstream:
            environ = openai_environ(
                upstream,
                SWARMSTREAM_API_KEYS=LONG_KEY,
                SWARMSTREAM_LOG_LEVEL="DEBUG",
                SWARMSTREAM_LOG_FORMAT=layout,
                SWARMSTREAM_DATA_DIR=str(tmp_path / "data"),
            )
            async with server_process(environ=environ) as server, client(server.url, key=LONG_KEY) as http:
                payload = {"task": "go", "agents": [{"agent_name": "A"}], "background": True}
                answer = await http.post(SWARM, json=payload, headers={"Idempotency-Key": "idem-secret"})
                path = answer.headers["location"]
                token = (await http.post(path.replace("/stream", "/stream-token"))).json()["token"]
                async with client(server.url, key=None) as page:
                    for query_token in (token, token + "x", LONG_KEY):
                        await page.get(path, params={"token": query_token})
                    await page.get("/v1/runs", headers={"authorization": f"Bearer {LONG_KEY}x"})
                    await page.get(path, params={"token": token}, headers={"Last-Event-ID": "x"})
                listed = (await http.get("/v1/swarm/logs")).json()
                server.process.terminate()
                await server.stopped(30)
    assert path in server.log
    secrets = {LONG_KEY, OPENAI_KEY, token, token.rpartition(".")[2], "idem-secret"}
    assert [secret for secret in secrets if secret in server.log + server.out] == []
    [entry] = listed["logs"]
    assert (entry["api_key"], entry["category"], entry["data"]["status"]) == ("***6789", "completion", "success")
    stored = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert [secret for secret in secrets if secret.encode() in stored] == [], "nor does the data directory"
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0, "which is for its owner only"


def test_an_access_log_of_uvicorns_would_not_contain_a_token() -> None:
    """Ours has no query strings, and uvicorn's is off. An operator may put it on."""
    token = token_of("swarms-0")
    line = TextFormatter(Redactor(())).format(
        logging.LogRecord(
            *("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d'),
            ("127.0.0.1:1", "GET", f"/v1/runs/swarms-0/stream?coalesce_ms=5&token={token}", "1.1", 200),
            None,
        )
    )
    assert "coalesce_ms=5" in line
    assert token.rpartition(".")[2] not in line
