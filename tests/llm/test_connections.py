"""What goes over the wire to a provider, seen from its other end: whom we trust, which way we go, what we use again."""

import asyncio
import base64
import contextlib
import gc
import importlib
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx
import pytest
from anyio import to_thread

from swarmstream.errors import (
    ModelError,
    ProviderError,
    ProviderRejected,
    ProviderUnreachable,
    UpstreamInvalid,
    UpstreamTruncated,
)
from swarmstream.llm.base import Delta, ModelCall, Sampling
from swarmstream.llm.http.connection import Connection
from swarmstream.llm.http.exchange import Exchange, Response
from swarmstream.llm.http.pool import ConnectionPool
from swarmstream.llm.http.proxy import Disconnected
from swarmstream.llm.model_ref import ChatEndpoint, ModelRef
from swarmstream.llm.providers.direct import DirectModel
from swarmstream.llm.providers.litellm.setup import import_litellm
from tests.fakes.clock import DrivenClock
from tests.fakes.upstream import reset

pytestmark = pytest.mark.anyio

KEY = "sk-provider-secret-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}
LOCAL_PORT_1 = "http://127.0.0.1:1"
NOWHERE = f"{'a' * 64}.example.test"
"""A host whose name is too long to be looked up: only a proxy can be asked for it."""
CERTIFIED = "api.example.test"
"""A host that our `Authority` vouches for, beside 127.0.0.1."""
KIB = 1 << 10


# --- The other end --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    line: str
    headers: Mapping[str, str]


class Line:
    """One connection, as whoever is at its other end has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = bytearray()
        """All that has come, without TLS if there is some."""
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request:
        """The next one."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        self.received += head + body
        return Request(first, headers)

    async def send(self, *packets: bytes) -> None:
        """Each packet is read before the next one comes."""
        for packet in packets:
            self._writer.write(packet)
            await self._writer.drain()
            await settled()

    async def gone(self) -> None:
        """Wait until we have hung up."""
        try:
            while received := await self._reader.read(64 * KIB):
                self.received += received
        except ConnectionError:
            pass  # with a reset

    async def relay(self, port: int) -> None:
        """Pass everything on to another port and back, until one of the ends hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def there() -> None:
            while received := await self._reader.read(64 * KIB):
                self.received += received
                writer.write(received)

        async def back() -> None:
            while received := await reader.read(64 * KIB):
                self._writer.write(received)

        try:
            await _until_first(there(), back())
        finally:
            writer.close()

    def half_close(self) -> None:
        """Hang up, and listen on."""
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        reset(self._writer)


async def _until_first(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends, or breaks."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Talk: TypeAlias = Callable[[Line], Awaitable[None]]


class Peer:
    """What listens on a port of this machine: a provider, a proxy, or who listens in. It talks on every line alike."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.port = 0
        self.lines: list[Line] = []
        self.requests: list[Request] = []
        self._talks: set[asyncio.Task[None]] = set()

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def https(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        self._talks.add(asyncio.ensure_future(self._serve(line)))

    async def _serve(self, line: Line) -> None:
        try:
            await self.talk(line)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # we hung up, as many tests want
        finally:
            line.close()

    async def idle(self) -> None:
        """Wait until every line is at its end."""
        if self._talks:
            await asyncio.wait(self._talks)

    async def end(self) -> list[BaseException]:
        """End every talk. What went wrong in any."""
        for talk in self._talks:
            talk.cancel()
        ends = await asyncio.gather(*self._talks, return_exceptions=True)
        return [end for end in ends if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError)]


@asynccontextmanager
async def peer(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Peer]:
    """A peer for the length of the block, in which nothing waits longer than five seconds."""
    its = Peer(talk)
    failures: list[BaseException] = []
    server = await asyncio.start_server(its.serve, "127.0.0.1", 0, ssl=tls)
    its.port = server.sockets[0].getsockname()[1]
    try:
        with anyio.fail_after(30):
            yield its
    finally:
        server.close()
        with anyio.move_on_after(5, shield=True):
            failures = await its.end()
            await server.wait_closed()
    assert failures == []


async def settled() -> None:
    """What has arrived at any socket of this loop is read and acted upon."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b".")
        for _ in range(5):
            await anyio.wait_readable(ours)


def whole(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    """A complete answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def answering(*packets: bytes) -> Talk:
    """One answer to whatever is asked, as often as it is."""

    async def talk(line: Line) -> None:
        while True:
            await line.request()
            await line.send(*packets)

    return talk


def once(*packets: bytes) -> Talk:
    """One answer, and hanging up after it."""

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(*packets)

    return talk


# --- Our end --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(**environ: str) -> AsyncGenerator[ConnectionPool]:
    connections = ConnectionPool(environ)
    try:
        yield connections
    finally:
        await connections.close()
        await settled()


@pytest.fixture
async def connections() -> AsyncGenerator[ConnectionPool]:
    async with connected() as its:
        yield its


async def post(connections: ConnectionPool, url: str) -> Response:
    return await connections.post(url, [b"{}"], HEADERS)


async def ask(connections: ConnectionPool, url: str) -> list[bytes]:
    """The parts of an answer's body as they came."""
    parts: list[bytes] = []

    def take(part: bytes) -> bool:
        parts.append(part)
        return False

    answer = await post(connections, url)
    try:
        await answer.read(take)
    finally:
        answer.close()
    return parts


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
FINISH = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = whole(CHUNK + FINISH + DONE, "content-type: text/event-stream")


@asynccontextmanager
async def modelled(**environ: str) -> AsyncGenerator[DirectModel]:
    model = DirectModel({"LOCAL_KEY": KEY, **environ})
    try:
        yield model
    finally:
        await model.close()
        await settled()


