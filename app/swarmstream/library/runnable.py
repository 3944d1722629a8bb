"""What agents and teams have in common: a task goes in, a run comes out, in any of the ways that programs wait."""

import asyncio
import atexit
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from threading import get_ident
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, overload

from anyio import CancelScope
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import ValidationError

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.journal.summary import Summary
from swarmstream.library.arguments import refusal, refuse_unknown
from swarmstream.library.environment import Environment, surroundings
from swarmstream.library.events import Callback, Frame, event_of
from swarmstream.library.handle import RunHandle
from swarmstream.library.outcomes import check_end
from swarmstream.runs.job import Job
from swarmstream.terminal.output import picture_for

ResultT = TypeVar("ResultT")
EventT = TypeVar("EventT")


class _Audience(Protocol):
    """What a run is shown to."""

    def show(self, frame: Mapping[str, Any], /) -> None: ...


class Runnable(ABC, Generic[ResultT, EventT]):
    """Something that can be given a task. It holds no state of a run: it may serve many tasks at once."""

    _clock: ClassVar[Clock] = SYSTEM_CLOCK

    def __new__(cls, *_: Any, **arguments: Any) -> Self:
        """Before anything is missed: who misspells an argument is told of that.

        Raises:
            TypeError: an argument is unknown.
        """
        refuse_unknown(cls, arguments)
        return super().__new__(cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._title()})"

    @abstractmethod
    def _title(self) -> str:
        """What tells it from others, as arguments are written."""

    @abstractmethod
    def _job(self, task: str, img: str | None, its: Environment) -> Job:
        """The run that a task becomes."""

    @abstractmethod
    def _result(self, summary: Summary) -> ResultT:
        """What a run that succeeded comes to."""

    @abstractmethod
    def _told(self, callback: Callback) -> Callback:
        """What calls the caller's callback, made for one run; it takes frames."""

    @abstractmethod
    def _audience(self) -> AbstractContextManager[_Audience] | None:
        """Who draws the run on the terminal, if anybody."""

    def _learn(self, task: str, summary: Summary) -> None:
        """Take in what became of a run that has ended."""

    def start(self, task: str, img: str | None = None, *, timeout: float | None = None) -> RunHandle[ResultT]:
        """Begin a run in the running event loop, and come back at once.

        `timeout` is in seconds. Whatever can be wrong with the task, the agents or their models is raised here.

        Raises:
            AppError: it cannot be run.
            RuntimeError: no event loop is running.
        """
        _check_loop()
        its = surroundings(clock=self._clock)
        try:
            job = self._job(task, img, its)
        except ValidationError as error:
            raise refusal(error) from error
        return RunHandle(
            job, self._result, on_end=lambda summary: self._learn(task, summary), timeout=timeout, surroundings=its
        )

    def run(self, task: str, img: str | None = None, streaming_callback: Callback | None = None) -> ResultT:
        """Run to the end; the result. `streaming_callback` is called in this thread.

        Raises:
            AppError: it cannot be run.
            TypeError: the callback is async.
            RunFailure: it did not succeed.
            Exception: whatever the callback raised, which ended the run.
        """
        hear = self._told(streaming_callback) if streaming_callback else None
        with _in_a_thread(lambda: self.start(task, img)) as run, self._drawn(hear) as show:
            for frame in run.frames():
                show(frame)
                if hear is not None and inspect.iscoroutine(said := hear(frame)):
                    said.close()
                    raise TypeError("an async streaming_callback takes arun")
            summary = run.summary()
        return self._concluded(summary)

    async def arun(self, task: str, img: str | None = None, streaming_callback: Callback | None = None) -> ResultT:
        """As `run`, in the running event loop. The callback may be async."""
        hear = self._told(streaming_callback) if streaming_callback else None
        async with _within(self.start(task, img)) as handle:
            with self._drawn(hear) as show:
                reader = handle.reader()
                while frames := await reader.read():
                    for frame in frames:
                        show(frame)
                        if hear is not None and inspect.isawaitable(said := hear(frame)):
                            await said
            summary = await handle.summary()
        return self._concluded(summary)

    @overload
    def run_stream(
        self, task: str, with_events: Literal[False] = False, img: str | None = None
    ) -> Generator[str, None, None]: ...
    @overload
    def run_stream(
        self, task: str, with_events: Literal[True], img: str | None = None
    ) -> Generator[EventT, None, None]: ...
    def run_stream(self, task: str, with_events: bool = False, img: str | None = None) -> Generator[Any, None, None]:
        """The run's tokens as they come, or its events. Closing the generator cancels the run.

        Raises:
            AppError: it cannot be run.
            RunFailure: it did not succeed; all that it gave was yielded before.
        """
        with _in_a_thread(lambda: self.start(task, img)) as run:
            for frame in run.frames():
                if with_events:
                    yield event_of(frame)
                elif frame["event"] == "chunk":
                    yield frame["data"]["content"]
            summary = run.summary()
        self._concluded(summary)

    @overload
    def arun_stream(
        self, task: str, with_events: Literal[False] = False, img: str | None = None
    ) -> AsyncGenerator[str, None]: ...
    @overload
    def arun_stream(
        self, task: str, with_events: Literal[True], img: str | None = None
    ) -> AsyncGenerator[EventT, None]: ...
    async def arun_stream(
        self, task: str, with_events: bool = False, img: str | None = None
    ) -> AsyncGenerator[Any, None]:
        """As `run_stream`, in the running event loop."""
        async with _within(self.start(task, img)) as handle:
            reader = handle.reader()
            while frames := await reader.read():
                for frame in frames:
                    if with_events:
                        yield event_of(frame)
                    elif frame["event"] == "chunk":
                        yield frame["data"]["content"]
            summary = await handle.summary()
        self._concluded(summary)

    def _concluded(self, summary: Summary) -> ResultT:
        check_end(summary)
        return self._result(summary)

    @contextmanager
    def _drawn(self, hear: Callback | None) -> Generator[Callable[[Frame], None]]:
        """What shows frames on the terminal. Whoever has a callback draws for himself."""
        audience = None if hear else self._audience()
        if audience is None:
            yield _ignore
            return
        with audience as picture:
            yield picture.show


