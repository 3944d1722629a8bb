"""Redirects of providers: a key stays at its origin (RFC 9110, 15.4)."""

import pytest

from swarmstream.errors import (
    ProviderRejected,
)
from tests.llm.authority import Authority, trusting
from tests.llm.callers import KEY, STREAM, fails, modelled, say
from tests.llm.peer import Line, Talk, answering, listened_to, peer, settled, whole

pytestmark = pytest.mark.anyio


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
