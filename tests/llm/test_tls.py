"""Certificates of providers: an authority is trusted because the operator names it, or not at all."""

import asyncio
import importlib
import ssl
from typing import Any

import httpx
import pytest
from anyio import to_thread

from swarmstream.errors import (
    ProviderUnreachable,
)
from swarmstream.llm.providers.litellm.setup import import_litellm
from tests.llm.authority import Authority, trusting
from tests.llm.callers import KEY, STREAM, connected, fails, fetch, modelled, post
from tests.llm.peer import Line, answering, listened_to, peer, settled, whole

pytestmark = pytest.mark.anyio


async def test_an_authority_in_ssl_cert_file_is_trusted(authority: Authority) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**trusting(authority)) as connections:
        assert await fetch(connections, provider.https) == [b"hello"]
        assert KEY.encode() in provider.lines[0].received


async def test_an_authority_in_ssl_cert_dir_is_trusted(authority: Authority) -> None:
    folders = f"/nowhere:{authority.folder}"
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(SSL_CERT_DIR=folders) as connections:
        assert await fetch(connections, provider.https) == [b"hello"]


async def test_a_connection_with_tls_is_used_again(authority: Authority) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**trusting(authority)) as connections:
        for _ in range(3):
            await fetch(connections, provider.https)
        assert len(provider.lines) == 1


async def test_an_unknown_authority_is_refused_before_a_byte_of_the_request_is_sent(authority: Authority) -> None:
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


async def test_a_certificate_for_another_host_is_refused_before_a_byte_of_the_request_is_sent(
    authority: Authority,
) -> None:
    async with (
        peer(answering(whole()), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        connected(**trusting(authority)) as connections,
    ):
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await post(connections, f"https://localhost:{wire.port}")
        await wire.idle()
        assert provider.lines == []


async def test_traffic_with_a_trusted_provider_is_encrypted(authority: Authority) -> None:
    async with (
        peer(answering(whole()), tls=authority.tls) as provider,
        listened_to(provider.port) as wire,
        connected(**trusting(authority)) as connections,
    ):
        await fetch(connections, wire.https)
        assert KEY.encode() in provider.lines[0].received
        assert KEY.encode() not in wire.lines[0].received


async def test_a_provider_without_tls_is_refused_before_a_byte_of_the_request_is_sent() -> None:
    async with peer(Line.gone) as provider, connected() as connections:
        task = asyncio.ensure_future(post(connections, provider.https))
        await settled()
        await provider.lines[0].send(whole(status="400 Bad Request"))
        with pytest.raises(ssl.SSLError):
            await task
        await provider.idle()
        assert KEY.encode() not in provider.lines[0].received


async def test_litellm_cannot_switch_off_the_check_of_certificates(authority: Authority) -> None:
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
async def test_an_empty_variable_for_certificates_counts_as_unset(authority: Authority, name: str) -> None:
    async with peer(answering(whole()), tls=authority.tls) as provider, connected(**{name: ""}) as connections:
        with pytest.raises(ssl.SSLCertVerificationError):
            await post(connections, provider.https)


@pytest.mark.noisy
async def test_certificates_that_are_not_there_leave_a_provider_out_of_reach(authority: Authority) -> None:
    nowhere = str(authority.folder / "none.pem")
    async with peer(answering(STREAM), tls=authority.tls) as provider, modelled(SSL_CERT_FILE=nowhere) as model:
        await fails(model, provider.https, ProviderUnreachable)
