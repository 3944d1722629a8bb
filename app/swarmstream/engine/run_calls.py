"""The model calls of one run: their bound, and room for their prompts."""

from collections.abc import Callable, Sequence
from typing import Final

import anyio

from swarmstream.engine.prompt_room import PromptRoom
from swarmstream.errors import LimitExceeded, RunError, RunLimitReached
from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.prompt_size import PromptSize, PromptSizes

DEFAULT_MAX_CALLS: Final = 2000


def _ignore(_: RunError) -> None:
    """Do nothing: the run has not begun, or is over."""


class RunCalls:
    """Counts the calls of a run, retries included, and takes room for the prompts of the present ones.

    To make one is to admit the run, with room for its first prompts; `close` gives up what is still held for it.
    """

    def __init__(
        self,
        max_calls: int = DEFAULT_MAX_CALLS,
        room: PromptRoom | None = None,
        owner: str = "",
        expected_bytes: int = 0,
    ) -> None:
        """`expected_bytes` is the size of the prompts of the widest stage.

        Raises:
            LimitExceeded: `owner` never has so much room.
            Unavailable: there is too little room now.
        """
        self.max_calls = max_calls
        self._made = 0
        self._on_limit: Callable[[RunError], None] = _ignore
        self._room = room or PromptRoom()
        self._promised = expected_bytes
        self._share = self._room.admit(owner, expected_bytes)
        self._is_closed = False
        self._sizes = PromptSizes()

    def resume(self, made: int, on_limit: Callable[[RunError], None]) -> None:
        """Begin the run, or go on after so many calls. `on_limit` ends the run once it has reached a limit."""
        self._made = made
        self._on_limit = on_limit

    async def measure(self, messages: Sequence[ChatMessage]) -> PromptSize:
        """Return the size of a prompt. Large ones of an owner are measured one after another."""
        return await self._room.measure(self._share, messages, self._sizes)

    async def begin(self, prompt: PromptSize) -> int:
        """Count a call and wait for room for its prompt; return the bytes to give back with `end`.

        Where the run has reached a limit it ends, and this returns only by being cancelled.
        """
        self._made += 1
        if self._made > self.max_calls:
            await self._stop(f"the run has made {self.max_calls} model calls, all that SWARMSTREAM_MAX_CALLS allows")
        self._end_promise()
        try:
            await self._room.acquire(self._share, prompt.bytes)
        except LimitExceeded as error:
            await self._stop(error.detail)
        return prompt.bytes

    def repeat(self) -> None:
        """Count a call that is repeated while it holds its room; a limit stops the next call, not this one."""
        self._made += 1

    def end(self, held: int) -> None:
        """Give back the room of a call that is over."""
        self._room.release(self._share, held)

    def close(self) -> None:
        """End the run: it makes no more calls. Without effect the second time."""
        if not self._is_closed:
            self._is_closed = True
            self._on_limit = _ignore  # a method of the run, which it would keep in memory
            self._end_promise()
            self._room.leave(self._share)

    def _end_promise(self) -> None:
        promised, self._promised = self._promised, 0
        self._room.end_promise(self._share, promised)

    async def _stop(self, reason: str) -> None:
        self._on_limit(RunLimitReached(reason))
        await anyio.sleep_forever()
