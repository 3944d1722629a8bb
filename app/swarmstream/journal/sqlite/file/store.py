"""A data directory's file as one thread has it open.

Theory of operation. Everything here is synchronous, and a `Store` belongs to one thread at a time.

| table | holds | module |
|---|---|---|
| `meta` | the epoch: the number of processes that have taken the directory | `epoch` |
| `runs` | a row for each run: its `record`, its state, its `outline` once it has ended | `runs`, `idempotency_keys` |
| `batches` | the events that all live runs appended within 20 ms, one row for each time | `batches` |
| `segments` | the events of each finished run | `segments` |
| `owners` | the bytes of each owner's finished runs, kept by triggers | `retention` |
| `stream_tokens` | the stream tokens that have connected | `stream_tokens` |

- A token costs a fraction of a write, since a batch is one row. When a run ends, its events are written once more, into
  `segments`, and the batches go that no run in progress needs. `first_batch` and `last_batch` bound the batches that
  may hold events of a run.
- A run's `outline` is its events without deltas and tools; lists and answers are made from it.
- When a run ends, its record is written again without secrets and images (see `blanking`).
- Every blob has a checksum that depends on where it belongs (see `checksums`). Batches are keyed by their number; a
  run's segments are chained; missing events of a live run are found by gaps in their numbers. Without this a damaged
  row would be read as somebody's events. A row that cannot be read is a `StoredRun` with a fault, and stops no other.
- A transaction that meets damage can write nothing any more. So rows that may be damaged are read over a second
  connection (`Connections.committed`), which sees the last commit.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from swarmstream.journal.records import RunRecord
from swarmstream.journal.sqlite.data_directory import Presence, warn_of_other_readers
from swarmstream.journal.sqlite.file.batches import BatchTable
from swarmstream.journal.sqlite.file.connections import Connections
from swarmstream.journal.sqlite.file.epoch import Epoch
from swarmstream.journal.sqlite.file.finished import FinishedRuns
from swarmstream.journal.sqlite.file.idempotency_keys import IdempotencyKeyColumns
from swarmstream.journal.sqlite.file.interrupted import InterruptedRuns
from swarmstream.journal.sqlite.file.retention import Retention
from swarmstream.journal.sqlite.file.runs import RunTable
from swarmstream.journal.sqlite.file.segments import SegmentTable
from swarmstream.journal.sqlite.file.space import Space
from swarmstream.journal.sqlite.file.stored_run import pack_record
from swarmstream.journal.sqlite.file.stream_tokens import StreamTokenTable


class Store:
    """The tables of a data directory."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        """Open the file; a writer makes it, and logs a warning where others can read it.

        Raises:
            OSError, sqlite3.Error: that cannot be done.
        """
        self.connections = Connections(folder, writes=writes)
        try:
            self._presence = Presence(folder)
            if writes:
                warn_of_other_readers(folder)
        except BaseException:
            self.connections.close()
            raise
        main = self.connections.main
        self.epoch = Epoch(main)
        self.space = Space(main)
        self.retention = Retention(main)
        self.idempotency_keys = IdempotencyKeyColumns(self.connections)
        self.stream_tokens = StreamTokenTable(self.connections)
        self.runs = RunTable(self.connections)
        self.batches = BatchTable(self.connections)
        self.segments = SegmentTable(self.connections)
        self.interrupted = InterruptedRuns(self.connections, self.runs, self.batches)
        self.finished = FinishedRuns(self.connections, self.runs, self.batches, self.segments, self.space)

    def close(self) -> None:
        self.connections.close()

    def transaction(self, *, outlives_host: bool = False) -> AbstractContextManager[None]:
        """Commit all that the block does, or nothing; with `outlives_host` it is on the disk when the block is over."""
        return self.connections.transaction(outlives_host=outlives_host)

    def begin_run(self, no: int, record: RunRecord, *, epoch: int, first_batch: int) -> None:
        """Write a run that begins; where that has been done, nothing is changed."""
        self.idempotency_keys.release(record.idempotency_key, for_run=no)
        self.runs.add(no, record, pack_record(no, record), epoch=epoch, first_batch=first_batch)

    def check_presence(self) -> None:
        """Check that the file is still where it was opened.

        Raises:
            OSError: it is not.
        """
        self._presence.check()

    def probe(self) -> None:
        """Write something that changes nothing, into a file that will be found.

        Raises:
            OSError, sqlite3.Error: that cannot be done.
        """
        self.check_presence()
        self.epoch.rewrite()
