"""Watching a run from its first frame to its last, which Ctrl-C may cancel."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import anyio
from anyio import CancelScope, create_task_group, open_signal_receiver

_LAST_FRAMES_SECONDS = 5.0
"""For a cancelled run to reach its `end`."""
_CLOSE_SECONDS = 2.0


class Frames(Protocol):
    """A run's frames, in order."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Mapping[str, Any]: ...

    async def cancel(self) -> None:
        """End the run. The frames go on to its `end`, or stop where it cannot be asked for."""
        ...

    async def aclose(self) -> None:
        """Close the connection to the run, if it has one."""
        ...


@dataclass(slots=True)
class Watched:
    """The outcome of `watch`."""

    status: str | None = None
    """The run's status; None if its `end` was not seen."""
    stopped_by: int | None = None
    """The signal that came first."""
    begun: bool = False


async def watch(
    frames: Frames, show: Callable[[Mapping[str, Any]], None], on_cancel: Callable[[], None] = lambda: None
) -> Watched:
    """Show every frame.

    Ctrl-C or SIGTERM cancels the run, and its last frames are shown; a second one, or one before the first frame,
    leaves at once.

    Raises:
        BaseExceptionGroup: of what `show` or the frames raised.
    """
    watched = Watched()

    async def stop_at_signals(scope: CancelScope) -> None:
        async for number in signals:
            leaves = watched.stopped_by is not None or not watched.begun
            watched.stopped_by = watched.stopped_by or number
            if leaves:
                scope.cancel()
                return
            on_cancel()
            scope.deadline = anyio.current_time() + _LAST_FRAMES_SECONDS
            tasks.start_soon(frames.cancel)

    try:
        with open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with create_task_group() as tasks:
                tasks.start_soon(stop_at_signals, tasks.cancel_scope)
                async for frame in frames:
                    watched.begun = True
                    show(frame)
                    if frame["event"] == "end":
                        watched.status = frame["data"].get("status")
                        break
                tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await frames.aclose()
    return watched
