"""Ends of runs that did not succeed, as exceptions."""

from swarmstream.errors import AppError, RunError, error_from_code
from swarmstream.journal.summary import Summary


class RunFailure(Exception):
    """A run did not succeed. Its last events are in its stream by the time this is raised."""

    def __init__(self, message: str, *, code: str, elapsed_seconds: float) -> None:
        super().__init__(message)
        self.code = code
        """See docs/wire.md, "Codes"."""
        self.elapsed_seconds = elapsed_seconds
        """Seconds since the run began, or since the turn that failed did."""


class Failed(RunFailure):
    """An agent failed for good."""

    def __init__(
        self, message: str, *, code: str, elapsed_seconds: float, agent: str | None, exception: AppError, attempts: int
    ) -> None:
        super().__init__(message, code=code, elapsed_seconds=elapsed_seconds)
        self.agent = agent
        """The name of the agent that failed; None where it was the run itself."""
        self.exception = exception
        """The error, with a class for each code."""
        self.attempts = attempts
        """Number of attempts of the model call that failed."""


class TimedOut(RunFailure):
    """The run took longer than its timeout."""

    def __init__(
        self, message: str, *, code: str, elapsed_seconds: float, timeout: float, active_agents: tuple[str, ...]
    ) -> None:
        super().__init__(message, code=code, elapsed_seconds=elapsed_seconds)
        self.timeout = timeout
        """Seconds."""
        self.active_agents = active_agents
        """Names of the agents whose turns were going on."""


class Cancelled(RunFailure):
    """The run was cancelled, or its event loop ended."""


def last_answer(summary: Summary) -> str:
    """Return the answer of the last turn that succeeded, of a run that did.

    Raises:
        Failed: every turn failed.
    """
    answers = [turn.output for turn in summary.answers if turn.status == "success" and turn.handed_to is None]
    failed = summary.failed_turn
    if answers or failed is None:
        return answers[-1] if answers else ""
    raise Failed(
        failed.failure.message,
        code=failed.failure.code,
        elapsed_seconds=failed.elapsed_seconds,
        agent=failed.agent,
        exception=error_from_code(failed.failure.code, failed.failure.message),
        attempts=failed.attempts,
    )


def check_end(summary: Summary) -> None:
    """Check that a run, which has ended, succeeded.

    Raises:
        Failed, TimedOut, Cancelled: it did not.
    """
    ended, stopped, failed = summary.ended, summary.stopped, summary.failed_turn
    assert ended is not None, "it has ended"
    if ended.status == "success":
        return
    failure = summary.failure
    assert failure is not None, "a run without success has a reason"
    code, message, seconds = failure.code, failure.message, ended.duration_seconds
    if ended.status == "timed_out" and stopped is not None and stopped.timeout_seconds is not None:
        raise TimedOut(
            message,
            code=code,
            elapsed_seconds=seconds,
            timeout=stopped.timeout_seconds,
            active_agents=stopped.active_agents,
        )
    if ended.status in ("cancelled", "interrupted"):
        raise Cancelled(message, code=code, elapsed_seconds=seconds)
    turn = failed if stopped is None else None
    raise Failed(
        message,
        code=code,
        elapsed_seconds=turn.elapsed_seconds if turn else seconds,
        agent=turn.agent if turn else None,
        exception=error_from_code(code, message, RunError if stopped else AppError),
        attempts=turn.attempts if turn else 0,
    )
