"""A model call's part of what it shares with others: the run's budget, the process's room for prompts."""

from dataclasses import replace

from swarmstream.engine.budget import Budget, Reservation
from swarmstream.engine.estimates import input_tokens
from swarmstream.engine.model_input import ModelInput
from swarmstream.engine.run_calls import RunCalls
from swarmstream.events import Usage
from swarmstream.llm.base import Sampling
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.prompt_size import BYTES_PER_TOKEN, PromptSize


class Allowance:
    """The allowance of a turn's present call: each is acquired, then released, before the next one is."""

    def __init__(self, budget: Budget | None, calls: RunCalls) -> None:
        self.prompt = PromptSize()
        """The size of the prompt that was measured last."""
        self._budget = budget
        self._calls = calls
        self._reservation: Reservation | None = None
        self._prompt_bytes = 0
        """Held of the room for prompts."""

    @property
    def is_limited(self) -> bool:
        """True if the present call has a share of a budget, which it may exceed."""
        return self._reservation is not None

    async def acquire(self, asked: ModelInput, model: ModelRef, sampling: Sampling) -> None:
        """Measure the prompt, reserve a share of the budget, and count the call; waits until others leave enough.

        Where the run can never go on with this call it is ended, and this returns only by being cancelled. Nothing is
        held unless this returns.
        """
        try:
            self.prompt = await self._calls.measure(asked.messages)
            if self._budget is not None:
                tokens = input_tokens(self.prompt, asked.tools)
                self._reservation = await self._budget.reserve(tokens, sampling.max_tokens_for(model), model.price)
            self._prompt_bytes = await self._calls.begin(self.prompt)
        except BaseException:
            self.release(Usage(), finish_reason=None)
            raise

    def release(self, usage: Usage, *, finish_reason: str | None) -> None:
        """Give back what the call holds; `usage` is what it took of the budget. Without effect if it holds nothing."""
        held, self._prompt_bytes = self._prompt_bytes, 0
        self._calls.end(held)
        reservation, self._reservation = self._reservation, None
        if self._budget is None or reservation is None:
            return
        self._budget.settle(reservation, usage)
        if reservation.is_lowered and finish_reason == "length":
            self._budget.exhaust()  # the budget cut the answer off

    def capped(self, sampling: Sampling) -> Sampling:
        """Return the sampling with `max_tokens` lowered to the call's share, where the share is smaller."""
        if self._reservation is None or not self._reservation.is_lowered:
            return sampling
        return replace(sampling, max_tokens=self._reservation.max_tokens)

    def is_exceeded(self, length: int) -> bool:
        """Return True if a reply of this many characters is beyond the call's share and ends the run.

        Providers need not keep to `max_tokens`.
        """
        if self._budget is None or self._reservation is None:
            return False
        return self._budget.exhaust_if_passed(self._reservation, length // BYTES_PER_TOKEN)
