"""Watching frames: what signals do to a run at each point."""

import signal
from collections.abc import AsyncGenerator
from typing import Any, Self

import anyio
import pytest

from swarmstream.terminal.watch import watch
from tests.terminal.fake_server import METADATA, USAGE, ended

pytestmark = pytest.mark.anyio


class ScriptedFrames:
    """Frames of a run in this process, which waits in the middle until it is cancelled."""

    def __init__(self, *, begins: bool = True, obeys: bool = True) -> None:
        self.cancelled = anyio.Event()
        self.closed = False
        self._begins = begins
        self._obeys = obeys
        self._frames = self._all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        return await anext(self._frames)

    async def cancel(self) -> None:
        self.cancelled.set()

    async def aclose(self) -> None:
        await self._frames.aclose()
        self.closed = True

    async def _all(self) -> AsyncGenerator[dict[str, Any]]:
        if not self._begins:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        yield METADATA
        await self.cancelled.wait()
        if not self._obeys:
            await anyio.sleep_forever()
        yield USAGE
        yield ended("cancelled")
        raise AssertionError("nothing is asked for after the end")


async def test_a_signal_cancels_the_frames_and_those_up_to_the_end_are_shown() -> None:
    frames, shown = ScriptedFrames(), list[str]()

    def show(frame: Any) -> None:
        shown.append(frame["event"])
        if frame["event"] == "metadata":
            signal.raise_signal(signal.SIGINT)

    with anyio.fail_after(30):
        watched = await watch(frames, show)
    assert shown == ["metadata", "usage", "end"]
    assert (watched.status, watched.stopped_by) == ("cancelled", signal.SIGINT)
    assert frames.closed


async def test_a_second_signal_does_not_wait_for_frames() -> None:
    frames = ScriptedFrames(obeys=False)

    async def again() -> None:
        await frames.cancelled.wait()
        signal.raise_signal(signal.SIGTERM)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again)
            watched = await watch(frames, lambda _: signal.raise_signal(signal.SIGINT))
            assert (watched.status, watched.stopped_by) == (None, signal.SIGINT)
    assert frames.closed


async def test_a_signal_before_the_first_frame_leaves_at_once() -> None:
    frames = ScriptedFrames(begins=False)
    with anyio.fail_after(30):
        watched = await watch(frames, lambda _: None)
    assert (watched.status, watched.stopped_by) == (None, signal.SIGINT)
    assert frames.closed
    assert not frames.cancelled.is_set()
