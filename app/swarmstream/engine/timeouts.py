"""A turn's three clocks: how long a model may take to begin, how long it may fall silent, how long all may take."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from anyio import CancelScope

from swarmstream.clock import Clock, Timer
from swarmstream.errors import FirstTokenTimeout, IdleTimeout, ModelError

_AFTERMATH_SECONDS = 5.0
"""How long figures may take to follow a complete answer."""


@dataclass(frozen=True, slots=True)
class TurnTimeouts:
    """What the operator grants a turn, in seconds."""

    first_token_seconds: float = 60.0
    idle_seconds: float = 60.0
    turn_seconds: float = 600.0


class CallClock:
    """Ends its block when the model is silent for too long, or the turn is over; the failure is raised where the block
    ends.

    Hearing something only notes the time. One timer a call looks at the note when it fires and sets itself again:
    arming a scope for each token would cost more than everything else on the token's way.
    """

    def __init__(
        self, timeouts: TurnTimeouts, *, turn_ends: float, timeout_error: Callable[[], ModelError], clock: Clock
    ) -> None:
        """`turn_ends` is a time of this clock; `timeout_error` is what has happened then."""
        self._timeouts = timeouts
        self._clock = clock
        self._now = clock.now
        self._scope = CancelScope()
        self._turn_ends = turn_ends
        self._turn_timer: Timer | None = None
        self._is_overtime = False
        self._overtime = timeout_error
        self._heard = 0.0
        self._failure: ModelError | None = None
        self._is_complete = False

    def __enter__(self) -> "CallClock":
        self._scope.__enter__()
        if self._turn_ends < math.inf:
            self._turn_timer = self._clock.call_later(max(0.0, self._turn_ends - self._now()), self._turn_due)
        self._timer = self._clock.call_later(self._timeouts.first_token_seconds, self._first_token_due)
        return self

    def hear(self, *, is_first: bool) -> None:
        """Something came of the model's answer."""
        self._heard = self._now()
        if is_first and not self._is_complete:
            self._timer.cancel()
            self._timer = self._clock.call_later(self._timeouts.idle_seconds, self._idle_due)

    def complete(self) -> None:
        """The model's answer is whole: only figures may follow, and their absence is no failure."""
        if self._is_complete:
            return
        self._is_complete = True
        self._timer.cancel()
        self._timer = self._clock.call_later(min(_AFTERMATH_SECONDS, self._timeouts.idle_seconds), self._scope.cancel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._timer.cancel()
        if self._turn_timer is not None:
            self._turn_timer.cancel()
        swallowed = self._scope.__exit__(kind, error, traceback)
        if self._failure is not None and (swallowed or isinstance(error, ModelError)):
            raise self._failure
        if swallowed and not self._is_complete and self._is_overtime:
            raise self._overtime()
        return swallowed

    def _first_token_due(self) -> None:
        self._expire(FirstTokenTimeout(f"no token came within {self._timeouts.first_token_seconds:g} s"))

    def _idle_due(self) -> None:
        left = self._timeouts.idle_seconds - (self._now() - self._heard)
        if left <= 0:
            self._expire(IdleTimeout(f"the provider fell silent for {self._timeouts.idle_seconds:g} s"))
        else:
            self._timer = self._clock.call_later(left, self._idle_due)

    def _turn_due(self) -> None:
        self._is_overtime = True
        self._scope.cancel()

    def _expire(self, failure: ModelError) -> None:
        self._failure = failure
        self._scope.cancel()