async def say(model: DirectModel, url: str) -> str:
    """What a model says."""
    endpoint = ChatEndpoint(url=url, model="m", key_env="LOCAL_KEY")
    its = ModelRef(name="m", target="openai/m", backend="direct", endpoint=endpoint)
    deltas: list[Delta] = []
    sampling = Sampling(None, None, None, None, {})
    await model.stream(ModelCall(its, [{"role": "user", "content": "go"}], sampling), deltas.extend)
    return "".join(delta for delta in deltas if isinstance(delta, str))


async def fails(model: DirectModel, url: str, error: type[ModelError]) -> None:
    with pytest.raises(error) as caught:
        await say(model, url)
    assert type(caught.value) is error


# --- Whom we trust --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """An authority that nobody knows, and a certificate of its for 127.0.0.1 and `CERTIFIED`."""

    home: Path

    @property
    def file(self) -> Path:
        return self.home / "authority.pem"

    @property
    def folder(self) -> Path:
        """It holds the file under the name that OpenSSL looks for."""
        return self.home / "certificates"

    @property
    def tls(self) -> ssl.SSLContext:
        """With that certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.home / "provider.pem", self.home / "provider.key")
        return context


OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
CN = swarmstream tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[provider]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:api.example.test
authorityKeyIdentifier = keyid
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    its = Authority(tmp_path_factory.mktemp("authority"))
    (its.home / "openssl.cnf").write_text(OPENSSL)

    def openssl(command: str) -> str:
        done = subprocess.run(["openssl", *command.split()], cwd=its.home, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for name in ("authority", "provider"):
        openssl(f"ecparam -name prime256v1 -genkey -noout -out {name}.key")
    openssl("req -config openssl.cnf -extensions authority -x509 -days 2 -key authority.key -out authority.pem")
    openssl("req -config openssl.cnf -new -subj /CN=provider -key provider.key -out provider.csr")
    openssl(
        "x509 -req -in provider.csr -CA authority.pem -CAkey authority.key -set_serial 2 -days 2"
        " -extfile openssl.cnf -extensions provider -out provider.pem"
    )
    its.folder.mkdir()
    (its.folder / f"{openssl('x509 -hash -noout -in authority.pem')}.0").write_bytes(its.file.read_bytes())
    return its


def trusting(authority: Authority) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(authority.file)}


async def test_an_authority_in_ssl_cert_file_is_trusted(authority: Authority) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**trusting(authority)) as connections:
        assert await ask(connections, provider.https) == [b"hello"]
        assert KEY.encode() in provider.lines[0].received


async def test_an_authority_in_ssl_cert_dir_is_trusted(authority: Authority) -> None:
    folders = f"/nowhere:{authority.folder}"
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(SSL_CERT_DIR=folders) as connections:
        assert await ask(connections, provider.https) == [b"hello"]


async def test_a_connection_with_tls_is_used_again(authority: Authority) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**trusting(authority)) as connections:
        for _ in range(3):
            await ask(connections, provider.https)
        assert len(provider.lines) == 1


@asynccontextmanager
async def listened_to(port: int) -> AsyncGenerator[Peer]:
    """Who passes everything on to a port: what it has heard is what was on the wire."""
    async with peer(lambda line: line.relay(port)) as its:
        yield its


async def test_an_unknown_authority_is_refused_before_anything_is_said(authority: Authority) -> None:
    async with (
        peer(answering(whole()), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        connected() as connections,
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(connections, wire.https)
        await wire.idle()
        assert provider.lines == [], "the handshake did not come to its end"
        assert KEY.encode() not in wire.lines[0].received


async def test_a_certificate_for_another_host_is_refused_before_anything_is_said(authority: Authority) -> None:
    async with (
        peer(answering(whole()), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        connected(**trusting(authority)) as connections,
    ):
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await post(connections, f"https://localhost:{wire.port}")
        await wire.idle()
        assert provider.lines == []


async def test_what_is_said_to_a_trusted_provider_cannot_be_listened_to(authority: Authority) -> None:
    async with (
        peer(answering(whole()), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        connected(**trusting(authority)) as connections,
    ):
        await ask(connections, wire.https)
        assert KEY.encode() in provider.lines[0].received
        assert KEY.encode() not in wire.lines[0].received


async def test_a_provider_without_tls_is_refused_before_anything_is_said() -> None:
    async with peer(Line.gone) as provider, connected() as connections:
        task = asyncio.ensure_future(post(connections, provider.https))
        await settled()
        await provider.lines[0].send(whole(status="400 Bad Request"))
        with pytest.raises(ssl.SSLError):
            await task
        await provider.idle()
        assert KEY.encode() not in provider.lines[0].received


async def test_litellm_cannot_be_told_to_trust_anybody(authority: Authority) -> None:
    """One of its adapters says so for every request."""
    await to_thread.run_sync(import_litellm)
    http: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    client = http.AsyncHTTPHandler(ssl_verify=False)
    async with peer(answering(whole()), tls=authority.tls) as provider:
        with pytest.raises(httpx.HTTPError):
            await client.post(f"{provider.https}/", json={"key": KEY})
        await client.close()
        assert all(line.received == b"" for line in provider.lines)


@pytest.mark.noisy
async def test_a_certificate_that_is_not_trusted_is_a_provider_that_cannot_be_reached(authority: Authority) -> None:
    async with peer(answering(STREAM), tls=authority.tls) as provider, modelled() as model:
        await fails(model, provider.https, ProviderUnreachable)
        assert provider.lines == []


@pytest.mark.parametrize(
    "name",
    [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ],
)
async def test_an_empty_variable_for_certificates_is_as_none(authority: Authority, name: str) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**{name: ""}) as connections:
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(connections, provider.https)


@pytest.mark.noisy
async def test_certificates_that_are_not_there_leave_a_provider_out_of_reach(authority: Authority) -> None:
    nowhere = str(authority.folder / "none.pem")
    async with peer(answering(STREAM), tls=authority.tls) as provider, modelled(SSL_CERT_FILE=nowhere) as model:
        await fails(model, provider.https, ProviderUnreachable)


# --- Which way we go ------------------------------------------------------------------------------------------------


def tunnel(port: int, seen: list[Request]) -> Talk:
    """A proxy that connects to this port, whatever host it is asked for."""

    async def talk(line: Line) -> None:
        seen.append(await line.request())
        await line.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await line.relay(port)

    return talk


@asynccontextmanager
async def tunnelled(authority: Authority, *, proxy_tls: bool = False) -> AsyncGenerator[tuple[Peer, Peer]]:
    """A provider with TLS, and a proxy to it."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(peer(answering(whole()), tls=authority.tls))
        proxy = await stack.enter_async_context(peer(answering(), tls=authority.tls if proxy_tls else None))
        proxy.talk = tunnel(provider.port, proxy.requests)
        yield provider, proxy


