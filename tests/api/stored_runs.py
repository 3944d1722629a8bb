"""Finished runs, written to a journal by hand."""

from datetime import UTC, datetime

from swarmstream.api.auth import owner_name
from swarmstream.events import RunDescribed, RunEnded, RunStarted, TurnEnded, Usage, UsageTotalled
from swarmstream.journal.base import NO_CALLBACKS, Journal
from swarmstream.journal.records import RunRecord
from tests.conftest import KEY


async def add_run(journal: Journal, job_id: str, output: str, *, owner: str = owner_name(KEY)) -> None:
    """A finished run that has this for its output."""
    now = datetime.now(UTC)
    log = await journal.submit(RunRecord(job_id, owner, "swarm", now), NO_CALLBACKS)
    log.append(RunDescribed(0, job_id, "swarm", None, None, "AgentRearrange", 1, "standard", None, now, (), None))
    log.append(RunStarted(0))
    log.append(TurnEnded(1, "A", 1, None, "demo/A", output, "success", "stop", Usage(1, 1), 0.1))
    log.append(UsageTotalled(1, Usage(1, 1), ()))
    await log.commit(RunEnded(1, status="success", duration_seconds=0.001, failed_agents=()))
