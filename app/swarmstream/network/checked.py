"""A network backend of httpcore that connects to allowed addresses only."""

import math
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from ssl import SSLContext
from typing import Any, Final, cast

import httpcore2
import httpx2

from swarmstream.clock import time_limit
from swarmstream.network.policy import NetworkPolicy

_TRY_SECONDS: Final = 2.0
"""For one address, while others are left to try."""


@cache
def default_tls() -> SSLContext:
    """Load the usual authorities, or those in `SSL_CERT_FILE` or `SSL_CERT_DIR`: slow, so not in the event loop."""
    return httpx2.create_ssl_context()


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """A backend that resolves names itself, so that the address that is checked is the one that is connected to."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy
        self._network = cast(httpcore2.AsyncNetworkBackend, httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers.

        Raises:
            McpHostRefused: one of the host's addresses is not allowed.
            ConnectError: no address answers, or the host has none.
            ConnectTimeout: the time is over.
        """
        clock = self._policy.clock
        with time_limit(clock, math.inf if timeout is None else timeout):
            addresses = await self._addresses(host, port)
            for address in addresses[:-1]:
                with time_limit(clock, _TRY_SECONDS), suppress(httpcore2.ConnectError):
                    return await self._network.connect_tcp(address, port)
            return await self._network.connect_tcp(addresses[-1], port)
        raise httpcore2.ConnectTimeout

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._policy.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("the name cannot be resolved") from error
        for address in addresses:
            self._policy.allowed.check_address(host, port, address)
        if not addresses:
            raise httpcore2.ConnectError("the name has no address")
        return addresses
