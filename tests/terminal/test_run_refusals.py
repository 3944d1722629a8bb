"""`swarmstream run` refusing what it cannot run, with a sentence and an exit code."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tests.conftest import KEY, serving
from tests.terminal.command import SWARM, run
from tests.terminal.fake_server import routes_served

pytestmark = pytest.mark.anyio


_NO_PAYLOADS = [
    (b'{"task":\n  oops}', "standard input, line 2, column 3: "),
    (b"[]", "standard input holds no JSON object"),
    (b'{"task": "\xff"}', "standard input, line 1, column "),
    (b'{"task": NaN}', "standard input, line 1, column 10: "),
]


async def test_a_file_that_is_no_payload_is_a_usage_error(tmp_path: Path) -> None:
    async def is_refused(content: bytes, error: str) -> None:
        ran = await run("-", stdin=content)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(error)
        assert "Traceback" not in ran.err

    async with anyio.create_task_group() as tasks:
        for content, error in _NO_PAYLOADS:
            tasks.start_soon(is_refused, content, error)
        ran = await run(str(tmp_path))
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == f"{tmp_path} cannot be read: Is a directory\n"


_NEITHERS: list[tuple[list[str], str]] = [
    (["purr"], 'There is no file purr. If it is a task and no file, write: --task "purr"'),
    (["my team.json"], "There is no file my team.json. If it is a task"),
    (["x" * 300], "There is no file xxx"),
    (["Why do cats purr?", "--task", "Do they?"], "two tasks are one too many"),
    ([], "Say what to run"),
]


async def test_a_missing_file_is_an_error_that_says_how_to_pass_a_task() -> None:
    async def is_refused(arguments: list[str], error: str) -> None:
        ran = await run(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert error in ran.err

    async with anyio.create_task_group() as tasks:
        for arguments, error in _NEITHERS:
            tasks.start_soon(is_refused, arguments, error)


async def test_an_invalid_address_is_a_usage_error(swarm: str) -> None:
    async def is_refused(server: str) -> None:
        ran = await run(swarm, "--server", server)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("--server")
        assert "Traceback" not in ran.err

    async with anyio.create_task_group() as tasks:
        for server in ("localhost:8000", "ftp://x", "http://", "http://x:y"):
            tasks.start_soon(is_refused, server)


async def test_a_key_that_no_header_can_carry_is_a_usage_error_and_is_not_repeated(swarm: str) -> None:
    ran = await run(swarm, "--server", "http://127.0.0.1:1", "--key", "schlüssel")
    assert (ran.code, ran.out) == (2, "")
    assert "schl" not in ran.err


async def test_a_refusal_is_written_to_stderr() -> None:
    async def is_refused_with(payload: dict[str, Any], *expected: str, key: str = KEY) -> None:
        ran = await run("-", "--server", url, "--key", key, stdin=json.dumps(payload).encode())
        assert (ran.code, ran.out) == (1, "")
        for text in expected:
            assert text in ran.err

    async with serving(default_model="demo/swarm") as url, anyio.create_task_group() as tasks:
        tasks.start_soon(is_refused_with, {**SWARM, "rearrange_flow": ","}, "(column 1) (400 Bad Request, flow_syntax)")
        tasks.start_soon(
            is_refused_with, {**SWARM, "agents": 5, "timeout": "long"}, "(422 Unprocessable", "\n  agents: "
        )
        await is_refused_with(
            SWARM, "invalid_api_key", "\nGive your key with --key, or in the variable SWARMSTREAM_KEY.\n", key="x"
        )


async def test_a_foreign_server_is_named_and_no_redirect_is_followed(swarm: str) -> None:
    asked: list[str] = []

    def redirect(_: Request) -> Response:
        return RedirectResponse("/elsewhere")

    def elsewhere(request: Request) -> Response:
        asked.append(request.headers.get("x-api-key", ""))
        return Response("")

    async with routes_served(
        Route("/v1/swarm/completions", redirect, methods=["POST"]), Route("/elsewhere", elsewhere, methods=["POST"])
    ) as url:
        ran = await run(swarm, "--server", url, "--key", KEY)
    assert (ran.code, ran.out) == (1, "")
    assert "307 Temporary Redirect" in ran.err
    assert not asked

    def page(_: Request) -> Response:
        return Response("<html>", media_type="text/html")

    async with routes_served(Route("/v1/swarm/completions", page, methods=["POST"])) as url:
        ran = await run(swarm, "--server", url)
    assert (ran.code, ran.out) == (1, "")
    assert "no stream of swarmstream's" in ran.err


async def test_an_unreachable_server_is_named(swarm: str) -> None:
    ran = await run(swarm, "--server", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot reach http://127.0.0.1:1" in ran.err
