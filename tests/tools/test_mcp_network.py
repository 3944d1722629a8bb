"""The network of MCP servers: allowed hosts, proxies, names, certificates."""

import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmstream.errors import McpHostRefused
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.tools.mcp.hub import McpHub
from tests.fakes.mcp_server import FakeMcpServer, fake_mcp, listening
from tests.tools.mcp_calls import call, fault_of, server, tools_of

pytestmark = pytest.mark.anyio


async def test_a_host_that_is_not_allowed_is_refused_and_its_name_not_even_resolved() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    async with fake_mcp() as fake:
        refusing = McpHub(AllowedHosts(["example.com"]), resolve=resolve)
        with pytest.raises(McpHostRefused):
            refusing.check_url(fake.url)
        with pytest.raises(McpHostRefused):
            await refusing.probe(server(fake.url), seconds=5)
        assert "is refused: the MCP server" in await fault_of(fake.url, refusing)
        assert "is refused" in await fault_of("nonsense", refusing)
        assert fake.connections == 0


async def test_a_name_with_an_address_that_is_not_allowed_is_refused_and_never_contacted() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert host == "public.example"
        return ["93.184.216.34", "127.0.0.1"]

    async with fake_mcp() as fake:
        port = fake.url.split(":")[2]
        refusing = McpHub(AllowedHosts(["*"]), resolve=resolve)
        with pytest.raises(McpHostRefused, match="has an address that this server does not allow"):
            await refusing.probe(server(f"http://public.example:{port}"), seconds=5)
        assert "has an address" in await fault_of(f"http://public.example:{port}", refusing)
        assert fake.connections == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_mcp() as proxy, fake_mcp() as fake:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with tools_of(fake.url) as tools:
            assert await call(tools["echo"]) == "{}"
        assert proxy.connections == 0


async def test_the_host_header_is_the_name_that_was_asked_for() -> None:
    async with fake_mcp() as fake:
        url = fake.url.replace("127.0.0.1", "localhost")
        async with tools_of(url) as tools:
            await call(tools["echo"])
        assert {asked.headers["host"] for asked in fake.asked} == {url.split("/")[2]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For `api.example.test`, with its key, signed by itself."""
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    subject = "-subj /CN=tests -addext subjectAltName=DNS:api.example.test"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 {subject}"
    subprocess.run([*command.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + file.with_suffix(".pem.crt").read_text())
    return file


async def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def certified(
    certificate: Path, host: str = "api.example.test"
) -> AsyncGenerator[tuple[FakeMcpServer, str, list[str]]]:
    """A server with that certificate, its URL by a name, and the names that it was asked for by TLS."""
    names: list[str] = []

    def record_name(connection: object, name: str, context: object) -> None:
        names.append(name)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = record_name
    fake = FakeMcpServer()
    async with listening(fake.serve, ssl=tls) as origin:
        yield fake, f"https://{host}:{origin.split(':')[2]}/mcp", names


async def test_tls_is_by_the_name_though_we_connect_to_an_address(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".pem.crt"))
    mcp_hub = McpHub(AllowedHosts(["api.example.test", "127.0.0.1"]), resolve=here, tls=trusting)
    async with certified(certificate) as (fake, url, names), tools_of(url, mcp_hub) as tools:
        assert await call(tools["echo"]) == "{}"
        assert set(names) == {"api.example.test"}
        assert fake.asked[0].headers["host"] == url.split("/")[2]


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_certificate_that_does_not_prove_the_name_is_refused(certificate: Path, is_trusted: bool) -> None:
    tls = ssl.create_default_context(cafile=certificate.with_suffix(".pem.crt")) if is_trusted else None
    host = "other.example.test" if is_trusted else "api.example.test"
    mcp_hub = McpHub(AllowedHosts([host, "127.0.0.1"]), resolve=here, tls=tls)
    async with certified(certificate, host) as (fake, url, _):
        assert "cannot be reached" in await fault_of(url, mcp_hub)
        assert not fake.asked


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_an_address_that_does_not_answer_is_passed_over_for_the_next(addresses: list[str]) -> None:
    async def both(host: str, port: int) -> list[str]:
        return addresses

    async with fake_mcp() as fake:
        url = f"http://example.test:{fake.url.split(':')[2]}"
        mcp_hub = McpHub(AllowedHosts(["example.test", "127.0.0.0/8"]), resolve=both)
        async with tools_of(url, mcp_hub) as tools:
            assert await call(tools["echo"]) == "{}"