def drawing(*, live: bool, verbose: bool, title: str | None = None) -> AbstractContextManager[_Audience]:
    """A picture of a run on standard output."""
    return picture_for(sys.stdout, live=live, verbose=verbose, title=title)


def _check_loop() -> None:
    """Say what to do where no event loop is running.

    Raises:
        RuntimeError: none is.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "start() needs a running event loop: call it in an async function, or call run(), which needs none"
        ) from None


def _ignore(_: Frame) -> None:
    pass


class _ThreadedRun(Generic[ResultT]):
    """A run whose event loop is in another thread, as this thread sees it."""

    def __init__(self, portal: BlockingPortal, handle: RunHandle[ResultT]) -> None:
        self._portal = portal
        self._handle = handle

    def frames(self) -> Generator[Frame, None, None]:
        reader = self._portal.call(self._handle.reader)
        while frames := self._portal.call(reader.read):
            yield from frames

    def summary(self) -> Summary:
        return self._portal.call(self._handle.summary)


_open: set[ExitStack] = set()
"""What synchronous runs have to close."""
_left: list[ExitStack] = []
"""Runs that are cancelled and still have to be closed, by another thread than theirs."""


@atexit.register
def _close_what_is_left() -> None:
    """A generator left behind would close it after the interpreter has stopped its event loop's thread: too late."""
    for stack in list(_open):
        stack.close()


@contextmanager
def _in_a_thread(start: Callable[[], RunHandle[ResultT]]) -> Generator[_ThreadedRun[ResultT]]:
    """A run in an event loop of its own, whether or not this thread has one. Nothing of it outlives the block."""

    async def begin() -> RunHandle[ResultT]:
        return start()  # itself awaitable: called directly, it would be awaited to its end

    while _left:
        _left.pop().close()
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        handle = portal.call(begin)
        its_thread = portal.call(get_ident)
        stack.callback(portal.call, handle.closed)
        stack.callback(portal.call, handle.cancel)
        _open.add(stack)
        try:
            yield _ThreadedRun(portal, handle)
        finally:
            _open.discard(stack)
            if get_ident() == its_thread:
                # The garbage collector found the generator from within the run: a thread cannot wait for its own end.
                handle.cancel()
                _left.append(stack.pop_all())


@asynccontextmanager
async def _within(handle: RunHandle[ResultT]) -> AsyncGenerator[RunHandle[ResultT]]:
    """A run in this event loop. Nothing of it outlives the block, also where that is cancelled."""
    try:
        yield handle
    finally:
        handle.cancel()
        with CancelScope(shield=True):
            await handle.closed()