async def test_a_proxy_for_https_is_asked_for_a_tunnel_and_sees_no_key(authority: Authority) -> None:
    async with tunnelled(authority) as (provider, proxy):
        async with connected(HTTPS_PROXY=proxy.http, **trusting(authority)) as connections:
            assert await ask(connections, f"https://{CERTIFIED}/v1?a=b") == [b"hello"]
            assert await ask(connections, f"https://{CERTIFIED}/v1?a=b") == [b"hello"]
        assert [request.line for request in proxy.requests] == [f"CONNECT {CERTIFIED}:443 HTTP/1.1"]
        assert proxy.requests[0].headers == {"host": f"{CERTIFIED}:443"}
        said = provider.lines[0].received
        assert said.startswith(b"POST /v1?a=b HTTP/1.1\r\nhost: api.example.test\r\n")
        assert KEY.encode() in said
        assert KEY.encode() not in proxy.lines[0].received


async def test_a_certificate_is_checked_through_a_proxy(authority: Authority) -> None:
    async with tunnelled(authority) as (provider, proxy):
        async with connected(HTTPS_PROXY=proxy.http, **trusting(authority)) as connections:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await post(connections, "https://other.example.test/v1")
        await proxy.idle()
        assert provider.lines == []


async def test_a_proxy_may_have_tls_itself(authority: Authority) -> None:
    async with tunnelled(authority, proxy_tls=True) as (provider, proxy):
        async with connected(HTTPS_PROXY=proxy.https, **trusting(authority)) as connections:
            assert await ask(connections, f"https://{CERTIFIED}/") == [b"hello"]
        assert KEY.encode() in provider.lines[0].received
        assert KEY.encode() not in proxy.lines[0].received


async def test_a_proxy_with_tls_whose_certificate_is_not_trusted_is_told_nothing(authority: Authority) -> None:
    async with tunnelled(authority, proxy_tls=True) as (_, proxy), connected(HTTPS_PROXY=proxy.https) as connections:
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(connections, f"https://{CERTIFIED}/")
        assert proxy.lines == []


@pytest.mark.parametrize(("host", "asked"), [("[::1]:8443", "[::1]:8443"), ("[::1]", "[::1]:443"), ("a.b:1", "a.b:1")])
async def test_a_tunnel_is_asked_for_with_host_and_port(host: str, asked: str) -> None:
    async with peer(once(whole(status="403 Forbidden"))) as proxy, connected(HTTPS_PROXY=proxy.http) as connections:
        with pytest.raises(Disconnected):
            await post(connections, f"https://{host}/v1")
        assert proxy.lines[0].received.startswith(f"CONNECT {asked} HTTP/1.1\r\nhost: {asked}\r\n".encode())


async def test_a_proxy_for_http_is_told_the_whole_address() -> None:
    async with peer(answering(whole())) as proxy, connected(HTTP_PROXY=proxy.http) as connections:
        assert await ask(connections, f"http://{NOWHERE}:81/v1?a=b") == [b"hello"]
        start = f"POST http://{NOWHERE}:81/v1?a=b HTTP/1.1\r\nhost: {NOWHERE}:81\r\n"
        assert proxy.lines[0].received.startswith(start.encode())


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTP_PROXY", f"http://{NOWHERE}"),
        ("http_proxy", f"http://{NOWHERE}"),
        ("ALL_PROXY", f"http://{NOWHERE}"),
        ("all_proxy", f"http://{NOWHERE}"),
        ("HTTPS_PROXY", f"https://{NOWHERE}"),
        ("https_proxy", f"https://{NOWHERE}"),
        ("ALL_PROXY", f"https://{NOWHERE}"),
        ("all_proxy", f"https://{NOWHERE}"),
    ],
)
async def test_a_proxy_is_named_in_upper_or_lower_case_with_a_scheme_or_without(variable: str, url: str) -> None:
    async with peer(once(whole(status="502 Bad Gateway"))) as proxy:
        for named in (proxy.http, f"127.0.0.1:{proxy.port}"):
            async with connected(**{variable: named}) as connections:
                try:
                    answer = await post(connections, url)
                    answer.close()
                except Disconnected:
                    assert url.startswith("https:")
        assert len(proxy.lines) == 2


