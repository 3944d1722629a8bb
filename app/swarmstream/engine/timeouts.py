"""The time limits of a turn: its deadline, and each call's timeouts for the first token and between tokens."""

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from anyio import CancelScope

from swarmstream.clock import Clock, Timer, sleep, time_limit
from swarmstream.errors import FirstTokenTimeout, IdleTimeout, ModelError, TurnTimeout

_AFTERMATH_SECONDS = 5.0
"""The time that figures may take to follow a complete reply."""


@dataclass(frozen=True, slots=True)
class TurnTimeouts:
    """The operator's limits on a turn."""

    first_token_seconds: float = 60.0
    idle_seconds: float = 60.0
    turn_seconds: float = 600.0


class Deadline:
    """The end of a turn's time. Its model calls, the pauses between them and its tools share it."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        """The time does not run before `start`."""
        self._seconds = seconds
        self._clock = clock
        self._ends = math.inf

    def start(self) -> None:
        """Begin the turn's time."""
        self._ends = self._clock.now() + self._seconds

    def left(self) -> float:
        """Return the seconds that are left, which are negative after the end and infinite before `start`."""
        return self._ends - self._clock.now()

    def error(self) -> TurnTimeout:
        """Return the failure of a turn that has come to its deadline."""
        return TurnTimeout(f"the turn took longer than {self._seconds:g} s")

    @contextmanager
    def limit(self) -> Generator[None]:
        """Cancel what the block awaits at the deadline.

        Raises:
            TurnTimeout: where the block ends, if it was cancelled by this.
        """
        with time_limit(self._clock, self.left()) as scope:
            yield
        if scope.cancelled_caught:
            raise self.error()

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds.

        Raises:
            TurnTimeout: the deadline comes first.
        """
        left = max(0.0, self.left())  # the event loop may be late
        await sleep(self._clock, min(seconds, left))
        if seconds >= left:
            raise self.error()


class CallTimer:
    """Ends its block when the model is silent for too long, or at the turn's deadline; raises there what has happened.

    A delta only stores the time. One timer for each call compares when it fires, and sets itself again: to arm a
    cancel scope for each token would cost more than everything else on the token's way.

    | state | timer | when it fires |
    |---|---|---|
    | no delta yet | `first_token_seconds` | `FirstTokenTimeout` |
    | deltas come | `idle_seconds` after the last one | `IdleTimeout` |
    | complete | at most 5 s | the block ends, without a failure |
    | any | the turn's deadline | `TurnTimeout`, unless complete |
    """

    def __init__(self, timeouts: TurnTimeouts, deadline: Deadline, clock: Clock) -> None:
        self._timeouts = timeouts
        self._deadline = deadline
        self._clock = clock
        self._now = clock.now
        self._scope = CancelScope()
        self._turn_timer: Timer | None = None
        self._is_past_deadline = False
        self._last_delta = 0.0
        self._failure: ModelError | None = None
        self._is_complete = False

    def __enter__(self) -> "CallTimer":
        self._scope.__enter__()
        if (left := self._deadline.left()) < math.inf:
            self._turn_timer = self._clock.call_later(max(0.0, left), self._on_deadline)
        self._timer = self._clock.call_later(self._timeouts.first_token_seconds, self._on_first_token_due)
        return self

    def touch(self, *, is_first: bool) -> None:
        """Store that deltas have come; `is_first`: no others came before them."""
        self._last_delta = self._now()
        if is_first and not self._is_complete:
            self._timer.cancel()
            self._timer = self._clock.call_later(self._timeouts.idle_seconds, self._on_idle_due)

    def complete(self) -> None:
        """Let only figures follow: the reply is complete, and their absence is not a failure."""
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
        if swallowed and not self._is_complete and self._is_past_deadline:
            raise self._deadline.error()
        return swallowed

    def _on_first_token_due(self) -> None:
        self._expire(FirstTokenTimeout(f"no token came within {self._timeouts.first_token_seconds:g} s"))

    def _on_idle_due(self) -> None:
        left = self._timeouts.idle_seconds - (self._now() - self._last_delta)
        if left <= 0:
            self._expire(IdleTimeout(f"the provider fell silent for {self._timeouts.idle_seconds:g} s"))
        else:
            self._timer = self._clock.call_later(left, self._on_idle_due)

    def _on_deadline(self) -> None:
        self._is_past_deadline = True
        self._scope.cancel()

    def _expire(self, failure: ModelError) -> None:
        self._failure = failure
        self._scope.cancel()
