"""Proxies on the way to providers: the choice by the environment, and the tunnel through one."""

import asyncio
import base64
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

import httptools

PORTS = {"http": 80, "https": 443}


class Disconnected(ConnectionError):
    """The other side hung up, or sent something that is not HTTP."""


class Proxies:
    """The proxies that the environment names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def setting(name: str) -> str:
            return environ.get(name.lower()) or environ.get(name.upper()) or ""

        every = setting("all_proxy")
        self._by_scheme = {"https": setting("https_proxy") or every, "http": setting("http_proxy") or every}
        self._bypass = [name.strip().lower() for name in setting("no_proxy").split(",") if name.strip()]

    def find(self, target: SplitResult) -> str | None:
        """Return the URL of the proxy for a target; None where the connection is direct."""
        proxy = self._by_scheme.get(target.scheme)
        if not proxy or any(_covers(name, target) for name in self._bypass):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _covers(name: str, target: SplitResult) -> bool:
    """Return True if an entry of `NO_PROXY` covers this URL.

    Entries are `*`, an address, a network, or a domain with all below it; each but `*` may have a port.
    """
    host, port = target.hostname or "", target.port or PORTS.get(target.scheme)
    if name.startswith("["):
        named, _, named_port = name[1:].partition("]:")
    else:
        named, _, named_port = name.rpartition(":") if name.count(":") == 1 else (name, "", "")
    if named_port and named_port != str(port):
        return False
    named = named.strip("[]") or name
    if named == "*" or named == host:
        return True
    if "/" in named:
        try:
            return ip_address(host) in ip_network(named, strict=False)
        except ValueError:
            return False
    return f".{host}".endswith(f".{named.removeprefix('*').removeprefix('.')}")


class Tunnel(asyncio.Protocol):
    """The protocol of a connection to a proxy until its tunnel is open (RFC 9110, 9.3.6)."""

    def __init__(self, host: str, port: int, proxy: SplitResult) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._authority = f"{_bracketed(host)}:{port}"
        self._proxy = proxy
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        lines = [f"CONNECT {self._authority} HTTP/1.1", f"host: {self._authority}", *proxy_authorization(self._proxy)]
        cast(asyncio.Transport, transport).write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Disconnected(f"the proxy does not speak HTTP: {error}"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 200 <= status < 300:
            if not self.opened.done():
                self.opened.set_result(None)
        elif status >= 300:
            self._fail(Disconnected(f"the proxy refused the connection (HTTP {status})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or Disconnected("the proxy closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)


def read_proxy(url: str) -> SplitResult:
    """Parse a proxy's URL.

    Raises:
        ValueError: it has no host, or a scheme or a port that cannot be connected to.
    """
    proxy = urlsplit(url)
    try:
        port = proxy.port or PORTS.get(proxy.scheme)
    except ValueError:  # its message can hold a part of a password
        raise ValueError("the proxy's URL cannot be read") from None
    if port is None or proxy.scheme not in PORTS or not proxy.hostname:
        raise ValueError("only http and https proxies are supported")
    return proxy


def proxy_authorization(proxy: SplitResult) -> list[str]:
    """Return the header lines for a proxy: one if its URL has credentials, else none."""
    if proxy.username is None:
        return []
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return [f"proxy-authorization: Basic {base64.b64encode(credentials).decode()}"]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
