"""Room for prompts: how many bytes of them may be on their way to models at once.

A payload of a megabyte can become a prompt for each of many agents. So each model call takes as much room as its prompt
has bytes until it is over, out of what the process has and out of the quarter of it that one key may take; where there
is none, it waits. A run that would not find room is not begun. From its admission to its first call it holds what its
widest stage will take: else those that come at once would all find the same room.

Large prompts of a key are begun one after another, with rounds of the event loop between them, for making requests of
them takes milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from swarmstream.errors import LimitExceeded, Unavailable
from swarmstream.llm.base import ChatMessage
from swarmstream.llm.prompt_size import PromptSize, PromptSizes

DEFAULT_BYTES: Final = 256 * 1024 * 1024
SHARES: Final = 4
"""One key may take one of these."""

_LARGE_BYTES = 64 * 1024
_MANY = 256
"""Messages, or tool calls of one: to count their bytes takes longer than a moment."""
_ROUNDS = 3
"""Of the event loop between two large prompts: a small request takes about as many."""
_RETRY_AFTER_SECONDS = 5.0


@dataclass(slots=True)
class Share:
    """What one key takes of the room, in bytes."""

    owner: str
    taken: int = 0
    promised: int = 0
    """To runs that were admitted and have not called a model yet."""
    users: int = 0
    beginning: anyio.Lock = field(default_factory=anyio.Lock)


class PromptRoom:
    """Room for the prompts of all runs of a process."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self.max_share_bytes = max_bytes // SHARES
        self._taken = 0
        self._promised = 0
        self._shares: dict[str, Share] = {}
        self._more = anyio.Event()

    def admit(self, owner: str, size: int) -> Share:
        """Promise a new run room for this many bytes. Whoever is done with the share, which its run's calls take from,
        gives it back with `leave`.

        Raises:
            LimitExceeded: a key never has as much.
            Unavailable: there is too little now.
        """
        self._check(size)
        share = self._shares.get(owner) or Share(owner)
        is_full = self._taken + self._promised + size > self._max_bytes
        if size and (is_full or share.taken + share.promised + size > self.max_share_bytes):
            raise Unavailable(
                "too many prompts are on their way to models (SWARMSTREAM_MAX_PROMPT_BYTES)",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        self._shares[owner] = share
        share.users += 1
        self._promise(share, size)
        return share

    def keep_promise(self, share: Share, size: int) -> None:
        """From now on the run's calls take their room themselves."""
        self._promise(share, -size)

    def leave(self, share: Share) -> None:
        """The run is over."""
        share.users -= 1
        if not share.users:
            del self._shares[share.owner]

    async def measure(self, share: Share, messages: Sequence[ChatMessage], sizes: PromptSizes) -> PromptSize:
        """The prompt's size. Large prompts are begun one after another, with time for others between them."""
        if not _are_many(messages) and (size := sizes.measure(messages)).bytes <= _LARGE_BYTES:
            return size
        async with share.beginning:
            for _ in range(_ROUNDS):
                await checkpoint()
            return sizes.measure(messages)

    async def take(self, share: Share, size: int) -> None:
        """Wait until there is room for so many bytes, which are to be given back with `free`.

        Raises:
            LimitExceeded: a key never has as much.
        """
        self._check(size)
        while self._taken + size > self._max_bytes or share.taken + size > self.max_share_bytes:
            await self._more.wait()
        share.taken += size
        self._taken += size

    def free(self, share: Share, size: int) -> None:
        """The call is over."""
        share.taken -= size
        self._taken -= size
        if size:
            more, self._more = self._more, anyio.Event()
            more.set()

    def _check(self, size: int) -> None:
        if size > self.max_share_bytes:
            raise LimitExceeded(
                f"{size} bytes of prompts at once are more than the {self.max_share_bytes} that a key may have "
                "(a quarter of SWARMSTREAM_MAX_PROMPT_BYTES)"
            )

    def _promise(self, share: Share, size: int) -> None:
        share.promised += size
        self._promised += size


def _are_many(messages: Sequence[ChatMessage]) -> bool:
    return len(messages) > _MANY or any(len(message.get("tool_calls") or ()) > _MANY for message in messages)
