"""The budget of a run, shared among siblings that call models at once (docs/wire.md, "Run options").

A call's cost is known when it is over; the calls of a stage begin together. So a call reserves a share before it
begins, the most that it can take, and settles afterwards:

    limit  ├── spent ──┼── A's share ──┼── B's share ──┼── left ──┤      A and B are being answered
    limit  ├── spent ───────┼── B's share ──┼───────── left ──────┤      A is settled: it took less than its share

1. A share is what the call sends, estimated, and all that it may be answered with. Its `max_tokens` is what it wants,
   or what is left, if that is less; then the share is *lowered*. The first that asks gets the first share.
2. With nothing left while others hold shares, a call waits: a call that settles leaves over what it did not take, and
   wakes all that wait.
3. With nothing left and no share open, nobody can leave anything over: the budget is exhausted, and the run ends.
4. When a call is settled, the provider's figures count as spent, whatever its share was.
5. A provider that keeps to `max_tokens` stays within its share, but for our estimate of what was sent. Others are
   watched by our own count: once the limit is passed, or a lowered share, the run ends in the middle of the reply.
6. A reply that ends for its length with a lowered share was cut off by the budget: exhausted, too.

Without 1 all calls of a stage would find the same tokens left, and spend them once each. Without 2 a run would end
although its siblings give back most of their shares, for few replies are as long as they may be. Without 3 the last
call would wait for nobody.

A cost in USD is shared likewise, by the model's prices; a model without a price is refused before the run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from swarmstream.errors import BudgetExceeded
from swarmstream.events import Usage
from swarmstream.llm.model_ref import Price


@dataclass(slots=True)
class Reservation:
    """A call's share."""

    max_tokens: int
    """Of the reply."""
    is_lowered: bool
    """`max_tokens` is less than the call wanted."""
    tokens: int
    """Of the request and the reply."""
    cost_usd: float


class Budget:
    """The tokens and USD of one run; None stands for no limit."""

    def __init__(
        self,
        *,
        max_total_tokens: int | None,
        max_cost_usd: float | None,
        spent: Usage,
        on_exhausted: Callable[[BudgetExceeded], None],
    ) -> None:
        """`spent` is what the run took in an earlier process; `on_exhausted` ends the run, and may be called again."""
        self._max_total_tokens = max_total_tokens
        self._max_cost_usd = max_cost_usd
        self._spent_tokens = spent.total_tokens
        self._spent_usd = spent.cost_usd
        self._open: list[Reservation] = []
        self._on_exhausted = on_exhausted
        self._settled = anyio.Event()

    async def reserve(self, input_tokens: int, wanted_tokens: int, price: Price | None) -> Reservation:
        """Reserve a share for a call that sends about `input_tokens` and wants `wanted_tokens` for its reply.

        Waits while other calls hold all that is left. Where the budget is exhausted the run ends, and this returns only
        by being cancelled.
        """
        while True:
            allowed = self._allowed(input_tokens, wanted_tokens, price)
            if allowed >= 1:
                rates = price or _FREE
                reservation = Reservation(
                    max_tokens=allowed,
                    is_lowered=allowed < wanted_tokens,
                    tokens=input_tokens + allowed,
                    cost_usd=(input_tokens * rates.input + allowed * rates.output) / _PER_MILLION,
                )
                self._open.append(reservation)
                return reservation
            if not self._open:
                self.exhaust()
                await anyio.sleep_forever()
            await self._settled.wait()

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Replace the share by what the call really took, and wake the calls that wait."""
        self._open.remove(reservation)
        self._spent_tokens += usage.total_tokens
        self._spent_usd += usage.cost_usd
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    def exhaust_if_passed(self, reservation: Reservation, output_tokens: int) -> bool:
        """End the run if a reply of about so many tokens is beyond its share and nothing is left beside it.

        Return True if it has ended.
        """
        more = output_tokens - reservation.max_tokens
        if more <= 0:
            return False
        tokens = self._spent_tokens + reservation.tokens + more
        usd = self._spent_usd + reservation.cost_usd * (reservation.tokens + more) / reservation.tokens
        is_over = self._max_total_tokens is not None and tokens > self._max_total_tokens
        is_over = is_over or (self._max_cost_usd is not None and usd > self._max_cost_usd)
        is_over = is_over or reservation.is_lowered
        if is_over:
            self.exhaust()
        return is_over

    def exhaust(self) -> None:
        """End the run: nothing is left."""
        limit = f"{self._max_total_tokens:,} tokens" if self._max_total_tokens is not None else ""
        if self._max_cost_usd is not None:
            limit = " and ".join(part for part in (limit, f"{self._max_cost_usd:g} USD") if part)
        self._on_exhausted(BudgetExceeded(f"the run has used up its budget of {limit}"))

    def _allowed(self, input_tokens: int, wanted_tokens: int, price: Price | None) -> int:
        """Return the tokens that a reply may take now; below 1 where nothing is left."""
        allowed = wanted_tokens
        if self._max_total_tokens is not None:
            reserved = sum(reservation.tokens for reservation in self._open)
            allowed = min(allowed, self._max_total_tokens - self._spent_tokens - reserved - input_tokens)
        if self._max_cost_usd is not None and price is not None:
            reserved_usd = sum(reservation.cost_usd for reservation in self._open)
            left_usd = self._max_cost_usd - self._spent_usd - reserved_usd - input_tokens * price.input / _PER_MILLION
            if price.output > 0:
                allowed = min(allowed, int(left_usd * _PER_MILLION / price.output))
            elif left_usd < 0:
                allowed = 0
        return allowed


_PER_MILLION = 1_000_000
_FREE = Price(input=0.0, output=0.0)
