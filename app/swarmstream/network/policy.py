"""The policy for outgoing connections to addresses that clients choose."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from socket import SocketKind
from ssl import SSLContext
from typing import TypeAlias

import anyio

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.network.allowed_hosts import AllowedHosts

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Resolve a host and a port to addresses. Raises `OSError` if the host has none."""


async def resolve_host(host: str, port: int) -> list[str]:
    """Resolve a host with the system's resolver: distinct addresses in its order."""
    found = await anyio.getaddrinfo(host, port, type=SocketKind.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The rules of outgoing connections: where they may go, and which certificates are trusted."""

    allowed: AllowedHosts
    resolve: Resolve = resolve_host
    tls: SSLContext | None = None
    """None: the usual authorities, or those in `SSL_CERT_FILE` or `SSL_CERT_DIR`."""
    clock: Clock = SYSTEM_CLOCK
