"""Two of a turn's three clocks: how long a model may take to begin, and how long it may fall silent."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from anyio import CancelScope

from app.errors import FirstTokenTimeout, IdleTimeout, ModelError

_AFTERMATH_SECONDS = 5.0


class SilenceClock:
    """Ends its block when the model is silent for too long; the failure is raised where the block ends.

    Hearing something only notes the time. One timer a turn looks at the note when it fires and sets itself again:
    arming a scope for each token would cost more than everything else on the token's way.
    """

    def __init__(self, now_ms: Callable[[], int], *, first_token_seconds: float, idle_seconds: float) -> None:
        self._heard_ms = 0
        self._now_ms = now_ms
        self._first_token_seconds = first_token_seconds
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._scope = CancelScope()
        self._failure: ModelError | None = None

    def __enter__(self) -> "SilenceClock":
        self._scope.__enter__()
        self._timer = self._loop.call_later(self._first_token_seconds, self._first_token_due)
        return self

    def hear(self, *, is_first: bool) -> None:
        """Something came of the model's answer."""
        self._heard_ms = self._now_ms()
        if is_first:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._idle_seconds, self._idle_due)

    def complete(self) -> None:
        """The model's answer is whole: only figures may follow, and their absence is no failure."""
        self._timer.cancel()
        self._timer = self._loop.call_later(min(_AFTERMATH_SECONDS, self._idle_seconds), self._scope.cancel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._timer.cancel()
        swallowed = self._scope.__exit__(kind, error, traceback)
        if self._failure is not None and (swallowed or isinstance(error, ModelError)):
            raise self._failure
        return swallowed

    def _first_token_due(self) -> None:
        self._expire(FirstTokenTimeout(f"no token came within {self._first_token_seconds:g} s"))

    def _idle_due(self) -> None:
        left = self._idle_seconds - (self._now_ms() - self._heard_ms) / 1000
        if left <= 0:
            self._expire(IdleTimeout(f"the provider fell silent for {self._idle_seconds:g} s"))
        else:
            self._timer = self._loop.call_later(left, self._idle_due)

    def _expire(self, failure: ModelError) -> None:
        self._failure = failure
        self._scope.cancel()
