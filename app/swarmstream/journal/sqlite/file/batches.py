"""The `batches` table: the events that all live runs appended within a moment, one row for each moment."""

import logging
import sqlite3
from collections.abc import Iterable

from swarmstream.journal.checksums import Damaged, add_checksum, verified_content
from swarmstream.journal.codec import RunEvent, pack, without_run
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.damage import as_damage

logger = logging.getLogger(__name__)

_NO_LIMIT = 1 << 62


class BatchTable:
    """Batches by their numbers, which ascend."""

    def __init__(self, connections: Connections) -> None:
        self._main = connections.main
        self._committed = connections.committed

    def add(self, batch: int, events: Iterable[RunEvent]) -> None:
        """Write a batch, also where that was done already."""
        self._main.execute("INSERT OR REPLACE INTO batches VALUES (?, ?)", (batch, _stored(batch, events)))

    def add_alone(self, batch: int, events: Iterable[RunEvent], epoch: int) -> bool:
        """Write a batch in a transaction of its own if the epoch is this one; returns False if it is another.

        Each statement lets go of the interpreter twice, and most transactions are one batch and nothing else.
        """
        inserted = self._main.execute(
            "INSERT OR REPLACE INTO batches SELECT ?, ? FROM meta WHERE name = 'epoch' AND value = ?",
            (batch, _stored(batch, events), epoch),
        )
        return inserted.rowcount == 1

    def last_number(self) -> int:
        """Return the highest number that a batch has, or that a live run expects its first batch to have."""
        [last] = self._main.execute("SELECT coalesce(max(id), 0) FROM batches").fetchone()
        [expected] = self._main.execute(
            "SELECT coalesce(max(first_batch), 0) FROM runs WHERE state = 'running'"
        ).fetchone()
        return max(last, expected)

    def numbers_from(self, first: int | None) -> list[int]:
        """Return the numbers of the batches from `first` on, ascending; none for None."""
        rows = self._committed.execute("SELECT id FROM batches WHERE id >= ? ORDER BY id", (first,))
        return [number for (number,) in rows.fetchall()]

    def content(self, batch: int) -> bytes | memoryview:
        """Return the events of a batch, packed.

        Raises:
            Damaged: they cannot be read.
        """
        try:
            [stored] = self._committed.execute("SELECT events FROM batches WHERE id = ?", (batch,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        return verified_content(stored, _key(batch))

    def delete_unneeded(self, next_batch: int) -> None:
        """Delete the batches that no run in progress needs, below `next_batch`."""
        self._main.execute(
            "DELETE FROM batches WHERE id < coalesce((SELECT min(first_batch) FROM runs WHERE state = 'running'), ?)",
            (next_batch,),
        )

    def delete_run(self, no: int, first: int, last: int | None) -> None:
        """Delete a run's events from the batches that other runs still need.

        `first` and `last` bound the batches that may hold them; `last` is None for runs that ended under an older
        release. A batch that cannot be read is logged and left.
        """
        bounds = (first, last if last is not None else _NO_LIMIT)
        numbers = self._main.execute("SELECT id FROM batches WHERE id BETWEEN ? AND ?", bounds).fetchall()
        for (batch,) in numbers:
            try:
                self.content(batch)  # so that damage is met outside of the transaction
                [stored] = self._main.execute("SELECT events FROM batches WHERE id = ?", (batch,)).fetchone()
                left = without_run(verified_content(stored, _key(batch)), no)
            except Damaged as damage:
                logger.warning("batch %d may hold events of a run that was deleted: %s", batch, damage)
                continue
            if left is not None:
                self._main.execute(
                    "UPDATE batches SET events = ? WHERE id = ?", (add_checksum(left, _key(batch)), batch)
                )


def _key(batch: int) -> bytes:
    return b"batch %d" % batch


def _stored(batch: int, events: Iterable[RunEvent]) -> bytes:
    return add_checksum(pack(events), _key(batch))
