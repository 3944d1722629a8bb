"""Clients read of a run what they have always read of it, byte by byte: live, and from a data directory of old.

Where the wire is to change, `python -m tests.corpus` writes the corpus anew, and its difference is looked through.
"""

from pathlib import Path

import orjson
import pytest

from tests.corpus.recording import record
from tests.corpus.stored import DIGESTS, LIVE, digests, stored_journal

pytestmark = pytest.mark.anyio


@pytest.mark.noisy
async def test_live_runs_of_every_kind_answer_as_they_always_have(tmp_path: Path) -> None:
    answers, _ = await record(tmp_path)
    assert answers.keys() == {str(path.relative_to(LIVE).with_suffix("")) for path in LIVE.rglob("*.http")}
    for name, body in answers.items():
        assert body.decode() == (LIVE / f"{name}.http").read_bytes().decode(), name


async def test_a_data_directory_of_old_is_read_as_it_always_was(tmp_path: Path) -> None:
    job_ids = stored_journal(tmp_path)
    found = await digests(tmp_path, job_ids)
    expected: dict[str, str] = orjson.loads(DIGESTS.read_bytes())
    assert found.keys() == expected.keys()
    assert {name for name in found if found[name] != expected[name]} == set()
