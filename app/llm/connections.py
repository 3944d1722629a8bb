"""Connections to providers: pooled and kept alive, without a limit that would queue calls silently."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from urllib.parse import SplitResult, unquote, urlsplit

import httpx
from aiohttp import (
    ClientOSError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
    encode_basic_auth,
)
from aiohttp.tracing import TraceConnectionReuseconnParams
from yarl import URL

_NO_LIMIT = 0
_KEEP_ALIVE_SECONDS = 60.0
_MAX_HEADER_BYTES = 64 * 1024

# The engine keeps the clocks: a limit here would be one that nobody set.
_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class Connections:
    """Posts requests and hands out the answers while they arrive. Make it and use it in one event loop.

    TLS certificates are always verified, against `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set (OpenSSL), else
    against certifi's. Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        tracing = TraceConfig()
        tracing.on_connection_reuseconn.append(_note_reuse)
        self._proxies = _Proxies(environ)
        self._tls = httpx.create_ssl_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._tracing = tracing
        self._pooled = self._session(
            TCPConnector(limit=_NO_LIMIT, ssl=self._tls, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        )
        self._fresh = self._session(TCPConnector(limit=_NO_LIMIT, ssl=self._tls, force_close=True))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> ClientResponse:
        """The answer, as soon as its head is there; redirects are answers. The caller closes it.

        A connection that waited for reuse and proves to be closed is no failure: the request is posted once more on a
        new one, for the provider has not seen it.

        Raises:
            aiohttp.ClientError, OSError: there is no answer.
        """
        trace = SimpleNamespace(reused=False)
        try:
            return await self._post(self._pooled, url, body, headers, trace)
        except (ServerDisconnectedError, ClientOSError) as error:
            began_to_answer = isinstance(error, ServerDisconnectedError) and not isinstance(error.message, str)
            if not trace.reused or began_to_answer:
                raise
        return await self._post(self._fresh, url, body, headers, trace)

    async def close(self) -> None:
        """Hang up everywhere."""
        await self._pooled.close()
        await self._fresh.close()

    async def _post(
        self, session: ClientSession, url: str, body: bytes, headers: Mapping[str, str], trace: SimpleNamespace
    ) -> ClientResponse:
        proxy, proxy_headers = self._proxies.of(url)
        return await session.post(
            URL(url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=proxy,
            proxy_headers=proxy_headers,
            trace_request_ctx=trace,
        )

    def _session(self, connector: TCPConnector) -> ClientSession:
        return ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            trace_configs=[self._tracing],
            # It would look for credentials in ~/.netrc, too.
            trust_env=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )


class _Proxies:
    """Which proxy the environment names for a URL."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def setting(name: str) -> str:
            return environ.get(name.lower()) or environ.get(name.upper()) or ""

        every = setting("all_proxy")
        self._by_scheme = {"https": setting("https_proxy") or every, "http": setting("http_proxy") or every}
        self._bypass = [name.strip().lower() for name in setting("no_proxy").split(",") if name.strip()]

    def of(self, url: str) -> tuple[str | None, dict[str, str] | None]:
        """The proxy's URL and the headers that it gets; None where the connection is direct."""
        if not any(self._by_scheme.values()):
            return None, None
        target = urlsplit(url)
        proxy = self._by_scheme.get(target.scheme)
        if not proxy or any(_covers(name, target) for name in self._bypass):
            return None, None
        named = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return _without_credentials(named), _proxy_authorization(named)


def _covers(name: str, target: SplitResult) -> bool:
    """Whether an entry of `NO_PROXY` is about this URL: `*`, an address, a network, a domain with all below it, each
    but `*` also with a port."""
    host = target.hostname or ""
    if name == "*" or name in (host, f"{host}:{target.port}"):
        return True
    if "/" in name:
        try:
            return ip_address(host) in ip_network(name, strict=False)
        except ValueError:
            return False
    domain = name.removeprefix("*").removeprefix(".")
    return f"{host}:{target.port}".endswith(f".{domain}") if ":" in domain else f".{host}".endswith(f".{domain}")


def _without_credentials(url: SplitResult) -> str:
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


def _proxy_authorization(url: SplitResult) -> dict[str, str] | None:
    if url.username is None:
        return None
    return {"Proxy-Authorization": encode_basic_auth(unquote(url.username), unquote(url.password or ""))}


async def _note_reuse(_: ClientSession, context: SimpleNamespace, __: TraceConnectionReuseconnParams) -> None:
    context.trace_request_ctx.reused = True
