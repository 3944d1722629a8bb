"""The last events of a run: its failure, its usage, its one `RunEnded`."""

from swarmstream.engine.failures import as_failure
from swarmstream.errors import RunError, RunTimedOut
from swarmstream.events import EndStatus, RunEnded, RunFailed
from swarmstream.runs.recorder import RunRecorder


async def write_end(
    recorder: RunRecorder, reason: RunError | None, *, succeeded: bool, timeout_seconds: float = 0
) -> None:
    """Write what is missing of a run's last events, and close the recorder.

    A run that was resumed may have its failure, or its usage, already: its process ended before the rest was written.
    `succeeded` counts where there is no `reason`; `timeout_seconds` where the reason is `RunTimedOut`.
    """
    summary = recorder.summary
    now_ms = recorder.now_ms()
    if reason is not None and summary.stopped is None:
        recorder.append(
            RunFailed(
                now_ms,
                failure=as_failure(reason),
                elapsed_seconds=now_ms / 1000,
                active_agents=tuple(turn.agent for turn in summary.answers if turn.status == "cancelled"),
                timeout_seconds=timeout_seconds if isinstance(reason, RunTimedOut) else None,
            )
        )
    if summary.usage is None:
        recorder.append(summary.total(now_ms))
    by_itself: EndStatus = "success" if succeeded else "failed"
    await recorder.commit(
        RunEnded(
            now_ms,
            status=reason.end_status if reason else by_itself,
            duration_seconds=now_ms / 1000,
            failed_agents=summary.failed_agents,
        )
    )
    recorder.close()
