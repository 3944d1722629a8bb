"""The `stream_tokens` table: the stream tokens of each run that have connected, by their digests."""

from swarmstream.journal.records import MAX_ADMITTED
from swarmstream.journal.sqlite.file.connections import Connections


class StreamTokenTable:
    """Digests by run, at most `MAX_ADMITTED` of each; a trigger deletes them with their run."""

    def __init__(self, connections: Connections) -> None:
        self._main = connections.main
        self._committed = connections.committed

    def add(self, job_id: str, digest: bytes) -> bool:
        """Remember a token, and forget the oldest of too many; returns False where there is no such run."""
        row = self._main.execute("SELECT no FROM runs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            return False
        self._main.execute("INSERT OR IGNORE INTO stream_tokens VALUES (?, ?)", (row[0], digest))
        self._main.execute(
            "DELETE FROM stream_tokens WHERE rowid IN"
            " (SELECT rowid FROM stream_tokens WHERE run = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
            (row[0], MAX_ADMITTED),
        )
        return True

    def has(self, job_id: str, digest: bytes) -> bool:
        """Tell whether the run's token is remembered."""
        found = self._committed.execute(
            "SELECT 1 FROM stream_tokens WHERE digest = ? AND run = (SELECT no FROM runs WHERE job_id = ?)",
            (digest, job_id),
        )
        return found.fetchone() is not None
