"""Where connections may go."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from socket import SocketKind
from ssl import SSLContext
from typing import TypeAlias

import anyio

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.network.allowed_hosts import AllowedHosts

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The addresses that a host has now; raises `OSError` if it has none."""


async def resolve_host(host: str, port: int) -> list[str]:
    """As the system resolves names."""
    found = await anyio.getaddrinfo(host, port, type=SocketKind.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Where connections may go, and who is believed about where they have come to."""

    allowed: AllowedHosts
    resolve: Resolve = resolve_host
    tls: SSLContext | None = None
    """None: whoever the usual authorities vouch for, or those in `SSL_CERT_FILE` or `SSL_CERT_DIR`."""
    clock: Clock = SYSTEM_CLOCK
