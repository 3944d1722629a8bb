"""Room for prompts: a bound on the bytes of prompts that are on their way to models at once.

A payload of a megabyte can become a prompt for each of many agents. So a model call takes as much room as its prompt
has bytes, from before its request to its end: out of the process's room, and out of the quarter of it that one key may
take. A call waits where there is too little. A run that would find too little is refused. From its admission to its
first call a run is promised what its widest stage will take; without that, runs admitted at once would all count on the
same room.

Large prompts of a key are measured one after another, with rounds of the event loop between them: to make a request of
one takes milliseconds, in which nobody else is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from swarmstream.errors import LimitExceeded, Unavailable
from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.prompt_size import PromptSize, PromptSizes

DEFAULT_BYTES: Final = 256 * 1024 * 1024
SHARES: Final = 4
"""A key may take one of these."""

_LARGE_BYTES = 64 * 1024
_MANY = 256
"""Messages, or tool calls of a message: so many take long to measure, whatever their size."""
_ROUNDS = 3
"""Of the event loop between two large prompts: about as many as a small request takes."""
_RETRY_AFTER_SECONDS = 5.0


@dataclass(slots=True)
class Share:
    """One key's part of the room, in bytes."""

    owner: str
    taken: int = 0
    promised: int = 0
    """To runs that were admitted and have not called a model yet."""
    runs: int = 0
    measuring: anyio.Lock = field(default_factory=anyio.Lock)


class PromptRoom:
    """Room for the prompts of all runs of a process."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self.max_share_bytes = max_bytes // SHARES
        self._taken = 0
        self._promised = 0
        self._shares: dict[str, Share] = {}
        self._released = anyio.Event()

    def admit(self, owner: str, size: int) -> Share:
        """Promise a new run room for so many bytes; return its owner's share, for the run's calls to take from.

        The share is given back with `leave`.

        Raises:
            LimitExceeded: no key ever has as much.
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
        share.runs += 1
        self._promise(share, size)
        return share

    def end_promise(self, share: Share, size: int) -> None:
        """Free what a run was promised: from now on its calls take their room themselves."""
        self._promise(share, -size)

    def leave(self, share: Share) -> None:
        """Give back the share of a run that is over."""
        share.runs -= 1
        if not share.runs:
            del self._shares[share.owner]

    async def measure(self, share: Share, messages: Sequence[ChatMessage], sizes: PromptSizes) -> PromptSize:
        """Return the prompt's size; before that, wait for the share's other large prompts if this is one."""
        if not _are_many(messages) and (size := sizes.measure(messages)).bytes <= _LARGE_BYTES:
            return size
        async with share.measuring:
            for _ in range(_ROUNDS):
                await checkpoint()
            return sizes.measure(messages)

    async def acquire(self, share: Share, size: int) -> None:
        """Take room for so many bytes, which `release` gives back; waits until there is as much.

        Raises:
            LimitExceeded: no key ever has as much.
        """
        self._check(size)
        while self._taken + size > self._max_bytes or share.taken + size > self.max_share_bytes:
            await self._released.wait()
        share.taken += size
        self._taken += size

    def release(self, share: Share, size: int) -> None:
        """Give room back, and wake the calls that wait for some."""
        share.taken -= size
        self._taken -= size
        if size:
            released, self._released = self._released, anyio.Event()
            released.set()

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
