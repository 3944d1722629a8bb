"""The command line: what it refuses with which words, `serve`, `openapi` and `vacuum`."""

import asyncio
import json
import shlex
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from swarmstream.journal.sqlite.data_directory import FILE
from tests.clients.process import OPENAI_KEY, openai_environ, run, server_process
from tests.clients.sse import Parser, check_stream
from tests.conftest import KEY, client
from tests.fakes.upstream import Exchange, hello, provider
from tests.journal.directories import old_store

pytestmark = pytest.mark.anyio


def test_without_keys_the_server_refuses_to_start_and_explains_how_to_set_them() -> None:
    refused = run("serve")
    assert refused.returncode == 2
    assert "SWARMSTREAM_API_KEYS" in refused.stderr
    assert "serve --dev" in refused.stderr
    assert "did you mean" not in refused.stderr


def test_a_misspelt_setting_for_keys_is_named_with_the_right_one() -> None:
    refused = run("serve", SWARMSTREAM_API_KEY="of-sixteen-letters")
    assert refused.returncode == 2
    assert "SWARMSTREAM_API_KEY is not a setting of this version; did you mean SWARMSTREAM_API_KEYS?" in refused.stderr
    assert "of-sixteen-letters" not in refused.stderr


DEMO = {"SWARMSTREAM_DEFAULT_MODEL": "demo/swarm"}


def test_dev_listens_on_loopback_only() -> None:
    for refused in (run("serve", "--dev", "--host=0.0.0.0"), run("serve", "--dev", SWARMSTREAM_HOST="0.0.0.0")):
        assert refused.returncode == 2
        assert "loopback" in refused.stderr


def test_a_short_key_is_refused_on_addresses_that_others_can_reach() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        refused = run("serve", "--port=0", SWARMSTREAM_HOST=host, SWARMSTREAM_API_KEYS=f"fifteen-letters,{KEY}")
        assert refused.returncode == 2, refused.stderr
        assert "1 of the keys in SWARMSTREAM_API_KEYS" in refused.stderr
        assert "fewer than 16 characters" in refused.stderr
        assert "fifteen-letters" not in refused.stderr


async def test_a_short_key_and_a_misspelt_setting_are_warned_about_and_a_long_key_may_be_used_anywhere() -> None:
    environ = {"SWARMSTREAM_API_KEYS": "fifteen-letters", "SWARMSTREAM_TOOL": "x:y"}
    async with server_process(environ=environ) as server:
        assert "WARNING swarmstream.server: 1 of the API keys: fewer than 16 characters" in server.log
        misspelt = "SWARMSTREAM_TOOL is not a setting of this version; did you mean SWARMSTREAM_TOOLS?"
        assert f"WARNING swarmstream.server: {misspelt}" in server.log
        assert "fifteen-letters" not in server.log
        assert "WARNING swarmstream.server: agents that name no model are refused: this server has no" in server.log
    environ = {**DEMO, "SWARMSTREAM_API_KEYS": "sixteen-letters-", "SWARMSTREAM_HOST": "::"}
    async with server_process(environ=environ) as server:
        assert "WARNING" not in server.log


def test_unusable_settings_are_named_without_their_values() -> None:
    refused = run("serve", "--dev", SWARMSTREAM_PORT="secret-123", SWARMSTREAM_LOG_LEVEL="LOUD")
    assert refused.returncode == 2
    assert "SWARMSTREAM_PORT" in refused.stderr
    assert "SWARMSTREAM_LOG_LEVEL" in refused.stderr
    assert "secret-123" not in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = run("serve", "--dev", SWARMSTREAM_MODEL_ALIASES="{secret-123")
    assert refused.returncode == 2
    assert "model_aliases" in refused.stderr
    assert "secret-123" not in refused.stderr


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("TOOLS", "tools_of_nobody:add", "No module named"),
        ("TOOL_KEYS", '{"calculator": ["secret-123"]}', "TOOL_KEYS"),
        ("TOOL_KEYS", '{"nothing": []}', '"nothing", which is no tool'),
        ("MCP_ALLOWED_HOSTS", "http://example.com", "MCP_ALLOWED_HOSTS"),
    ],
)
def test_unusable_tools_are_named(setting: str, value: str, error: str, tmp_path: Path) -> None:
    environ: dict[str, Any] = {f"SWARMSTREAM_{setting}": value}
    payload = tmp_path / "run.json"
    payload.write_text('{"task": "go", "agent_config": {"agent_name": "A", "model_name": "demo/swarm"}}')
    for refused in [
        run("serve", "--dev", **environ),
        *([] if setting == "TOOL_KEYS" else [run("run", str(payload), **environ)]),
    ]:
        assert refused.returncode in (1, 2)
        assert error in refused.stderr
        assert "secret-123" not in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_run_without_a_providers_key_hints_at_the_demo(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"task": "go", "agent_config": {"agent_name": "A"}}')
    refused = run("run", "run.json", cwd=tmp_path)
    assert refused.returncode == 1
    assert "set OPENAI_API_KEY" in refused.stderr
    assert refused.stderr.endswith("To try things out without a key: --model demo/swarm\n")
    assert run("run", "run.json", "--model", "demo/swarm", cwd=tmp_path).returncode == 0


