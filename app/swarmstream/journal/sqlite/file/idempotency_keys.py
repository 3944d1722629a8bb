"""The idempotency keys of runs, in the columns `claim_key` and `claim_body` of `runs`."""

from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.file.connections import Connections


class IdempotencyKeyColumns:
    """Idempotency keys by run; each key has one run."""

    def __init__(self, connections: Connections) -> None:
        self._main = connections.main
        self._committed = connections.committed

    def release(self, idempotency_key: IdempotencyKey | None, *, for_run: int) -> None:
        """Take a key from an older run that has it still, too old to count."""
        if idempotency_key is not None:
            self._main.execute(
                "UPDATE runs SET claim_key = NULL, claim_body = NULL WHERE claim_key = ? AND no <> ?",
                (idempotency_key.key, for_run),
            )

    def drop(self, created_before: float) -> None:
        """Forget the keys of runs that were created before this Unix time."""
        self._main.execute(
            "UPDATE runs SET claim_key = NULL, claim_body = NULL WHERE claim_key IS NOT NULL AND created_at < ?",
            (created_before,),
        )

    def all(self) -> list[tuple[IdempotencyKey, str]]:
        """Return every key with the id of its run."""
        rows = self._committed.execute("SELECT claim_key, claim_body, job_id FROM runs WHERE claim_key IS NOT NULL")
        return [(IdempotencyKey(key, body), job_id) for key, body, job_id in rows]


def read_key(claim_key: str | None, claim_body: str | None) -> IdempotencyKey | None:
    """Return the key that a row's columns hold."""
    return IdempotencyKey(claim_key, claim_body) if claim_key is not None and claim_body is not None else None
