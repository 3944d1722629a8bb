"""What a run may spend: every call of a model reserves its share before it begins (docs/wire.md, "Run options")."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from swarmstream.errors import BudgetExceeded
from swarmstream.events import Usage
from swarmstream.llm.model_ref import Price


@dataclass(slots=True)
class Reservation:
    """A call's share. `max_tokens` is what it may say; `is_lowered`: less than it would have been allowed."""

    max_tokens: int
    is_lowered: bool
    tokens: int
    cost_usd: float


class Budget:
    """Tokens and USD of one run. Whoever comes first reserves first; what a call leaves over is the others'."""

    def __init__(
        self,
        *,
        max_total_tokens: int | None,
        max_cost_usd: float | None,
        spent: Usage,
        on_exhausted: Callable[[BudgetExceeded], None],
    ) -> None:
        """`on_exhausted` is called once nothing is left that the run could go on with: it ends the run."""
        self._max_total_tokens = max_total_tokens
        self._max_cost_usd = max_cost_usd
        self._spent_tokens = spent.total_tokens
        self._spent_usd = spent.cost_usd
        self._open: list[Reservation] = []
        self._on_exhausted = on_exhausted
        self._settled = anyio.Event()

    async def reserve(self, input_tokens: int, wanted_tokens: int, price: Price | None) -> Reservation:
        """A share for a call that sends about so many tokens and would let the model answer with `wanted_tokens`.

        Where all that is left is reserved, it waits for what the others leave over. Where nothing is left at all, the
        run ends, and this returns only by being cancelled.
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
        """The call is over: what it really took counts, the rest is free again."""
        self._open.remove(reservation)
        self._spent_tokens += usage.total_tokens
        self._spent_usd += usage.cost_usd
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    def watch(self, reservation: Reservation, output_tokens: int) -> bool:
        """The call has said about so many tokens. Beyond its share, nothing may be left for the run to go on with:
        whether it has ended for that."""
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
        """Nothing is left: the run ends."""
        limit = f"{self._max_total_tokens:,} tokens" if self._max_total_tokens is not None else ""
        if self._max_cost_usd is not None:
            limit = " and ".join(part for part in (limit, f"{self._max_cost_usd:g} USD") if part)
        self._on_exhausted(BudgetExceeded(f"the run has used up its budget of {limit}"))

    def _allowed(self, input_tokens: int, wanted_tokens: int, price: Price | None) -> int:
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