async def test_a_schemes_own_proxy_comes_before_that_for_all_and_lower_case_before_upper() -> None:
    async with peer(answering(whole())) as proxy:
        for environ in (
            {"HTTP_PROXY": proxy.http, "ALL_PROXY": LOCAL_PORT_1, "HTTPS_PROXY": LOCAL_PORT_1},
            {"http_proxy": proxy.http, "HTTP_PROXY": LOCAL_PORT_1},
            {"http_proxy": "", "HTTP_PROXY": proxy.http},
        ):
            async with connected(**environ) as connections:
                assert await ask(connections, f"http://{NOWHERE}") == [b"hello"]


async def test_a_proxy_for_one_scheme_is_not_asked_for_the_other() -> None:
    async with peer(answering(whole())) as provider, connected(HTTPS_PROXY=LOCAL_PORT_1) as connections:
        assert await ask(connections, provider.http) == [b"hello"]


USER = "us%40er:p%3Ass%C3%A9"
BASIC = f"Basic {base64.b64encode('us@er:p:ssé'.encode()).decode()}"


async def test_a_proxys_credentials_go_to_the_proxy_and_no_further(authority: Authority) -> None:
    async with tunnelled(authority) as (provider, proxy):
        url = f"http://{USER}@127.0.0.1:{proxy.port}"
        async with connected(HTTPS_PROXY=url, **trusting(authority)) as connections:
            await ask(connections, f"https://{CERTIFIED}/")
        assert proxy.requests[0].headers["proxy-authorization"] == BASIC
        assert b"proxy-authorization" not in provider.lines[0].received


async def test_a_proxys_credentials_go_with_what_it_forwards_and_not_with_what_goes_past_it() -> None:
    async with peer(answering(whole())) as proxy, peer(answering(whole())) as provider:
        url = f"http://{USER}@127.0.0.1:{proxy.port}"
        async with connected(HTTP_PROXY=url, NO_PROXY="127.0.0.1") as connections:
            await ask(connections, f"http://{NOWHERE}")
            await ask(connections, provider.http)
        assert f"\r\nproxy-authorization: {BASIC}\r\n".encode() in proxy.lines[0].received
        assert b"proxy-authorization" not in provider.lines[0].received


@pytest.mark.parametrize(
    ("bypass", "host"),
    [
        ("*", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:{port}", "127.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.9/8", "127.0.0.1"),
        ("other.test, 127.0.0.1 ,", "127.0.0.1"),
        ("LocalHost", "localhost"),
        ("localhost:{port}", "LOCALHOST"),
        (".localhost", "localhost"),
    ],
)
async def test_what_no_proxy_names_is_reached_directly(bypass: str, host: str) -> None:
    async with peer(answering(whole())) as provider:
        environ = {"ALL_PROXY": LOCAL_PORT_1, "no_proxy": bypass.format(port=provider.port)}
        async with connected(**environ) as connections:
            assert await ask(connections, f"http://{host}:{provider.port}") == [b"hello"]


@pytest.mark.parametrize("bypass", ["example.test", ".example.test", "*.example.test", "test", "example.test:81"])
async def test_what_no_proxy_names_has_all_below_it(bypass: str) -> None:
    async with (
        peer(answering(whole())) as proxy,
        connected(ALL_PROXY=proxy.http, NO_PROXY=bypass) as connections,
    ):
        with pytest.raises((OSError, ValueError)):
            await post(connections, f"http://{NOWHERE}:81")
        await settled()
        assert proxy.lines == []


@pytest.mark.parametrize(
    "bypass",
    ["", ",", ".", "ample.test", "example.test:82", "b.example.test", "10.0.0.0/8", "10.0.0.0/99", "fd00::/8", "::1"],
)
async def test_what_no_proxy_does_not_name_goes_through_the_proxy(bypass: str) -> None:
    async with (
        peer(answering(whole())) as proxy,
        connected(ALL_PROXY=proxy.http, NO_PROXY=bypass) as connections,
    ):
        assert await ask(connections, f"http://{NOWHERE}:81") == [b"hello"]
        assert await ask(connections, "http://192.0.2.1:81") == [b"hello"]


@pytest.mark.parametrize(
    ("bypass", "url"),
    [
        (f"{NOWHERE}:80", f"http://{NOWHERE}"),
        (f"{NOWHERE}:443", f"https://{NOWHERE}"),
        ("example.test:443", f"https://{NOWHERE}"),
        ("[::1]", "http://[::1]:1"),
        ("[::1]:1", "http://[::1]:1"),
        ("::1", "http://[::1]:2"),
        ("::/64", "http://[::1]:1"),
    ],
)
async def test_no_proxy_may_name_a_schemes_own_port_or_an_address_with_colons(bypass: str, url: str) -> None:
    async with (
        peer(once(whole(status="502 Bad Gateway"))) as proxy,
        connected(ALL_PROXY=proxy.http, NO_PROXY=bypass) as connections,
    ):
        with pytest.raises((OSError, ValueError)):
            await post(connections, url)
        await settled()
        assert proxy.lines == []


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"


async def hangs_up_at_once(line: Line) -> None:
    line.close()


async def resets_the_tunnel(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\n\r\n")
    line.reset()


@pytest.mark.noisy
@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(answering(whole(status="407 Proxy Authentication Required")), id="407"),
        pytest.param(answering(whole(status="502 Bad Gateway")), id="502"),
        pytest.param(answering(whole(status="302 Found")), id="302"),
        pytest.param(once(b"HTTP/1.1 100 Continue\r\n\r\n"), id="an interim answer alone"),
        pytest.param(once(), id="no answer"),
        pytest.param(once(b"HTTP/1.1 200 O"), id="half an answer"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\n\r\n"), id="an end after the answer"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\n\r\nnot TLS at all"), id="no TLS"),
        pytest.param(once(b"SSH-2.0-OpenSSH_9.6\r\n"), id="no HTTP"),
        pytest.param(once(SWITCHING), id="another protocol"),
        pytest.param(hangs_up_at_once, id="an end before the question"),
        pytest.param(resets_the_tunnel, id="a reset after the answer"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_leaves_a_provider_out_of_reach(talk: Talk) -> None:
    async with peer(talk) as proxy:
        async with connected(HTTPS_PROXY=proxy.http) as connections:
            with pytest.raises(OSError):  # noqa: PT011  # which one depends on how far it went
                await post(connections, f"https://{CERTIFIED}/v1")
        async with modelled(HTTPS_PROXY=proxy.http) as model:
            await fails(model, f"https://{CERTIFIED}/v1", ProviderUnreachable)
        await proxy.idle()
        assert len(proxy.lines) == 2
        assert all(KEY.encode() not in line.received for line in proxy.lines)


@pytest.mark.noisy
@pytest.mark.parametrize("talk", [once(), once(b"HTTP/1.1 200 O"), once(b"SSH-2.0-OpenSSH_9.6\r\n")])
async def test_a_proxy_that_forwards_nothing_leaves_a_provider_out_of_reach(talk: Talk) -> None:
    async with peer(talk) as proxy, modelled(HTTP_PROXY=proxy.http) as model:
        await fails(model, f"http://{NOWHERE}/v1", ProviderUnreachable)


@pytest.mark.noisy
@pytest.mark.parametrize("url", ["http://example.test", "https://example.test"])
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "socks5h://127.0.0.1:1", "http://"])
async def test_a_proxy_of_another_kind_is_refused_in_so_many_words(
    proxy: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with modelled(ALL_PROXY=proxy) as model:
        await fails(model, url, ProviderUnreachable)
    assert "only http and https proxies are supported" in caplog.text


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["tunnel", "handshake"])
async def test_a_call_that_is_cancelled_while_a_tunnel_opens_leaves_no_connection(begun: bytes) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(begun)
        await line.gone()

    async with peer(talk) as proxy, connected(HTTPS_PROXY=proxy.http) as connections:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post, connections, f"https://{CERTIFIED}")
            await settled()
            assert len(proxy.lines) == 1
            tasks.cancel_scope.cancel()
        await proxy.idle()


