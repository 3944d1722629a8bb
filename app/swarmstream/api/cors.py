"""Calls from web pages of other origins (Fetch standard, section 3.2, "CORS protocol").

Being allowed here gives a page nothing by itself: it needs a key, since there are no cookies. The key also protects
from a page whose name was turned to this machine's address (DNS rebinding), to which browsers do not apply CORS.
"""

import logging
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from swarmstream.api.problems import error_response
from swarmstream.errors import InvalidRequest, quote
from swarmstream.settings import ENV_PREFIX

logger = logging.getLogger(__name__)

METHODS = ("GET", "POST", "DELETE")
REQUEST_HEADERS = (
    "x-api-key",
    "authorization",
    "content-type",
    "last-event-id",
    "idempotency-key",
    "x-accel-buffering",
    "x-request-id",
    "cache-control",
    "traceparent",
    "tracestate",
    "baggage",
    "user-agent",
    "sentry-trace",
    "openai-organization",
    "openai-project",
    "openai-beta",
)
"""Our own, those that tracers add, and `user-agent`, which SDKs set and Firefox then asks for."""
EXPOSED_HEADERS = ("Location", "X-Request-Id", "Retry-After", "Idempotent-Replayed", "X-Should-Retry")
"""Headers of an answer that a page's scripts may read, beside those that the Fetch standard allows anyway."""

_SDK_HEADER = re.compile(r"x-stainless-[a-z0-9-]{1,64}")
"""Headers that the SDKs of OpenAI, Anthropic and Swarms add to every request; each release has others."""
_MAX_SDK_HEADERS = 32

_LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
"""The origin of a page that this machine serves, as browsers write it (RFC 6454, section 6.2: in lower case)."""


class Cors(CORSMiddleware):
    """Middleware that answers preflights and lets pages of the allowed origins read their answers."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str] = (), with_loopback: bool = False) -> None:
        """`with_loopback`: pages that this machine serves may call, from any port."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_origin_regex=_LOOPBACK_ORIGIN if with_loopback else None,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )
        self._allows_any_page = bool(origins) or with_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                response = self._preflight(headers, scope["state"]["request_id"])
                await response(scope, receive, send)
                return
        if self._allows_any_page:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _preflight(self, request: Headers, request_id: str) -> Response:
        names = [name.strip().lower() for name in request.get("access-control-request-headers", "").split(",")]
        sdk_headers = list(dict.fromkeys(name for name in names if _SDK_HEADER.fullmatch(name)))[:_MAX_SDK_HEADERS]
        origin, headers = request["origin"], dict(self.preflight_headers)
        if self.preflight_explicit_allow_origin and self.is_allowed_origin(origin):
            headers["Access-Control-Allow-Origin"] = origin
        try:
            self._check(origin, request["access-control-request-method"], set(names).difference(sdk_headers))
        except InvalidRequest as error:
            # No page can read this answer: it is for people who look at the browser's network panel, and at our log.
            logger.info("preflight: %s", error.detail)
            answer = error_response(error, request_id)
            answer.headers.update(headers)
            return answer
        if sdk_headers:
            headers["Access-Control-Allow-Headers"] += f", {', '.join(sdk_headers)}"
        return PlainTextResponse("OK", headers=headers)

    def _check(self, origin: str, method: str, names: set[str]) -> None:
        """Check the request that a page wants to send.

        Raises:
            InvalidRequest: pages of this origin may not send it.
        """
        if not self.is_allowed_origin(origin):
            raise InvalidRequest(
                f"pages of {quote(origin)} may not call this server; {ENV_PREFIX}CORS_ORIGINS lists those that may",
                location=("Origin",),
            )
        if method not in METHODS:
            raise InvalidRequest(
                f"pages may send {', '.join(METHODS)}, not {quote(method)}",
                location=("Access-Control-Request-Method",),
            )
        if refused := sorted(names.difference(self.allow_headers, ("",))):
            raise InvalidRequest(
                f"pages may not send the header {quote(refused[0])}", location=("Access-Control-Request-Headers",)
            )
