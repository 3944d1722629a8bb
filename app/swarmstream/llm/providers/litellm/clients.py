"""The HTTP clients that litellm keeps, one pool for the whole process, and who uses them."""

import asyncio
from collections import Counter
from typing import Any

_users: Counter[int] = Counter()
"""How many models use litellm's clients, by the `id` of the event loop that the clients belong to."""


def use_clients() -> None:
    """Register a user of the running event loop's clients."""
    _users[id(asyncio.get_running_loop())] += 1


async def leave_clients(litellm: Any) -> None:
    """Unregister a user; the last one of an event loop closes its clients."""
    loop = id(asyncio.get_running_loop())
    _users[loop] -= 1
    if not _users[loop]:
        del _users[loop]
        await _close_clients(litellm, loop)


async def _close_clients(litellm: Any, loop: int) -> None:
    """Close the clients of an event loop, and have litellm forget them: it would hand them out again."""
    kept: Any = litellm.in_memory_llm_clients_cache
    for key in [key for key in kept.cache_dict if key.endswith(f"-{loop}")]:
        handler = kept.cache_dict.pop(key)
        kept.ttl_dict.pop(key, None)
        client = getattr(handler, "_client", None) or getattr(handler, "client", None) or handler
        if (transport := getattr(client, "_transport", None)) is not None:
            await transport.aclose()
        if (aclose := getattr(client, "aclose", None)) is not None:
            await aclose()
    if not _users:
        names: dict[str, Any] = litellm.__dict__
        if shared := names.pop("module_level_aclient", None):
            await shared.close()