# --- What is used again ---------------------------------------------------------------------------------------------


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "packets",
    [
        [whole()],
        [whole(b"")],
        [whole(b"", status="204 No Content").replace(b"content-length: 0\r\n", b"")],
        [whole(status="500 Internal Server Error")],
        [CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"],
        [whole(b"", "connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")],
    ],
)
async def test_a_connection_is_used_again_after_a_complete_answer(
    connections: ConnectionPool, packets: list[bytes]
) -> None:
    async with peer(answering(*packets)) as provider:
        for _ in range(3):
            await ask(connections, provider.http)
        assert len(provider.lines) == 1


async def test_a_connection_is_used_again_when_the_bodys_end_comes_after_its_reader_has_had_enough() -> None:
    heard, ended = anyio.Event(), anyio.Event()

    async def talk(line: Line) -> None:
        while True:
            await line.request()
            await line.send(CHUNKED, b"%x\r\n" % len(CHUNK + FINISH) + CHUNK + FINISH + b"\r\n", b"e\r\n" + DONE)
            await heard.wait()
            await line.send(b"\r\n", b"0\r\n", b"\r\n")
            ended.set()

    async with peer(talk) as provider, modelled() as model:
        for _ in range(3):
            assert await say(model, provider.http) == "hi"
            heard.set()
            await ended.wait()
            heard, ended = anyio.Event(), anyio.Event()
        assert len(provider.lines) == 1


async def test_a_connection_is_not_used_again_before_its_answer_has_ended() -> None:
    endless = CHUNKED + b"%x\r\n" % len(FINISH + DONE) + FINISH + DONE + b"\r\n"
    async with peer(answering(endless)) as provider, modelled() as model:
        for _ in range(2):
            await say(model, provider.http)
        assert len(provider.lines) == 2


async def test_a_connection_is_only_used_for_the_same_scheme_host_and_port(connections: ConnectionPool) -> None:
    async with peer(answering(whole())) as provider, peer(answering(whole())) as other:
        for url in (provider.http, other.http, f"http://localhost:{provider.port}", provider.http):
            await ask(connections, url)
        assert (len(provider.lines), len(other.lines)) == (2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"hello", "connection: close"),
        whole().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_a_connection_is_not_used_again_when_the_provider_says_so(
    connections: ConnectionPool, answer: bytes
) -> None:
    async with peer(answering(answer)) as provider:
        assert await ask(connections, provider.http) == [b"hello"]
        assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


async def test_a_cut_answer_fails_and_its_connection_is_not_used_again(connections: ConnectionPool) -> None:
    async with peer(once(whole().replace(b"hello", b"hel"))) as provider:
        for _ in range(2):
            with pytest.raises(Disconnected):
                await ask(connections, provider.http)
        assert len(provider.lines) == 2


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], ids=["head", "body"])
async def test_a_cancelled_call_hangs_up(connections: ConnectionPool, begun: bytes) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(begun)
        await line.gone()

    async with peer(talk) as provider:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, connections, provider.http)
            await settled()
            assert len(provider.lines) == 1
            tasks.cancel_scope.cancel()
        await provider.idle()
        provider.talk = answering(whole())
        assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


@pytest.mark.noisy
async def test_a_failed_answer_hangs_up() -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"14\r\ndata: {not json}\n\n\n\n\r\n")
        await line.gone()

    async with peer(talk) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamInvalid)
        await provider.idle()


