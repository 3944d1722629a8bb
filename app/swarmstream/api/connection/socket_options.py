"""TCP socket options of a client's connection."""

import asyncio
import socket
import struct
import sys
from collections.abc import Iterable

if sys.platform == "linux":
    import fcntl
    import termios

_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER`, on, for no time: closing discards what is unsent and tells the other side so."""


def set_user_timeout(listeners: Iterable[socket.socket], seconds: float) -> None:
    """Have the system end accepted connections that acknowledge nothing for so long; they inherit it (Linux)."""
    if sys.platform == "linux":
        for listener in listeners:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def reset(transport: asyncio.Transport) -> None:
    """Close at once by a TCP reset; what is unsent is lost."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Count the bytes that were sent and are not known to have reached the client's system.

    Elsewhere than on Linux these are only the bytes that have not left this process.
    """
    unsent = transport.get_write_buffer_size()
    if sys.platform == "linux":
        queue = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
        unsent += struct.unpack("i", queue)[0]
    return unsent
