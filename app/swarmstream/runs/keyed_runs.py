"""Runs by their idempotency keys (docs/wire.md, section 5)."""

from collections.abc import Awaitable, Callable

from swarmstream.errors import NotFound, StorageUnavailable
from swarmstream.journal.base import AlreadySubmitted, Journal
from swarmstream.journal.records import IdempotencyKey

_RETRY_AFTER_SECONDS = 5.0


class KeyedRuns:
    """The runs that were begun with an idempotency key. A key is of one API key and one route."""

    def __init__(self, journal: Journal, flush: Callable[[str], Awaitable[None]]) -> None:
        """`flush` returns once all that has happened in the run of an id is committed."""
        self._journal = journal
        self._flush = flush

    async def find(self, key: IdempotencyKey) -> str | None:
        """Return the id of the run that has this key, once all that has happened in it is committed: a client that is
        told of it finds it after any crash. None if there is no run, or none is known while the journal is not open.

        Raises:
            IdempotencyMismatch: the key came with another body.
            StorageUnavailable: there is a run, and its events cannot be committed.
        """
        try:
            self._journal.check_idempotency_key(key)
        except AlreadySubmitted as known:
            await self._flush(known.job_id)
            return known.job_id
        return None

    async def require(self, key: IdempotencyKey) -> str:
        """Return the id of the run that has this key.

        Raises:
            IdempotencyMismatch: the key came with another body.
            NotFound: there is no such run, or no longer.
            StorageUnavailable: it is not known yet which runs there are, or see `find`.
        """
        if (job_id := await self.find(key)) is not None:
            return job_id
        if not self._journal.is_open:
            raise StorageUnavailable(
                "the server cannot read at present what is stored", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        raise NotFound("there is no run of this Idempotency-Key, or no longer: without a cursor, one is begun")
