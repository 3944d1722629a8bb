"""A pool of connections to providers.

Connections are kept alive and used again, and there are as many as there are calls: a limit would queue calls silently.

A request is posted again in one case only: a kept connection broke before a byte of the response came, within
`REOPEN_SECONDS` of its reuse. Then a provider that keeps connections for a shorter time than we do had most likely
closed it before the request was sent (RFC 9112, 9.3.1). A provider that hangs up later may have worked on the request,
so that is an ordinary failure. Most likely is not certain: the caller learns of the second request, and counts it as an
attempt.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from urllib.parse import urlsplit

import certifi

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.llm.http.connection import Connection, Route
from swarmstream.llm.http.exchange import Response
from swarmstream.llm.http.proxy import PORTS, Proxies, Tunnel, read_proxy
from swarmstream.llm.http.request import encode_post

REOPEN_SECONDS = 1.0
"""How soon after its reuse a kept connection has to break to have been closed before."""


class ConnectionPool:
    """Posts requests. An instance belongs to one event loop.

    TLS certificates are always verified, against `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set (OpenSSL), else
    against certifi's. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    """

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._environ = environ
        self._proxies = Proxies(environ)
        self._idle: dict[Route, list[Connection]] = {}
        self._all: set[Connection] = set()

    async def post(
        self,
        url: str,
        body: Sequence[bytes],
        headers: Mapping[str, str],
        *,
        on_repeat: Callable[[], object] = lambda: None,
    ) -> Response:
        """Return the response, as soon as its head is there; a redirect is one. The body's pieces are not copied here.

        `on_repeat` is called before the request is posted a second time.

        Raises:
            OSError: there is no response.
            ValueError: the URL, a header or the proxy's URL cannot be used.
        """
        target = urlsplit(url)
        proxy = self._proxies.find(target)
        route = Route(target.scheme, target.hostname or "", target.port or PORTS[target.scheme], proxy)
        request = encode_post(target, body, headers, proxy if target.scheme == "http" else None)
        if idle := self._idle.get(route):
            connection = idle.pop()
            reused = self.clock.now()
            try:
                return await _send(connection, request)
            except OSError:
                if connection.has_received or self.clock.now() - reused > REOPEN_SECONDS:
                    raise
            finally:
                del connection
            on_repeat()
        return await _send(await self._connect(route), request)

    async def close(self) -> None:
        """Hang up on every connection, in use or not."""
        for connection in list(self._all):
            connection.hang_up()

    async def _connect(self, route: Route) -> Connection:
        loop = asyncio.get_running_loop()
        tls = self._tls if route.scheme == "https" else None
        at, first_tls = (route.host, route.port), tls
        proxy = read_proxy(route.proxy) if route.proxy else None
        if proxy is not None:
            at = proxy.hostname or "", proxy.port or PORTS[proxy.scheme]
            first_tls = self._tls if proxy.scheme == "https" else None
        if proxy is None or tls is None:
            _, connection = await loop.create_connection(lambda: Connection(self, route), *at, ssl=first_tls)
            return connection
        through = Tunnel(route.host, route.port, proxy)
        transport, tunnel = await loop.create_connection(lambda: through, *at, ssl=first_tls)
        connection = Connection(self, route)
        try:
            await tunnel.opened
            connection.connection_made(transport)  # the handshake's last packet may bring more
            secured = await loop.start_tls(transport, connection, tls, server_hostname=route.host)
        except BaseException:
            transport.abort()
            self.closed(connection)
            raise
        assert secured is not None
        connection.connection_made(secured)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        file, folder = self._environ.get("SSL_CERT_FILE") or None, self._environ.get("SSL_CERT_DIR") or None
        context = ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def opened(self, connection: Connection) -> None:
        self._all.add(connection)

    def keep(self, connection: Connection) -> None:
        self._idle.setdefault(connection.route, []).append(connection)

    def closed(self, connection: Connection) -> None:
        self._all.discard(connection)
        idle = self._idle.get(connection.route, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.route, None)


async def _send(connection: Connection, request: Sequence[bytes]) -> Response:
    """Send a request; return the response once its head is there."""
    try:
        return await connection.send(request)
    except BaseException:
        connection.hang_up()
        raise
    finally:
        del connection
