"""How a run can end other than well, as exceptions."""

from swarmstream.errors import AppError, RunError, error_from_code
from swarmstream.journal.summary import Summary


class RunFailure(Exception):
    """A run that did not succeed. Its last events were in its stream before this is raised."""

    def __init__(self, message: str, *, code: str, elapsed_seconds: float) -> None:
        super().__init__(message)
        self.code = code
        """See docs/wire.md, "Codes"."""
        self.elapsed_seconds = elapsed_seconds
        """Since the run began; of a turn that failed, since that began."""


class Failed(RunFailure):
    """An agent failed for good."""

    def __init__(
        self, message: str, *, code: str, elapsed_seconds: float, agent: str | None, exception: AppError, attempts: int
    ) -> None:
        super().__init__(message, code=code, elapsed_seconds=elapsed_seconds)
        self.agent = agent
        """Who failed; None where it was the run itself."""
        self.exception = exception
        """What went wrong."""
        self.attempts = attempts
        """How often the model was asked, the last time that it was."""


class TimedOut(RunFailure):
    """The run took longer than its timeout."""

    def __init__(
        self, message: str, *, code: str, elapsed_seconds: float, timeout: float, active_agents: tuple[str, ...]
    ) -> None:
        super().__init__(message, code=code, elapsed_seconds=elapsed_seconds)
        self.timeout = timeout
        """In seconds."""
        self.active_agents = active_agents
        """The names of those who were speaking."""


class Cancelled(RunFailure):
    """The run was cancelled, or its event loop ended."""


def last_answer(summary: Summary) -> str:
    """What the last turn said that did not fail; the run has ended well.

    Raises:
        Failed: all of them did.
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
    """Raise what became of a run, if it did not succeed; it has ended.

    Raises:
        RunFailure: one of its kinds.
    """
    ended, stopped, failed = summary.ended, summary.stopped, summary.failed_turn
    assert ended is not None, "it has ended"
    if ended.status == "success":
        return
    failure = summary.failure
    assert failure is not None, "whatever is no success has a reason"
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
        exception=error_from_code(code, message, RunError if stopped else None),
        attempts=turn.attempts if turn else 0,
    )
