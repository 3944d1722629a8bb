"""Proxies on the way to providers, as the environment names them (RFC 9110, 9.3.6; RFC 9112, 3.2.2)."""

import base64
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from swarmstream.errors import (
    ProviderUnreachable,
)
from swarmstream.llm.http.proxy import Disconnected
from tests.llm.authority import CERTIFIED, Authority, trusting
from tests.llm.callers import KEY, LOCAL_PORT_1, NOWHERE, connected, fails, fetch, modelled, post
from tests.llm.peer import SWITCHING, Line, Peer, Request, Talk, answering, once, peer, settled, whole

pytestmark = pytest.mark.anyio


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
            assert await fetch(connections, f"https://{CERTIFIED}/v1?a=b") == [b"hello"]
            assert await fetch(connections, f"https://{CERTIFIED}/v1?a=b") == [b"hello"]
        assert [request.line for request in proxy.requests] == [f"CONNECT {CERTIFIED}:443 HTTP/1.1"]
        assert proxy.requests[0].headers == {"host": f"{CERTIFIED}:443"}
        sent = provider.lines[0].received
        assert sent.startswith(b"POST /v1?a=b HTTP/1.1\r\nhost: api.example.test\r\n")
        assert KEY.encode() in sent
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
            assert await fetch(connections, f"https://{CERTIFIED}/") == [b"hello"]
        assert KEY.encode() in provider.lines[0].received
        assert KEY.encode() not in proxy.lines[0].received


async def test_a_proxy_with_an_untrusted_certificate_gets_no_request(authority: Authority) -> None:
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


async def test_a_proxy_for_http_gets_the_absolute_url() -> None:
    async with peer(answering(whole())) as proxy, connected(HTTP_PROXY=proxy.http) as connections:
        assert await fetch(connections, f"http://{NOWHERE}:81/v1?a=b") == [b"hello"]
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
                assert await fetch(connections, f"http://{NOWHERE}") == [b"hello"]


async def test_a_proxy_for_one_scheme_is_not_asked_for_the_other() -> None:
    async with peer(answering(whole())) as provider, connected(HTTPS_PROXY=LOCAL_PORT_1) as connections:
        assert await fetch(connections, provider.http) == [b"hello"]


USER = "us%40er:p%3Ass%C3%A9"
BASIC = f"Basic {base64.b64encode('us@er:p:ssé'.encode()).decode()}"


async def test_a_proxys_credentials_go_to_the_proxy_and_no_further(authority: Authority) -> None:
    async with tunnelled(authority) as (provider, proxy):
        url = f"http://{USER}@127.0.0.1:{proxy.port}"
        async with connected(HTTPS_PROXY=url, **trusting(authority)) as connections:
            await fetch(connections, f"https://{CERTIFIED}/")
        assert proxy.requests[0].headers["proxy-authorization"] == BASIC
        assert b"proxy-authorization" not in provider.lines[0].received


async def test_a_proxys_credentials_are_sent_to_it_and_not_to_a_provider_that_bypasses_it() -> None:
    async with peer(answering(whole())) as proxy, peer(answering(whole())) as provider:
        url = f"http://{USER}@127.0.0.1:{proxy.port}"
        async with connected(HTTP_PROXY=url, NO_PROXY="127.0.0.1") as connections:
            await fetch(connections, f"http://{NOWHERE}")
            await fetch(connections, provider.http)
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
async def test_a_host_in_no_proxy_is_reached_directly(bypass: str, host: str) -> None:
    async with peer(answering(whole())) as provider:
        environ = {"ALL_PROXY": LOCAL_PORT_1, "no_proxy": bypass.format(port=provider.port)}
        async with connected(**environ) as connections:
            assert await fetch(connections, f"http://{host}:{provider.port}") == [b"hello"]


@pytest.mark.parametrize("bypass", ["example.test", ".example.test", "*.example.test", "test", "example.test:81"])
async def test_a_domain_in_no_proxy_covers_its_subdomains(bypass: str) -> None:
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
async def test_a_host_outside_no_proxy_is_reached_through_the_proxy(bypass: str) -> None:
    async with (
        peer(answering(whole())) as proxy,
        connected(ALL_PROXY=proxy.http, NO_PROXY=bypass) as connections,
    ):
        assert await fetch(connections, f"http://{NOWHERE}:81") == [b"hello"]
        assert await fetch(connections, "http://192.0.2.1:81") == [b"hello"]


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
async def test_a_provider_behind_a_proxy_that_refuses_to_forward_is_unreachable(talk: Talk) -> None:
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
