"""The model calls of one run: how many it may make, and room for their prompts."""

from collections.abc import Callable, Sequence
from typing import Final

import anyio

from swarmstream.engine.prompt_room import PromptRoom
from swarmstream.errors import LimitExceeded, RunError, RunLimitReached
from swarmstream.llm.base import ChatMessage
from swarmstream.llm.prompt_size import PromptSize, PromptSizes

DEFAULT_MAX_CALLS: Final = 2000


def _ignore(_: RunError) -> None:
    pass


class RunCalls:
    """Counts the calls of a run, retries included, and holds room for the prompts of those that go on.

    Making one admits the run; whoever makes it closes it when the run is over.
    """

    def __init__(
        self,
        max_calls: int = DEFAULT_MAX_CALLS,
        room: PromptRoom | None = None,
        owner: str = "",
        expected_bytes: int = 0,
    ) -> None:
        """`expected_bytes` is what the prompts of the widest stage will take.

        Raises:
            LimitExceeded, Unavailable: there is no room for it.
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
        """The run begins, or goes on after so many calls. `on_limit` is called once it may make no more: it ends it."""
        self._made = made
        self._on_limit = on_limit

    async def measure(self, messages: Sequence[ChatMessage]) -> PromptSize:
        """How large a prompt is; waits for its turn if it is large."""
        return await self._room.measure(self._share, messages, self._sizes)

    async def begin(self, prompt: PromptSize) -> int:
        """Wait until a call with this prompt may be made; what it holds until `end`.

        Where the run has reached a limit, it is ended, and this returns only by being cancelled.
        """
        self._made += 1
        if self._made > self.max_calls:
            await self._stop(f"the run has made {self.max_calls} model calls, all that SWARMSTREAM_MAX_CALLS allows")
        self._keep_promise()
        try:
            await self._room.take(self._share, prompt.bytes)
        except LimitExceeded as error:
            await self._stop(error.detail)
        return prompt.bytes

    def repeat(self) -> None:
        """A call that goes on is made once more, with the same prompt; a limit holds up the one after it."""
        self._made += 1

    def end(self, held: int) -> None:
        """The call is over."""
        self._room.free(self._share, held)

    def close(self) -> None:
        """The run is over."""
        if not self._is_closed:
            self._is_closed = True
            self._on_limit = _ignore  # it is the run's: held, it would keep the run in memory
            self._keep_promise()
            self._room.leave(self._share)

    def _keep_promise(self) -> None:
        promised, self._promised = self._promised, 0
        self._room.keep_promise(self._share, promised)

    async def _stop(self, reason: str) -> None:
        self._on_limit(RunLimitReached(reason))
        await anyio.sleep_forever()