async def test_an_answer_that_is_let_go_of_before_its_end_hangs_up(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole().replace(b"hello", b"hel"))
        await line.gone()

    async with peer(talk) as provider:
        answer = await post(connections, provider.http)
        answer.close()
        await provider.idle()


async def test_a_kept_connection_that_the_provider_closed_is_not_used(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        line.half_close()
        await line.gone()

    async with peer(talk) as provider:
        await ask(connections, provider.http)
        await provider.idle()
        before = len(provider.lines[0].received)
        await ask(connections, provider.http)
        assert len(provider.lines) == 2
        assert len(provider.lines[0].received) == before


async def closes_on_the_second(line: Line) -> None:
    await line.request()
    await line.send(whole())
    await line.request()


async def test_a_kept_connection_found_closed_is_replaced_by_a_new_one(connections: ConnectionPool) -> None:
    async with peer(closes_on_the_second) as provider:
        for _ in range(3):
            assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 3


async def test_a_kept_connection_found_closed_is_replaced_once(connections: ConnectionPool) -> None:
    async with peer(closes_on_the_second) as provider:
        await ask(connections, provider.http)
        provider.talk = once()
        with pytest.raises(Disconnected):
            await ask(connections, provider.http)
        assert len(provider.lines) == 2


async def test_a_new_connection_found_closed_is_not_replaced(connections: ConnectionPool) -> None:
    async with peer(once()) as provider:
        with pytest.raises(Disconnected):
            await ask(connections, provider.http)
        assert len(provider.lines) == 1


@pytest.mark.parametrize("byte", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_nothing_is_asked_twice_once_a_byte_of_the_answer_has_come(
    connections: ConnectionPool, byte: bytes
) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await line.send(byte)

    async with peer(talk) as provider:
        await ask(connections, provider.http)
        with pytest.raises(Disconnected):
            await ask(connections, provider.http)
        assert len(provider.lines) == 1


@pytest.mark.parametrize(("seconds", "requests"), [(0.9, 2), (1.1, 1)])
async def test_a_kept_connection_is_replaced_only_where_it_breaks_within_a_second(
    seconds: float, requests: int
) -> None:
    clock = DrivenClock()
    repeated: list[bool] = []

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await clock.advance(seconds)

    its = ConnectionPool({}, clock=clock)
    async with peer(talk) as provider:
        await ask(its, provider.http)
        provider.talk = answering(whole())
        try:
            answer = await its.post(provider.http, [b"{}"], HEADERS, on_repeat=lambda: repeated.append(True))
            answer.close()
        except Disconnected:
            assert requests == 1
        assert (len(provider.lines), len(repeated)) == (requests, requests - 1)
        await its.close()


def ended() -> int:
    """How many connections there are, in use or waiting for the collector."""
    return sum(type(each) in (Connection, Exchange) for each in gc.get_objects())


async def _cancelled(connections: ConnectionPool, url: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, connections, url)
        await settled()
        tasks.cancel_scope.cancel()


async def _failing(connections: ConnectionPool, url: str) -> None:
    with contextlib.suppress(OSError):
        await ask(connections, url)


async def _refused_by_its_reader(connections: ConnectionPool, url: str) -> None:
    def take(part: bytes) -> bool:
        raise LookupError

    answer = await post(connections, url)
    with contextlib.suppress(LookupError):
        await answer.read(take)
    answer.close()


async def _left_alone(connections: ConnectionPool, url: str) -> None:
    (await post(connections, url)).close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"


@pytest.mark.parametrize(
    ("packets", "way"),
    [
        ([], _cancelled),
        ([HEAD], _cancelled),
        ([HEAD + b"half"], _cancelled),
        ([b"garbage"], _failing),
        ([HEAD + b"half", b"garbage" * 20], _failing),
        ([HEAD, b"half"], _refused_by_its_reader),
        ([HEAD + b"half"], _left_alone),
        ([whole()], ask),
    ],
    ids=["head", "body", "middle", "garbage", "too much", "refused", "left alone", "whole"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_connection_that_has_ended_waits_for_the_collector(
    authority: Authority,
    scheme: str,
    packets: list[bytes],
    way: Callable[[ConnectionPool, str], Awaitable[object]],
) -> None:
    tls = authority.tls if scheme == "https" else None
    gc.collect()
    gc.disable()
    try:
        before = ended()
        async with connected(**trusting(authority)) as its, peer(answering(*packets), tls=tls) as provider:
            for _ in range(20):
                await way(its, f"{scheme}://127.0.0.1:{provider.port}")
            await its.close()
            await provider.idle()
            await settled()
            assert ended() - before == 0
    finally:
        gc.enable()


async def test_calls_at_once_have_a_connection_each_and_all_are_kept(connections: ConnectionPool) -> None:
    calls = 50
    asked = 0
    all_asked = anyio.Event()

    async def talk(line: Line) -> None:
        nonlocal asked
        while True:
            await line.request()
            asked += 1
            if asked % calls == 0:
                all_asked.set()
            await all_asked.wait()
            await line.send(whole())

    async with peer(talk) as provider:
        for _ in range(2):
            all_asked = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(ask, connections, provider.http)
        assert len(provider.lines) == calls


async def test_close_hangs_up_on_what_is_kept_and_what_is_going_on(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole())
        await line.request()
        await line.send(whole().replace(b"hello", b"hel"))
        await line.gone()

    async with peer(talk) as provider:
        kept, other = await post(connections, provider.http), await post(connections, provider.http)
        kept.close()
        other.close()
        cut = await post(connections, provider.http)
        await connections.close()
        with pytest.raises(Disconnected):
            await cut.read(lambda _: False)
        cut.close()
        await provider.idle()
        assert len(provider.lines) == 2


async def test_a_model_that_is_closed_hangs_up() -> None:
    async with peer(answering(STREAM)) as provider, modelled() as model:
        await say(model, provider.http)
        await model.close()
        await provider.idle()


async def test_bytes_that_come_unasked_close_a_kept_connection(connections: ConnectionPool) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole(), whole(b"unasked", status="408 Request Timeout"))
        await line.gone()

    async with peer(talk) as provider:
        await ask(connections, provider.http)
        await provider.idle()
        provider.talk = answering(whole())
        assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


async def test_bytes_behind_an_answer_are_no_part_of_it(connections: ConnectionPool) -> None:
    async with peer(answering(whole() + whole(b"unasked", status="408 Request Timeout"))) as provider:
        assert await ask(connections, provider.http) == [b"hello"]


@pytest.mark.parametrize(
    "behind",
    [b"\x15\x03 no HTTP", whole(b""), whole(b"")[:20]],
    ids=["garbage", "an answer", "the beginning of an answer"],
)
async def test_bytes_behind_an_answer_close_its_connection(connections: ConnectionPool, behind: bytes) -> None:
    async with peer(answering(whole() + behind)) as provider:
        for _ in range(2):
            await ask(connections, provider.http)
        assert len(provider.lines) == 2


async def test_a_connection_closed_before_its_answer_is_let_go_of_is_not_kept(connections: ConnectionPool) -> None:
    async with peer(once(whole())) as provider:
        answer = await post(connections, provider.http)
        await provider.idle()
        await settled()
        answer.close()
        with anyio.fail_after(30):
            assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 2


# --- What an answer may look like -----------------------------------------------------------------------------------


async def test_interim_answers_come_before_the_answer(connections: ConnectionPool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlocation: /\r\ncontent-type: a/b\r\n\r\n"
    answer = whole(b"hello", "retry-after: 1")
    async with peer(answering(*interim, answer, b"".join((*interim, answer)))) as provider:
        its = await post(connections, provider.http)
        its.close()
    assert (its.status, its.headers) == (200, {"retry-after": "1"})


async def test_interim_answers_may_come_in_one_packet_with_the_answer(connections: ConnectionPool) -> None:
    async with peer(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + whole())) as provider:
        for _ in range(2):
            assert await ask(connections, provider.http) == [b"hello"]
        assert len(provider.lines) == 1


async def test_an_answer_of_http_1_0_ends_with_its_connection() -> None:
    head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with peer(once(head, CHUNK, FINISH)) as provider, modelled() as model:
        assert await say(model, provider.http) == "hi"


@pytest.mark.noisy
async def test_an_answer_of_http_1_0_that_ends_too_early_is_cut() -> None:
    async with peer(once(b"HTTP/1.0 200 OK\r\n\r\n", CHUNK)) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamTruncated)


async def test_chunks_may_have_extensions_and_trailers(connections: ConnectionPool) -> None:
    body = b'2;a=b;c="d"\r\nhe\r\n3;e\r\nllo\r\n0;last\r\nx-checksum: 1\r\ntrailer: 2\r\n\r\n'
    async with peer(answering(CHUNKED + body)) as provider:
        for _ in range(2):
            assert await ask(connections, provider.http) == [b"he", b"llo"]
        assert len(provider.lines) == 1


async def test_trailers_are_no_headers(connections: ConnectionPool) -> None:
    async with peer(answering(CHUNKED, b"0\r\ncontent-type: text/html\r\n\r\n")) as provider:
        answer = await post(connections, provider.http)
        await answer.read(lambda _: False)
        answer.close()
    assert answer.headers == {}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(whole(b"hello", "content-type: text/plain"), id="content-length"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(whole(b"hello", "upgrade: h2", "connection: upgrade, keep-alive"), id="upgrade"),
    ],
)
async def test_an_answer_is_the_same_in_one_packet_and_byte_by_byte(connections: ConnectionPool, answer: bytes) -> None:
    single = [bytes([byte]) for byte in answer]
    async with peer(answering(answer)) as provider:
        assert await ask(connections, provider.http) == [b"hello"]
        provider.talk = answering(*single)
        await connections.close()
        for _ in range(2):
            assert await ask(connections, provider.http) == [b"h", b"e", b"l", b"l", b"o"]
        assert len(provider.lines) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_large_body_comes_whole(authority: Authority, scheme: str) -> None:
    body = b"0123456789abcdef" * 64 * KIB
    tls = authority.tls if scheme == "https" else None
    async with peer(answering(whole(body)), tls=tls) as provider, connected(**trusting(authority)) as connections:
        for _ in range(2):
            assert b"".join(await ask(connections, f"{scheme}://127.0.0.1:{provider.port}")) == body
        assert len(provider.lines) == 1


async def test_the_body_goes_on_as_it_comes_not_when_it_is_complete(connections: ConnectionPool) -> None:
    heard = anyio.Event()

    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"3\r\nhel\r\n")
        await heard.wait()
        await line.send(b"2\r\nlo\r\n0\r\n\r\n")

    def take(part: bytes) -> bool:
        if part == b"hel":
            heard.set()
        return part == b"lo"

    async with peer(talk) as provider:
        answer = await post(connections, provider.http)
        await answer.read(take)
        answer.close()


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nx-filler: ", b"x" * KIB),
        (b"HTTP/1.1 200 OK\r\n", b"x-filler: x\r\n" * 80),
        (b"HTTP/1.1 200 ", b"x" * KIB),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40),
    ],
    ids=["a field", "fields", "a reason", "interim answers"],
)
async def test_a_head_without_end_is_refused(connections: ConnectionPool, beginning: bytes, more: bytes) -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(beginning, *[more] * 66)
        await line.gone()

    async with peer(talk) as provider:
        with pytest.raises(Disconnected, match="too large"):
            await ask(connections, provider.http)
        await provider.idle()


