"""A check that an address can be listened on, before the server does anything else."""

import errno
import socket

_FINAL = (errno.EADDRINUSE, errno.EACCES)


def check_address(host: str, port: int) -> None:
    """Bind to every address of the host, as the server will, and close again.

    A family of addresses that this machine lacks is skipped if another one can be bound.

    Raises:
        OSError: no address can be bound, or another program listens on one.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    failures: list[OSError] = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno in _FINAL:
                raise
            failures.append(error)
    if len(failures) == len(found):
        raise failures[0]
