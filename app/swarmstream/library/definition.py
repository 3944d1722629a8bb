"""The part of an agent or a team that each kind defines: its arguments, its jobs, its results, its view."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.journal.summary import Summary
from swarmstream.library.arguments import check_arguments
from swarmstream.library.callbacks import Callback
from swarmstream.library.environment import Environment
from swarmstream.library.outcomes import last_answer
from swarmstream.runs.job import Job

ResultT = TypeVar("ResultT")


class View(Protocol):
    """Something that shows a run's frames."""

    def show(self, frame: Mapping[str, Any], /) -> None: ...


Display: TypeAlias = AbstractContextManager[View]
"""A view for the length of a run."""


class Definition(ABC, Generic[ResultT]):
    """The hooks of a run: from a task to its job, from its summary to its result."""

    _clock: ClassVar[Clock] = SYSTEM_CLOCK

    def __new__(cls, *_: Any, **arguments: Any) -> Self:
        """Check the arguments' names before Python complains about those that are missing.

        Raises:
            TypeError: an argument is unknown.
        """
        check_arguments(cls, arguments)
        return super().__new__(cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title()})"

    @abstractmethod
    def _title(self) -> str:
        """Return the arguments that tell it from others, as they are written in code."""

    @abstractmethod
    def _job(self, task: str, img: str | None, env: Environment) -> Job:
        """Return the job for a task.

        Raises:
            AppError: it cannot be run.
            ValidationError: an argument has a value that no request may have.
        """

    @abstractmethod
    def _result(self, summary: Summary) -> ResultT:
        """Return the result of a run that succeeded."""

    @abstractmethod
    def _adapt_callback(self, callback: Callback) -> Callback:
        """Adapt the caller's callback to one run's frames."""

    @abstractmethod
    def _display(self) -> Display | None:
        """Return what shows a run on the terminal; None shows nothing."""

    def _on_end(self, task: str, summary: Summary) -> None:
        """Keep what is to be kept of a run that has ended, however it did."""


class LastAnswerResult(Definition[str]):
    """The hook of kinds whose result is the last answer."""

    def _result(self, summary: Summary) -> str:
        return last_answer(summary)