async def test_a_head_may_have_60_kib(connections: ConnectionPool) -> None:
    head = whole(b"", f"x-filler: {'x' * 60 * KIB}").replace(b"content-length: 0", b"content-length: 5")
    async with peer(answering(head[: 40 * KIB], head[40 * KIB :], b"hello")) as provider:
        assert await ask(connections, provider.http) == [b"hello"]


async def test_trailers_without_end_are_refused(connections: ConnectionPool) -> None:
    async with peer(once(CHUNKED, b"0\r\nx-filler: ", *[b"x" * 16 * KIB] * 16, b"\r\n\r\n")) as provider:
        with pytest.raises(Disconnected, match="too large"):
            await ask(connections, provider.http)


@pytest.mark.noisy
@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"data: hello\n\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        SWITCHING,
    ],
)
async def test_what_is_no_answer_leaves_a_provider_out_of_reach(garbage: bytes) -> None:
    async with peer(once(garbage)) as provider, modelled() as model:
        await fails(model, provider.http, ProviderUnreachable)
        assert len(provider.lines) == 1


@pytest.mark.noisy
async def test_garbage_in_the_middle_of_an_answer_ends_it() -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED, b"%x\r\n" % len(CHUNK) + CHUNK + b"\r\n", b"no chunk")
        await line.gone()

    async with peer(talk) as provider, modelled() as model:
        await fails(model, provider.http, UpstreamTruncated)
        await provider.idle()


