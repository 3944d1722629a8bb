"""The blobs of a row of `runs`, packed and unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

import msgspec

from swarmstream.events import EndStatus, RunEnded, RunKind
from swarmstream.journal.checksums import HEAD_BYTES, Damaged, add_checksum, add_checksum_in_place, verified_content
from swarmstream.journal.codec import pack, unpack
from swarmstream.journal.records import Entry, RunRecord, RunState, placeholder_description

LEAST_JUMP = 1_000_000
"""The least difference between the numbers before and after a run was resumed: more than the events that readers can
have seen and that were not written. A smaller gap means that events are lost."""

_STORED_FIELDS: dict[str, str] = {"idempotency_key": "claim"}
"""The names in the file of the record's fields that have another name there."""
_FIELDS = {stored: field for field, stored in _STORED_FIELDS.items()}
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
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
    """Its events without deltas and tools; empty while it is in progress."""
    fault: str | None = None
    """The reason that it cannot be read. The record then holds only what the row's columns do, and the outline only a
    placeholder."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row beside its blobs."""

    no: int
    job_id: str
    owner: str
    state: str
    created_at: float
    first_event_id: int
    last_event_id: int
    ended_at: float | None


def pack_record(no: int, record: RunRecord) -> bytearray:
    """Return the `record` column of a run."""
    fields = {_STORED_FIELDS.get(field, field): getattr(record, field) for field in RunRecord.__dataclass_fields__}
    room = bytearray(HEAD_BYTES)
    _encode_into(fields, room, HEAD_BYTES)
    return add_checksum_in_place(room, b"record %d" % no)


def pack_outline(no: int, outline: Sequence[Entry]) -> bytes:
    """Return the `outline` column of a run."""
    return add_checksum(pack((no, number, event) for number, event in outline), b"outline %d" % no)


def unpack_record(no: int, stored: bytes) -> RunRecord:
    """Return the record that a column holds.

    Raises:
        Damaged: it cannot be read.
    """
    content = verified_content(stored, b"record %d" % no)
    try:
        fields = {_FIELDS.get(name, name): value for name, value in _decode(content).items()}
        return msgspec.convert(fields, RunRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"the record cannot be decoded: {error}") from error


def unpack_row(columns: Columns, record: bytes, outline: bytes | None) -> StoredRun:
    """Return the run that a row holds.

    Raises:
        Damaged: it cannot be read, or its parts contradict each other.
    """
    no = columns.no
    unpacked = unpack_record(no, record)
    entries = unpack_entries(verified_content(outline, b"outline %d" % no)) if outline else []
    last, ended = entries[-1] if entries else (0, None)
    fits = unpacked.job_id == columns.job_id and unpacked.owner == columns.owner
    if outline:
        fits &= isinstance(ended, RunEnded) and (ended.status, last) == (columns.state, columns.last_event_id)
    else:
        fits &= columns.state == "running"
    if not fits:
        raise Damaged("the row's columns do not fit its contents")
    state = cast(RunState, columns.state)
    return StoredRun(no, unpacked, state, columns.first_event_id, columns.last_event_id, columns.ended_at, entries)


def salvage_row(columns: Columns, fault: str) -> StoredRun:
    """Return what is left of a run whose blobs cannot be read."""
    kind: RunKind = "swarm" if columns.job_id.startswith("swarms-") else "agent"
    record = RunRecord(columns.job_id, columns.owner, kind, _to_datetime(columns.created_at))
    is_known = columns.state == "running" or columns.state in get_args(EndStatus)
    state = cast(RunState, columns.state) if is_known else "failed"
    outline: list[Entry] = [(1, placeholder_description(record))] if state != "running" else []
    bounds = columns.first_event_id, columns.last_event_id
    return StoredRun(columns.no, record, state, *bounds, columns.ended_at, outline, fault)


def unpack_entries(packed: bytes | memoryview) -> list[Entry]:
    """Return the events of an outline or of a segment.

    Raises:
        Damaged: they cannot be decoded.
    """
    return [(number, event) for _, number, event in unpack(packed)]


def intact_length(numbers: Sequence[int], *, first: int) -> int:
    """Return how many of the events with these numbers there are before one is missing, counting from `first`."""
    before = first - 1
    for place, number in enumerate(numbers):
        if number != before + 1 and number < before + LEAST_JUMP:
            return place
        before = number
    return len(numbers)


def _to_datetime(unix_seconds: Any) -> datetime:
    try:
        return datetime.fromtimestamp(unix_seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
