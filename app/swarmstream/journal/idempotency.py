"""The runs of the requests that came with an `Idempotency-Key`: an index that every journal can keep."""

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.errors import IdempotencyMismatch
from swarmstream.journal.base import AlreadySubmitted
from swarmstream.journal.records import IdempotencyKey

IDEMPOTENCY_KEY_SECONDS = 86_400.0
"""The time for which an `Idempotency-Key` is remembered."""


class IdempotencyIndex:
    """Runs by their idempotency keys, of the last `IDEMPOTENCY_KEY_SECONDS`.

    Every method takes None for a request without a key, and does nothing then.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._runs: dict[str, tuple[float, str, str]] = {}
        """The time of its addition, the body's digest and the run's id, by key; in the order of time."""

    def add(self, idempotency_key: IdempotencyKey | None, job_id: str) -> None:
        """Enter a run.

        Raises:
            AlreadySubmitted, IdempotencyMismatch: as `check`.
        """
        self.check(idempotency_key)
        if idempotency_key is not None:
            self._runs[idempotency_key.key] = (self._clock.now(), idempotency_key.body, job_id)

    def check(self, idempotency_key: IdempotencyKey | None) -> None:
        """Raise where the key has a run.

        Raises:
            AlreadySubmitted: one for the same body.
            IdempotencyMismatch: one for another body.
        """
        if idempotency_key is None:
            return
        self._drop_old()
        if (known := self._runs.get(idempotency_key.key)) is not None:
            _, body, job_id = known
            if body != idempotency_key.body:
                raise IdempotencyMismatch("this Idempotency-Key came with another body before")
            raise AlreadySubmitted(job_id)

    def drop(self, idempotency_key: IdempotencyKey | None, job_id: str) -> None:
        """Forget the key of a run, unless a later run has it by now."""
        if idempotency_key is not None:
            known = self._runs.get(idempotency_key.key)
            if known is not None and known[2] == job_id:
                del self._runs[idempotency_key.key]

    def _drop_old(self) -> None:
        oldest = self._clock.now() - IDEMPOTENCY_KEY_SECONDS
        while self._runs and (first := next(iter(self._runs.items())))[1][0] < oldest:
            del self._runs[first[0]]
