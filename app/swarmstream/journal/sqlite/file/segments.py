"""The `segments` table: the events of finished runs, some thousand in a row.

A run's segments are chained: the checksum of each depends on the one before, so that a missing one is noticed.
"""

import sqlite3
from collections.abc import Sequence

from swarmstream.journal.checksums import Damaged, add_checksum, chain_link, verified_content
from swarmstream.journal.codec import pack
from swarmstream.journal.records import Entry
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.damage import as_damage
from swarmstream.journal.sqlite.file.stored_run import StoredRun, intact_length, unpack_entries

_ENTRIES_A_SEGMENT = 4096


class SegmentTable:
    """Segments by run and by the number of their first event."""

    def __init__(self, connections: Connections) -> None:
        self._main = connections.main
        self._committed = connections.committed

    def write(self, no: int, entries: Sequence[Entry]) -> int:
        """Write a run's events, and return the bytes that they take."""
        size, before = 0, b""
        for start in range(0, len(entries), _ENTRIES_A_SEGMENT):
            part = entries[start : start + _ENTRIES_A_SEGMENT]
            first = part[0][0]
            stored = add_checksum(pack((no, number, event) for number, event in part), _key(no, first, before))
            size, before = size + len(stored), chain_link(stored)
            self._main.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (no, first, stored))
        return size

    def delete(self, no: int) -> None:
        """Delete all segments of a run."""
        self._main.execute("DELETE FROM segments WHERE run = ?", (no,))

    def check(self, no: int) -> None:
        """Read all segments of a run.

        Raises:
            sqlite3.DatabaseError: their pages cannot be read.
        """
        for _ in self._committed.execute("SELECT events FROM segments WHERE run = ?", (no,)):
            pass

    def entries(self, run: StoredRun) -> list[Entry]:
        """Return the events of a finished run.

        Raises:
            Damaged: they are not all there as they were written.
        """
        if run.fault is not None:
            raise Damaged(run.fault)
        entries = self._read(run.no)
        bounds = (entries[0][0], entries[-1][0]) if entries else (0, 0)
        is_whole = intact_length([number for number, _ in entries], first=run.first_event_id) == len(entries)
        if not is_whole or bounds != (run.first_event_id, run.last_event_id):
            raise Damaged("some of its events are missing")
        return entries

    def _read(self, no: int) -> list[Entry]:
        entries: list[Entry] = []
        before = b""
        try:
            rows = self._committed.execute("SELECT first, events FROM segments WHERE run = ? ORDER BY first", (no,))
            for first, stored in rows:
                entries += unpack_entries(verified_content(stored, _key(no, first, before)))
                before = chain_link(stored)
        except sqlite3.DatabaseError as error:
            raise as_damage(error) from error
        return entries


def _key(no: int, first: int, before: bytes) -> bytes:
    return b"segment %d %d %b" % (no, first, before)
