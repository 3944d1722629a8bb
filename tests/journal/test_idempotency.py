"""The index of idempotency keys."""

import pytest

from swarmstream.journal.base import AlreadySubmitted
from swarmstream.journal.idempotency import IdempotencyIndex
from swarmstream.journal.records import IdempotencyKey

pytestmark = pytest.mark.anyio


def test_a_key_that_a_later_run_has_by_now_stays_when_the_first_run_is_forgotten() -> None:
    index = IdempotencyIndex()
    index.add(IdempotencyKey("key", "body"), "later")
    index.drop(IdempotencyKey("key", "body"), "first")
    with pytest.raises(AlreadySubmitted):
        index.add(IdempotencyKey("key", "body"), "third")
    index.drop(IdempotencyKey("key", "body"), "later")
    index.add(IdempotencyKey("key", "body"), "third")
