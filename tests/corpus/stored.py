"""The corpus as it is kept: a data directory, what live clients were answered, and digests of what later ones were."""

import hashlib
import lzma
from pathlib import Path

from swarmstream.journal.sqlite.data_directory import FILE
from tests.corpus.recording import read

_HERE = Path(__file__).parent
JOURNAL = _HERE / "journal.sqlite3.xz"
JOB_IDS = _HERE / "job_ids.txt"
LIVE = _HERE / "live"
"""A file each kind and way: the status in the first line, then the body."""
DIGESTS = _HERE / "digests.json"


def stored_journal(folder: Path) -> list[str]:
    """Lay the stored data directory out in a folder; the ids of its runs, in order."""
    file = folder / FILE
    file.touch(mode=0o600)
    file.write_bytes(lzma.decompress(JOURNAL.read_bytes()))
    return JOB_IDS.read_text().split()


async def digests(folder: Path, job_ids: list[str]) -> dict[str, str]:
    """Of every answer about the runs of a data directory."""
    return {name: hashlib.sha256(body).hexdigest()[:16] for name, body in (await read(folder, job_ids)).items()}