@pytest.mark.noisy
@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_compressed_answer_is_a_providers_error(encoding: str) -> None:
    answer = whole(b"\x1f\x8b", "content-type: text/event-stream", f"content-encoding: {encoding}")
    async with peer(answering(answer)) as provider, modelled() as model:
        await fails(model, provider.http, ProviderError)
        assert b"\r\naccept-encoding: identity\r\n" in provider.lines[0].received


@pytest.mark.noisy
@pytest.mark.parametrize("key", ["sk\r\nx-injected: 1", "sk\nx-injected: 1", "sk\r", "sk\n", "sk…"])
async def test_a_key_that_is_no_headers_value_never_leaves(key: str, caplog: pytest.LogCaptureFixture) -> None:
    async with peer(answering(STREAM)) as provider, modelled(LOCAL_KEY=key) as model:
        await fails(model, provider.http, ProviderUnreachable)
        await settled()
        assert provider.lines == []
    assert key not in caplog.text


# --- Where we are sent ----------------------------------------------------------------------------------------------


def redirecting(*locations: str, status: int = 307) -> Talk:
    """Sends who asks for `/0` to the first location, for `/1` to the second; who asks for the next one is answered."""

    async def talk(line: Line) -> None:
        while True:
            number = int((await line.request()).line.split()[1].strip("/"))
            moved = (
                whole(b"", f"location: {locations[number]}", status=f"{status} Moved") if locations[number:] else b""
            )
            await line.send(moved or STREAM)

    return talk


async def test_three_redirects_within_an_origin_are_followed_on_one_connection(authority: Authority) -> None:
    async with peer(redirecting("/1", "2", "/3"), tls=authority.tls) as provider:
        async with modelled(**trusting(authority)) as model:
            assert await say(model, f"{provider.https}/0") == "hi"
        assert len(provider.lines) == 1
        assert provider.lines[0].received.count(KEY.encode()) == 4


@pytest.mark.noisy
async def test_a_fourth_redirect_is_not_followed() -> None:
    async with peer(redirecting("/1", "/2", "/3", "/4")) as provider, modelled() as model:
        await fails(model, f"{provider.http}/0", ProviderRejected)
        assert provider.lines[0].received.count(b"POST") == 4


@pytest.mark.noisy
@pytest.mark.parametrize("location", ["http://127.0.0.1:{own}/1", "http://127.0.0.1:{plain}/1"])
async def test_a_redirect_from_https_to_http_on_the_same_host_is_refused(authority: Authority, location: str) -> None:
    async with (
        peer(answering(STREAM)) as plain,
        peer(answering(), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        modelled(**trusting(authority)) as model,
    ):
        provider.talk = redirecting(location.format(own=wire.port, plain=plain.port))
        await fails(model, f"{wire.https}/0", ProviderRejected)
        await settled()
        assert plain.lines == []
        assert len(wire.lines) == 1
        assert KEY.encode() not in wire.lines[0].received


@pytest.mark.noisy
@pytest.mark.parametrize(
    "location", ["//{other}/1", "http://{other}/1", "http://{own}@{other}/1", "http://localhost:{port}/1", "ftp:/1"]
)
async def test_a_chain_of_redirects_is_left_where_it_leaves_the_origin(location: str) -> None:
    async with peer(answering(STREAM)) as other, peer(answering()) as provider, modelled() as model:
        own = f"127.0.0.1:{provider.port}"
        away = location.format(other=f"127.0.0.1:{other.port}", own=own, port=provider.port)
        provider.talk = redirecting("/1", away)
        await fails(model, f"{provider.http}/0", ProviderRejected)
        await settled()
        assert other.lines == []
        assert sum(line.received.count(b"POST") for line in provider.lines) == 2


@pytest.mark.noisy
async def test_a_redirect_to_no_address_is_refused_and_hung_up_on() -> None:
    async def talk(line: Line) -> None:
        await line.request()
        await line.send(whole(b"", "location: http://[", "connection: close", status="307 Moved"))
        await line.gone()

    async with peer(talk) as provider, modelled() as model:
        await fails(model, provider.http, ProviderRejected)
        await provider.idle()
