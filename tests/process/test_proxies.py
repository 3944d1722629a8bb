"""The proxy configurations of docs/operations.md work: one process a key, photos pass, tokens arrive one by one."""

import asyncio
import base64
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.conftest import KEY, OTHER_KEY
from tests.docs.pages import blocks
from tests.fakes.held_provider import HeldProvider
from tests.fakes.local_models import local_models
from tests.fakes.upstream import provider

pytestmark = pytest.mark.anyio

PHOTO = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(1_500_000)).decode()


def _with_servers(config: str, first: str, second: str) -> str:
    return config.replace("127.0.0.1:8000", first).replace("127.0.0.1:8001", second)


def _nginx(folder: Path, port: int, first: str, second: str) -> tuple[list[str], str]:
    """The command that runs the page's nginx, and its URL."""
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2"
    written = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *made.split(), *written], check=True, capture_output=True)
    [servers] = blocks("operations", "nginx")
    servers = _with_servers(servers, first, second).replace(
        "listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"
    )
    servers = servers.replace("/etc/ssl/swarmstream.pem", str(folder / "cert.pem"))
    servers = servers.replace("/etc/ssl/swarmstream.key", str(folder / "key.pem"))
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{servers}}}\n"
    )
    return ["nginx", "-c", str(config), "-p", str(folder), "-e", "stderr"], f"https://127.0.0.1:{port}"


def _haproxy(folder: Path, port: int, first: str, second: str) -> tuple[list[str], str]:
    """The command that runs the page's haproxy, and its URL."""
    [config] = blocks("operations", "haproxy")
    path = folder / "haproxy.cfg"
    path.write_text(_with_servers(config, first, second).replace("bind :8080", f"bind 127.0.0.1:{port}"))
    return ["haproxy", "-db", "-f", str(path)], f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _running(command: list[str], url: str) -> AsyncGenerator[Callable[[str], httpx.AsyncClient]]:
    """The proxy, for the length of the block: a function that makes clients with a key."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def client(key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=60, trust_env=False, verify=trusting)

    process = await asyncio.create_subprocess_exec(*command)
    try:
        with anyio.fail_after(30):
            async with client(KEY) as http:
                while True:
                    try:
                        await http.get("/health")
                        break
                    except httpx.ConnectError:
                        assert process.returncode is None, "the proxy did not start"
                        await anyio.sleep(0.02)
        yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize(("program", "configured"), [("nginx", _nginx), ("haproxy", _haproxy)])
async def test_readmes_proxy_works(
    program: str,
    configured: Callable[[Path, int, str, str], tuple[list[str], str]],
    tmp_path: Path,
    free_tcp_port: int,
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    held = HeldProvider()
    payload: dict[str, Any] = {"agent_config": {"agent_name": "A"}, "task": "go", "stream": True, "img": PHOTO}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with (
        provider(held) as upstream,
        local_models(upstream, folders[0]) as first,
        local_models(upstream, folders[1]) as second,
    ):
        command, url = configured(tmp_path, free_tcp_port, *(each.removeprefix("http://") for each in (first, second)))
        async with _running(command, url) as client:
            for key in (KEY, OTHER_KEY):
                held.go_on = anyio.Event()
                async with client(key) as http:
                    with anyio.fail_after(60):
                        async with http.stream("POST", "/v1/agent/completions", json=payload) as response:
                            assert response.status_code == 200, await response.aread()
                            body = ""
                            async for text in response.aiter_text():
                                body += text
                                if '"content":"first"' in body:
                                    held.go_on.set()  # the provider waits for this before it says more
                    assert body.count("event: end\n") == 1
                    run = response.headers["location"].removesuffix("/stream")
                # Each request on a connection of its own: round robin would send half of them elsewhere.
                for _ in range(4):
                    async with client(key) as http:
                        assert (await http.get(run)).status_code == 200
