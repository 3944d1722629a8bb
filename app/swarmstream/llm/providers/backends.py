"""The backends by name. A backend's module is imported by its first call, never at start."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.lazy import LazyImport
from swarmstream.llm.base import ChatModel, ModelCall, OnDeltas
from swarmstream.llm.providers.demo.model import DemoModel


class Backend(ChatModel, Protocol):
    """A `ChatModel` that holds connections."""

    async def close(self) -> None:
        """Close them. The next call makes new ones."""
        ...


BackendFactory: TypeAlias = Callable[[Mapping[str, str], Clock], Backend]
"""Makes a backend, given the environment variables that it may read and the clock."""


class LazyBackend:
    """A backend whose module, with the libraries that it needs, is imported by `ready()`."""

    def __init__(
        self, load: Callable[[], BackendFactory], environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._factory = LazyImport(load)
        self._environ = environ
        self._clock = clock
        self._backend: Backend | None = None

    async def ready(self) -> None:
        if (backend := self._backend) is None:
            make = await self._factory.get()
            backend = self._backend = self._backend or make(self._environ, self._clock)
        await backend.ready()

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        assert self._backend is not None, "ready() comes before the first call"
        await self._backend.stream(call, on_deltas)

    async def close(self) -> None:
        if self._backend is not None:
            await self._backend.close()


def _direct() -> BackendFactory:
    from swarmstream.llm.providers.direct import DirectModel

    return DirectModel


def _litellm() -> BackendFactory:
    from swarmstream.llm.providers.litellm.model import LiteLLMModel

    return LiteLLMModel


class ModelBackends(dict[str, ChatModel]):
    """All backends of a server, by name."""

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._lazy = {
            "direct": LazyBackend(_direct, environ, clock),
            "litellm": LazyBackend(_litellm, environ, clock),
        }
        super().__init__(self._lazy, demo=DemoModel(clock=clock))

    async def close(self) -> None:
        for backend in self._lazy.values():
            await backend.close()
