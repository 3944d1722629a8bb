"""A data directory of the first release opens, and reads the same."""

from pathlib import Path

import msgspec
import pytest

from swarmstream.errors import StorageUnavailable
from swarmstream.journal.base import NO_CALLBACKS, AlreadySubmitted
from swarmstream.journal.checksums import HEAD_BYTES
from swarmstream.journal.codec import pack
from swarmstream.journal.records import IdempotencyKey
from swarmstream.journal.sqlite.file.stored_run import pack_record, unpack_record
from tests.fakes.clock import DrivenClock
from tests.journal.directories import OLD_FIELDS, ids, old_store, opened_still, query_rows, swept
from tests.journal.sample_runs import END, begin, read_all, record, text

pytestmark = pytest.mark.anyio


async def test_a_directory_of_the_first_release_opens_and_reads_the_same(tmp_path: Path) -> None:
    events = old_store(tmp_path, runs=3)
    async with opened_still(tmp_path) as journal:
        for no in (1, 2, 3):
            assert [event for _, event in await read_all(await journal.open_cursor(f"old-{no}"))] == events
        assert await ids(journal, "o1") == ["live", "old-1", "old-3"]
        assert (await journal.status("old-2")).record.body == b'{"task":"t"}'
        [live] = await journal.claim_interrupted()
        loaded, entries = await live.load()
        assert [event for _, event in entries] == [text(1)]
        assert loaded.body == b'{"task":"live"}'
        with pytest.raises(AlreadySubmitted):
            await begin(journal, "again", idempotency_key=IdempotencyKey("key", "digest"))
        await live.resume(NO_CALLBACKS).commit(END)
        await journal.delete("old-1")
        await journal.trim("old-3", 3)
    sums = query_rows(tmp_path, "SELECT owner, sum(bytes) FROM runs GROUP BY owner")
    assert query_rows(tmp_path, "SELECT * FROM owners") == sums
    async with opened_still(tmp_path) as journal:
        assert await ids(journal, "o1") == ["live", "old-3"]
        assert len(await read_all(await journal.open_cursor("live"))) == 2


@pytest.mark.noisy
async def test_a_run_of_the_first_release_that_lost_events_is_not_read_without_them(tmp_path: Path) -> None:
    events = old_store(tmp_path, runs=1)
    query_rows(
        tmp_path, "UPDATE segments SET events = ?", pack([(1, 1, events[0]), (1, 3, events[2]), (1, 4, events[3])])
    )
    async with opened_still(tmp_path) as journal:
        with pytest.raises(StorageUnavailable):
            await journal.open_cursor("old-1")


async def test_runs_of_the_first_release_expire_for_their_size(tmp_path: Path) -> None:
    old_store(tmp_path, runs=20, body=b"x" * 10_000)
    clock = DrivenClock()
    async with opened_still(tmp_path, clock=clock, retain_bytes=100_000) as journal:
        await swept(journal, clock)
        assert len(await ids(journal, "o0")) + len(await ids(journal, "o1")) == 10


def test_a_record_is_stored_under_the_names_that_every_release_knows() -> None:
    keyed = record(body=b"{}", idempotency_key=IdempotencyKey("key", "digest"))
    stored = pack_record(1, keyed)
    fields = msgspec.msgpack.decode(stored[HEAD_BYTES:])
    assert list(fields) == [*OLD_FIELDS, "claim"]
    assert fields["claim"] == {"key": "key", "body": "digest"}
    assert unpack_record(1, bytes(stored)) == keyed
