"""Writes the corpus anew, after the wire was changed on purpose: `python -m tests.corpus`."""

import lzma
import shutil
import tempfile
from pathlib import Path

import anyio
import orjson

from tests.corpus.recording import record
from tests.corpus.stored import DIGESTS, FILE, JOB_IDS, JOURNAL, LIVE, digests


async def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        answers, job_ids = await record(folder)
        JOURNAL.write_bytes(lzma.compress((folder / FILE).read_bytes()))
        JOB_IDS.write_text("".join(f"{job_id}\n" for job_id in job_ids))
        shutil.rmtree(LIVE, ignore_errors=True)
        for name, body in answers.items():
            path = LIVE / f"{name}.http"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        found = await digests(folder, job_ids)
        DIGESTS.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


anyio.run(main)
