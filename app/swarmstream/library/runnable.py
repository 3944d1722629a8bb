"""The ways of running a task: to the end or as a stream, synchronous or not, or in the background."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, Literal, TypeVar, overload

from anyio import CancelScope
from pydantic import ValidationError

from swarmstream.journal.summary import Summary
from swarmstream.library.arguments import invalid_request
from swarmstream.library.callbacks import Callback
from swarmstream.library.definition import Definition, Display, ResultT
from swarmstream.library.environment import load_environment
from swarmstream.library.events import Frame, event_of
from swarmstream.library.handle import RunHandle
from swarmstream.library.outcomes import check_end
from swarmstream.library.threaded_run import in_thread

EventT = TypeVar("EventT")


class Runnable(Definition[ResultT], Generic[ResultT, EventT]):
    """Something that can be given a task. It holds no state of a run: it may serve many tasks at once."""

    def start(self, task: str, img: str | None = None, *, timeout: float | None = None) -> RunHandle[ResultT]:
        """Begin a run in the running event loop, and return at once.

        `timeout` is in seconds. Everything that can be wrong with the task, the agents or their models is raised here.

        Raises:
            AppError: it cannot be run.
            RuntimeError: no event loop is running.
        """
        _check_loop()
        env = load_environment(clock=self._clock)
        try:
            job = self._job(task, img, env)
        except ValidationError as error:
            raise invalid_request(error) from error
        return RunHandle(job, self._result, env, on_end=lambda summary: self._on_end(task, summary), timeout=timeout)

    def run(self, task: str, img: str | None = None, streaming_callback: Callback | None = None) -> ResultT:
        """Run to the end and return the result. `streaming_callback` is called in this thread.

        Raises:
            AppError: it cannot be run.
            TypeError: the callback is async.
            RunFailure: it did not succeed.
            Exception: what the callback raised, which ended the run.
        """
        on_frame = self._adapt_callback(streaming_callback) if streaming_callback else None
        with in_thread(lambda: self.start(task, img)) as run, _showing(None if on_frame else self._display()) as show:
            for frame in run.frames():
                show(frame)
                if on_frame is not None and inspect.iscoroutine(pending := on_frame(frame)):
                    pending.close()
                    raise TypeError("an async streaming_callback takes arun")
            summary = run.summary()
        return self._conclude(summary)

    async def arun(self, task: str, img: str | None = None, streaming_callback: Callback | None = None) -> ResultT:
        """Run to the end in the running event loop, as `run` does; the callback may be async."""
        on_frame = self._adapt_callback(streaming_callback) if streaming_callback else None
        async with _closing(self.start(task, img)) as handle:
            with _showing(None if on_frame else self._display()) as show:
                reader = handle.reader()
                while frames := await reader.read():
                    for frame in frames:
                        show(frame)
                        if on_frame is not None and inspect.isawaitable(pending := on_frame(frame)):
                            await pending
            summary = await handle.summary()
        return self._conclude(summary)

    @overload
    def run_stream(
        self, task: str, with_events: Literal[False] = False, img: str | None = None
    ) -> Generator[str, None, None]: ...
    @overload
    def run_stream(
        self, task: str, with_events: Literal[True], img: str | None = None
    ) -> Generator[EventT, None, None]: ...
    def run_stream(self, task: str, with_events: bool = False, img: str | None = None) -> Generator[Any, None, None]:
        """Yield the run's tokens as they come, or its events. Closing the generator cancels the run.

        Raises:
            AppError: it cannot be run.
            RunFailure: it did not succeed; everything that came of it was yielded before.
        """
        with in_thread(lambda: self.start(task, img)) as run:
            for frame in run.frames():
                if with_events:
                    yield event_of(frame)
                elif frame["event"] == "chunk":
                    yield frame["data"]["content"]
            summary = run.summary()
        self._conclude(summary)

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
        """Yield tokens or events in the running event loop, as `run_stream` does."""
        async with _closing(self.start(task, img)) as handle:
            reader = handle.reader()
            while frames := await reader.read():
                for frame in frames:
                    if with_events:
                        yield event_of(frame)
                    elif frame["event"] == "chunk":
                        yield frame["data"]["content"]
            summary = await handle.summary()
        self._conclude(summary)

    def _conclude(self, summary: Summary) -> ResultT:
        check_end(summary)
        return self._result(summary)


def _check_loop() -> None:
    """Check that an event loop is running, since asyncio's own error does not say what to do.

    Raises:
        RuntimeError: none is running.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "start() needs a running event loop: call it in an async function, or call run(), which needs none"
        ) from None


@contextmanager
def _showing(display: Display | None) -> Generator[Callable[[Frame], None]]:
    """Open the display, if there is one, and yield the function that shows a frame there."""
    if display is None:
        yield lambda _: None
        return
    with display as view:
        yield view.show


@asynccontextmanager
async def _closing(handle: RunHandle[ResultT]) -> AsyncGenerator[RunHandle[ResultT]]:
    """Cancel the run at the end of the block, and wait until nothing of it is left, also if the block is cancelled."""
    try:
        yield handle
    finally:
        handle.cancel()
        with CancelScope(shield=True):
            await handle.closed()
