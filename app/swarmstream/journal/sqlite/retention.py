"""Which finished runs are to go: those that are too old, and the oldest of the owner that has most."""

import sqlite3
from collections.abc import Iterator, Set
from dataclasses import dataclass

from swarmstream.journal.base import IdempotencyKey


@dataclass(frozen=True, slots=True)
class Expired:
    """A finished run that is to go."""

    job_id: str
    claim: IdempotencyKey | None
    owner: str
    bytes: int


class Retention:
    """Of the runs in a file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def finished(self) -> tuple[int, float | None]:
        """The bytes of all finished runs, and when the last of them ended."""
        [size] = self._connection.execute("SELECT coalesce(sum(bytes), 0) FROM owners").fetchone()
        [last] = self._connection.execute("SELECT max(ended_at) FROM runs WHERE ended_at IS NOT NULL").fetchone()
        return size, last

    def expired(
        self, *, after: float, before: float, max_bytes: int, most_runs: int, most_bytes: int, but_not: Set[str]
    ) -> list[Expired]:
        """The runs that ended between these times, and as long as all that is left is more than `max_bytes`, the
        oldest of whoever has most; so many and so large at most, but one in any case. Those that could not be
        deleted (`but_not`) count."""
        found: dict[str, Expired] = {}
        size = 0
        for run in self._too_old(after, before, most_runs + len(but_not)):
            if run.job_id in but_not:
                continue
            if found and size + run.bytes > most_bytes:
                return list(found.values())
            found[run.job_id], size = run, size + run.bytes
        sums: dict[str, int] = dict(self._connection.execute("SELECT owner, bytes FROM owners").fetchall())
        for run in found.values():
            sums[run.owner] -= run.bytes
        excess = sum(sums.values()) - max_bytes
        oldest: dict[str, Iterator[Expired]] = {}
        while excess > 0 and sums and len(found) < most_runs:
            owner = max(sums, key=sums.__getitem__)
            if owner not in oldest:
                oldest[owner] = self._oldest(owner)
            run = next((run for run in oldest[owner] if run.job_id not in found and run.job_id not in but_not), None)
            if run is None:
                del sums[owner]
                continue
            if found and size + run.bytes > most_bytes:
                break
            found[run.job_id], size = run, size + run.bytes
            sums[owner] -= run.bytes
            excess -= run.bytes
        return list(found.values())

    def _too_old(self, after: float, before: float, limit: int) -> Iterator[Expired]:
        rows = self._connection.execute(
            "SELECT job_id, claim_key, claim_body, owner, bytes FROM runs WHERE ended_at > ? AND ended_at < ?"
            " ORDER BY ended_at, no LIMIT ?",
            (after, before, limit),
        )
        return map(_expired, rows)

    def _oldest(self, owner: str) -> Iterator[Expired]:
        rows = self._connection.execute(
            "SELECT job_id, claim_key, claim_body, owner, bytes FROM runs WHERE owner = ? AND ended_at IS NOT NULL"
            " ORDER BY ended_at, no",
            (owner,),
        )
        return map(_expired, rows)


def _expired(row: tuple[str, str | None, str | None, str, int]) -> Expired:
    job_id, claim_key, claim_body, owner, size = row
    claim = IdempotencyKey(claim_key, claim_body) if claim_key is not None and claim_body is not None else None
    return Expired(job_id, claim, owner, size)
