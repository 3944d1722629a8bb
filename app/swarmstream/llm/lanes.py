"""The ways to reach models, by name. A lane's module is imported by the first call that takes it, never at start."""

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

import anyio
from anyio import to_thread

from swarmstream.clock import SYSTEM_CLOCK, Clock
from swarmstream.llm.base import ChatModel, Hear, ModelCall
from swarmstream.llm.demo import DemoModel


class Lane(ChatModel, Protocol):
    """A `ChatModel` that holds connections."""

    async def close(self) -> None:
        """Let go of them. The next call makes new ones."""
        ...


class LateLane:
    """A lane whose module, with the libraries that it needs, is imported by `ready()`, in a thread."""

    def __init__(self, module: str, model: str, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._module = module
        self._name = model
        self._environ = environ
        self._clock = clock
        self._lane: Lane | None = None
        self._loading = anyio.Lock()

    async def ready(self) -> None:
        await (self._lane or await self._load()).ready()

    async def _load(self) -> Lane:
        async with self._loading:
            if (lane := self._lane) is None:
                module = await to_thread.run_sync(importlib.import_module, self._module, abandon_on_cancel=True)
                lane = self._lane = cast(Lane, getattr(module, self._name)(self._environ, self._clock))
            return lane

    async def stream(self, call: ModelCall, hear: Hear) -> None:
        assert self._lane is not None, "ready() comes before the first call"
        await self._lane.stream(call, hear)

    async def close(self) -> None:
        if self._lane is not None:
            await self._lane.close()


class Lanes(dict[str, ChatModel]):
    """All lanes of a server."""

    def __init__(self, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
        self._late = {
            "direct": LateLane("swarmstream.llm.direct_model", "DirectModel", environ, clock),
            "litellm": LateLane("swarmstream.llm.litellm_model", "LiteLLMModel", environ, clock),
        }
        super().__init__(self._late, demo=DemoModel(clock=clock))

    async def close(self) -> None:
        for lane in self._late.values():
            await lane.close()
