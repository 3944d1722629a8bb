"""The choice of the finished runs that expire: those that are too old, and the oldest of the owner that has most."""

import sqlite3
from collections.abc import Iterator, Set
from dataclasses import dataclass

from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.file.idempotency_keys import read_key


@dataclass(frozen=True, slots=True)
class Expired:
    """A finished run that is to be deleted."""

    job_id: str
    idempotency_key: IdempotencyKey | None
    owner: str
    bytes: int


class Retention:
    """The ages and the bytes of finished runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def totals(self) -> tuple[int, float | None]:
        """Return the bytes of all finished runs, and the Unix time at which the last of them ended."""
        [size] = self._connection.execute("SELECT coalesce(sum(bytes), 0) FROM owners").fetchone()
        [last] = self._connection.execute("SELECT max(ended_at) FROM runs WHERE ended_at IS NOT NULL").fetchone()
        return size, last

    def expired(
        self, *, after: float, before: float, max_bytes: int, most_runs: int, most_bytes: int, excluded: Set[str]
    ) -> list[Expired]:
        """Return some runs that are to be deleted: `most_runs` and `most_bytes` at most, but one in any case.

        First come those that ended between these times; then, as long as all that is left is more than `max_bytes`,
        the oldest run of the owner that has most. The runs in `excluded` are not returned, but their bytes count.
        """
        found: dict[str, Expired] = {}
        size = 0
        for run in self._too_old(after, before, most_runs + len(excluded)):
            if run.job_id in excluded:
                continue
            if found and size + run.bytes > most_bytes:
                return list(found.values())
            found[run.job_id], size = run, size + run.bytes
        left: dict[str, int] = dict(self._connection.execute("SELECT owner, bytes FROM owners").fetchall())
        for run in found.values():
            left[run.owner] -= run.bytes
        for run in self._surplus(left, max_bytes, excluded | found.keys()):
            if len(found) >= most_runs or (found and size + run.bytes > most_bytes):
                break
            found[run.job_id], size = run, size + run.bytes
        return list(found.values())

    def _surplus(self, left: dict[str, int], max_bytes: int, excluded: Set[str]) -> Iterator[Expired]:
        """Yield the oldest run of the owner that has most, again and again, until `left`, bytes by owner, is within
        `max_bytes`."""
        excess = sum(left.values()) - max_bytes
        oldest: dict[str, Iterator[Expired]] = {}
        while excess > 0 and left:
            owner = max(left, key=left.__getitem__)
            if owner not in oldest:
                oldest[owner] = self._oldest(owner)
            run = next((run for run in oldest[owner] if run.job_id not in excluded), None)
            if run is None:
                del left[owner]
                continue
            yield run
            left[owner] -= run.bytes
            excess -= run.bytes

    def _too_old(self, after: float, before: float, limit: int) -> Iterator[Expired]:
        rows = self._connection.execute(
            "SELECT job_id, claim_key, claim_body, owner, bytes FROM runs WHERE ended_at > ? AND ended_at < ?"
            " ORDER BY ended_at, no LIMIT ?",
            (after, before, limit),
        )
        return map(_read_expired, rows)

    def _oldest(self, owner: str) -> Iterator[Expired]:
        rows = self._connection.execute(
            "SELECT job_id, claim_key, claim_body, owner, bytes FROM runs WHERE owner = ? AND ended_at IS NOT NULL"
            " ORDER BY ended_at, no",
            (owner,),
        )
        return map(_read_expired, rows)


def _read_expired(row: tuple[str, str | None, str | None, str, int]) -> Expired:
    job_id, claim_key, claim_body, owner, size = row
    return Expired(job_id, read_key(claim_key, claim_body), owner, size)
