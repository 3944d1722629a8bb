"""A row of `runs` as a run: all that was written of it, or why it cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

import msgspec

from swarmstream.events import EndStatus, Event, RunEnded, RunKind
from swarmstream.journal.base import Entry, RunRecord, RunState, description_of
from swarmstream.journal.checksums import HEAD_BYTES, Damaged, checked, checked_in_place, content_of
from swarmstream.journal.codec import pack, unpack

LEAST_JUMP = 1_000_000
"""By how much the numbers of a run go up at least where it was recovered; a smaller gap means that events are lost."""

_decode_record = msgspec.msgpack.Decoder(RunRecord).decode
_encode_into = msgspec.msgpack.Encoder().encode_into


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A row of `runs`."""

    no: int
    record: RunRecord
    state: RunState
    first_event_id: int
    last_event_id: int
    ended_at: float | None
    outline: Sequence[Entry]
    """Its events but for deltas and tools; empty while it is in progress."""
    fault: str | None = None
    """Why it cannot be read. The record then says only what the row's columns do, and the outline only that there is
    such a run."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the row says of a run beside its blobs."""

    no: int
    job_id: str
    owner: str
    state: str
    created_at: float
    first_event_id: int
    last_event_id: int
    ended_at: float | None


def stored_record(no: int, record: RunRecord) -> bytearray:
    """The `record` column."""
    room = bytearray(HEAD_BYTES)
    _encode_into(record, room, HEAD_BYTES)
    return checked_in_place(room, b"record %d" % no)


def stored_outline(no: int, outline: Sequence[Entry]) -> bytes:
    """The `outline` column."""
    return checked(pack((no, number, event) for number, event in outline), b"outline %d" % no)


def record_of(no: int, record: bytes) -> RunRecord:
    """The record that a column holds.

    Raises:
        Damaged: it cannot be read.
    """
    content = content_of(record, b"record %d" % no)
    try:
        return _decode_record(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"the record cannot be decoded: {error}") from error


def run_of(columns: Columns, record: bytes, outline: bytes | None) -> StoredRun:
    """The run that a row holds.

    Raises:
        Damaged: it cannot be read, or its parts contradict each other.
    """
    no = columns.no
    its = record_of(no, record)
    entries = entries_of(content_of(outline, b"outline %d" % no)) if outline else []
    last, ended = entries[-1] if entries else (0, None)
    fits = its.job_id == columns.job_id and its.owner == columns.owner
    if outline:
        fits &= isinstance(ended, RunEnded) and (ended.status, last) == (columns.state, columns.last_event_id)
    else:
        fits &= columns.state == "running"
    if not fits:
        raise Damaged("the row's columns do not fit its contents")
    state = cast(RunState, columns.state)
    return StoredRun(no, its, state, columns.first_event_id, columns.last_event_id, columns.ended_at, entries)


def fragment_of(columns: Columns, fault: str) -> StoredRun:
    """What is left of a run that cannot be read."""
    kind: RunKind = "swarm" if columns.job_id.startswith("swarms-") else "agent"
    record = RunRecord(columns.job_id, columns.owner, kind, _time_of(columns.created_at))
    known = columns.state == "running" or columns.state in get_args(EndStatus)
    state = cast(RunState, columns.state) if known else "failed"
    outline: list[Entry] = [(1, description_of(record))] if state != "running" else []
    ends = columns.first_event_id, columns.last_event_id
    return StoredRun(columns.no, record, state, *ends, columns.ended_at, outline, fault)


def entries_of(packed: bytes | memoryview) -> list[Entry]:
    """The events of an outline or of a segment.

    Raises:
        Damaged: they cannot be decoded.
    """
    entries: list[tuple[int, Event]] = [(number, event) for _, number, event in unpack(packed)]
    return entries


def whole_part(numbers: Sequence[int], *, first: int) -> int:
    """How many of the events with these numbers there are, which count from `first`, before some are missing."""
    before = first - 1
    for place, number in enumerate(numbers):
        if number != before + 1 and number < before + LEAST_JUMP:
            return place
        before = number
    return len(numbers)


def _time_of(created_at: Any) -> datetime:
    try:
        return datetime.fromtimestamp(created_at, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