def test_tools_may_stand_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text('def greet() -> str:\n    """Greet."""\n    return "hello"\n')
    agent = {"agent_name": "A", "model_name": "demo/swarm", "selected_tools": ["greet"]}
    (tmp_path / "run.json").write_text(json.dumps({"task": "go", "agent_config": agent}))
    ended = run("run", "run.json", cwd=tmp_path, SWARMSTREAM_TOOLS="ours:greet")
    assert (ended.returncode, ended.stderr.startswith("[success ")) == (0, True), ended.stderr
    refused = run("run", "run.json", cwd=tmp_path)
    assert refused.returncode == 1
    assert 'no tool "greet"' in refused.stderr


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "No such file"),
        ("[", "TOML"),
        ('[a]\nmodle = "x"', "modle"),
        ('["a"]\nmodel = 5', "model"),
        ('["a"]\nmodel = "nobodys-model"', "no provider is known"),
    ],
)
def test_an_unusable_alias_file_is_named(content: str | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    if content is not None:
        path.write_text(content)
    refused = run("serve", "--dev", SWARMSTREAM_MODELS_FILE=str(path))
    assert refused.returncode == 2
    assert "SWARMSTREAM_MODELS_FILE" in refused.stderr
    assert error in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_openapi_document_is_printed() -> None:
    assert json.loads(run("openapi").stdout)["info"]["title"] == "swarmstream"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_curl_line_of_dev_works_as_pasted_and_streams_three_agents() -> None:
    async with server_process("--dev", environ={}) as server:
        line = await server.printed("curl ")
        pasted = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        out, _ = await pasted.communicate()
        key = shlex.split(line)[4].partition(": ")[2]
        assert f"{server.url}/docs" in server.out
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{server.url}/docs")).status_code == 200
            page = {"origin": "http://localhost:5173", "access-control-request-method": "POST"}
            assert (await http.options(f"{server.url}/v1/swarm/completions", headers=page)).status_code == 200
        server.process.send_signal(signal.SIGINT)
        assert await server.stopped(30) == 0
    events = list(Parser().feed(out))
    check_stream(events)
    assert {event.data["agent"] for event in events if event.event == "chunk"} == {"Optimist", "Pessimist", "Summary"}
    assert events[-1].data["status"] == "success"
    assert key in server.out
    assert key not in server.log
    assert " WARNING " not in server.log
    assert " ERROR " not in server.log


async def test_a_preloaded_server_has_litellm_before_its_first_request() -> None:
    environ = {**DEMO, "SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_LOG_FORMAT": "json"}
    async with server_process("--preload", environ=environ) as server, client(server.url, key=None) as http:
        assert (await http.get("/health/ready")).json() == {"status": "ready"}
        mapped = await anyio.Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "/tiktoken/" in mapped, "litellm's tokenizer is a library in memory"
        server.process.send_signal(signal.SIGTERM)
        assert await server.stopped(30) == 0
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert {line["level"] for line in lines} == {"INFO"}


async def test_a_clean_run_logs_nothing_above_info_and_no_run_logs_a_key() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.system == "clean":
            await hello(exchange)
        else:
            await exchange.refuse(401, f'{{"error": {{"message": "Incorrect API key: {OPENAI_KEY}"}}}}'.encode())

    def payload(system: str) -> dict[str, Any]:
        return {"agent_config": {"agent_name": "A", "model_name": "gpt-4.1", "system_prompt": system}, "task": "go"}

    async with (
        provider(script) as upstream,
        server_process("--preload", environ=openai_environ(upstream)) as server,
        client(server.url) as http,
    ):
        clean = await http.post("/v1/agent/completions", json=payload("clean"))
        await server.logged("POST /v1/agent/completions 200")
        above_info = [line for line in server.log.splitlines() if " INFO " not in line]
        refused = await http.post("/v1/agent/completions", json=payload("refused"))
        await server.logged("POST /v1/agent/completions 502")
    assert clean.status_code == 200
    assert not above_info
    assert refused.json()["code"] == "provider_auth"
    assert "Incorrect API key" in server.log, "what the provider said is told"
    for secret in (OPENAI_KEY, KEY):
        assert secret not in server.log + server.out + clean.text + refused.text


def test_vacuum_gives_the_free_space_of_an_old_directory_back(tmp_path: Path) -> None:
    old_store(tmp_path, runs=40, body=b'{"img":"' + b"canary" * 10_000 + b'"}')
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("DELETE FROM runs WHERE no < 31")
    done = run("vacuum", SWARMSTREAM_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    before, after = (int(part.split()[0].replace(",", "")) for part in done.stdout.split(": ")[1].split("before, "))
    assert before > 40 * 60_000
    assert after == (tmp_path / FILE).stat().st_size < 100_000
    assert b"canary" not in (tmp_path / FILE).read_bytes()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,), "from now on it shrinks by itself"
        assert connection.execute("SELECT count(*) FROM segments, runs WHERE run = no").fetchone() == (10,)


async def test_vacuum_leaves_a_directory_alone_that_a_server_uses(tmp_path: Path) -> None:
    environ = {"SWARMSTREAM_API_KEYS": KEY, "SWARMSTREAM_DATA_DIR": str(tmp_path)}
    async with server_process(environ=environ):
        refused = await anyio.to_thread.run_sync(lambda: run("vacuum", SWARMSTREAM_DATA_DIR=str(tmp_path)))
    assert (refused.returncode, refused.stderr) == (2, f"another process serves the data directory {tmp_path}.\n")


def test_vacuum_without_runs_is_refused_and_creates_no_file(tmp_path: Path) -> None:
    for folder, says in ((str(tmp_path / "none"), "there are no runs in"), ("", "SWARMSTREAM_DATA_DIR is empty")):
        refused = run("vacuum", SWARMSTREAM_DATA_DIR=folder)
        assert refused.returncode == 2
        assert says in refused.stderr
    assert not list(tmp_path.iterdir())
