"""The requests with an `Idempotency-Key`, and the runs that they have: an index that every journal can keep."""

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import IdempotencyMismatch
from swarmstream.journal.base import AlreadyClaimed, IdempotencyKey

CLAIM_SECONDS = 86_400.0
"""How long an `Idempotency-Key` is remembered."""


class IdempotencyIndex:
    """Which runs the requests with an `Idempotency-Key` have."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._runs: dict[str, tuple[float, str, str]] = {}
        """When it was taken, the body's digest and the run's id, by the claim's key; in the order of time."""

    def take(self, claim: IdempotencyKey | None, job_id: str) -> None:
        """Claim a run; a request that has none claims nothing.

        Raises:
            AlreadyClaimed: there is one, for the same body.
            IdempotencyMismatch: there is one, for another body.
        """
        self.look_up(claim)
        if claim is not None:
            self._runs[claim.key] = (self._clock.now(), claim.body, job_id)

    def look_up(self, claim: IdempotencyKey | None) -> None:
        """As `take`, without claiming anything."""
        if claim is None:
            return
        self._forget_old()
        if (known := self._runs.get(claim.key)) is not None:
            _, body, its = known
            if body != claim.body:
                raise IdempotencyMismatch("this Idempotency-Key came with another body before")
            raise AlreadyClaimed(its)

    def _forget_old(self) -> None:
        oldest = self._clock.now() - CLAIM_SECONDS
        while self._runs and (first := next(iter(self._runs.items())))[1][0] < oldest:
            del self._runs[first[0]]

    def drop(self, claim: IdempotencyKey | None, job_id: str) -> None:
        """Forget the claim of a run; a later run may have it by now."""
        if claim is not None and (known := self._runs.get(claim.key)) is not None and known[2] == job_id:
            del self._runs[claim.key]
