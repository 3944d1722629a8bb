"""The ways to reach models, by name. A lane's module is imported by the first call that takes it, never at start."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.lazy import LazyImport
from swarmstream.llm.base import ChatModel, ModelCall, OnDeltas
from swarmstream.llm.providers.demo.model import DemoModel


class Backend(ChatModel, Protocol):
    """A `ChatModel` that holds connections."""

    async def close(self) -> None:
        """Let go of them. The next call makes new ones."""
        ...


LaneType: TypeAlias = Callable[[Mapping[str, str], Clock], Backend]
"""Makes a lane, given the environment variables that it may read and the clock."""


class LazyBackend:
    """A lane whose module, with the libraries that it needs, is imported by `ready()`."""

    def __init__(self, load: Callable[[], LaneType], environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._type = LazyImport(load)
        self._environ = environ
        self._clock = clock
        self._lane: Backend | None = None

    async def ready(self) -> None:
        if (lane := self._lane) is None:
            make = await self._type.get()
            lane = self._lane = self._lane or make(self._environ, self._clock)
        await lane.ready()

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        assert self._lane is not None, "ready() comes before the first call"
        await self._lane.stream(call, on_deltas)

    async def close(self) -> None:
        if self._lane is not None:
            await self._lane.close()


def _direct() -> LaneType:
    from swarmstream.llm.providers.direct import DirectModel

    return DirectModel


def _litellm() -> LaneType:
    from swarmstream.llm.providers.litellm.model import LiteLLMModel

    return LiteLLMModel


class ModelBackends(dict[str, ChatModel]):
    """All lanes of a server."""

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._late = {
            "direct": LazyBackend(_direct, environ, clock),
            "litellm": LazyBackend(_litellm, environ, clock),
        }
        super().__init__(self._late, demo=DemoModel(clock=clock))

    async def close(self) -> None:
        for lane in self._late.values():
            await lane.close()
