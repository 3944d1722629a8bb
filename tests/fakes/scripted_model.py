"""A model that says what a test tells it to, in the order that the test wants to see."""

from collections.abc import Mapping, Sequence

import anyio

from swarmstream.errors import ModelError
from swarmstream.llm.base import Delta, Finished, ModelCall, OnDeltas, Opened, TokenCount
from swarmstream.llm.model_ref import ModelRef, Price
from swarmstream.swarm.compile import Compiled, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.tools.policy import AllowedTools
from swarmstream.tools.toolbox import toolbox

Line = Delta | ModelError


class ScriptedModel:
    """Speaks each model's lines; `order="ABBAC"` forces whose text comes when: a step is taken only once the one before
    it was. A `ModelError` among the lines is raised. A model called again goes on with its next list of lines."""

    def __init__(self, lines: Mapping[str, Sequence[Line | list[Line]]], order: str = "") -> None:
        self._scenes = {name: _scenes(script) for name, script in lines.items()}
        self._order = list(order)
        self._turned = anyio.Event()
        self.calls: list[ModelCall] = []
        self.open = 0
        """Streams that were begun and not closed."""

    async def ready(self) -> None:
        pass

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        self.calls.append(call)
        name = call.model.target
        scenes = self._scenes[name]
        scene = scenes.pop(0) if len(scenes) > 1 else scenes[0]
        self.open += 1
        try:
            if not scene or not isinstance(scene[0], ModelError):
                on_deltas((Opened(),))
            for line in scene:
                if isinstance(line, ModelError):
                    raise line
                if isinstance(line, str) and self._order:
                    await self._turn_of(name)
                on_deltas((line,))
                if isinstance(line, str) and self._order:
                    self._next()
            if not any(isinstance(line, Finished) for line in scene):
                on_deltas((Finished("stop"), TokenCount(input_tokens=10, output_tokens=len(scene))))
        finally:
            self.open -= 1

    async def _turn_of(self, name: str) -> None:
        while self._order[0] != name:
            await self._turned.wait()

    def _next(self) -> None:
        self._order.pop(0)
        self._turned.set()
        self._turned = anyio.Event()

    @property
    def steps_left(self) -> int:
        """Of the order."""
        return len(self._order)

    def skip(self) -> None:
        """Take the next step for nobody."""
        self._next()

    def prompts(self, name: str) -> list[list[tuple[str, str]]]:
        """What a model was told, call by call, as (role, content)."""
        return [
            [(message["role"], message["content"]) for message in call.messages]
            for call in self.calls
            if call.model.target == name
        ]


def _scenes(script: Sequence[Line | list[Line]]) -> list[list[Line]]:
    scenes = [list(scene) for scene in script if isinstance(scene, list)]
    return scenes or [[line for line in script if not isinstance(line, list)]]  # pyright: ignore[reportReturnType]


class AnyModel:
    """A registry for which every name is a scripted model that costs 1 USD a million tokens in and 2 out."""

    default_model = "default"

    def resolve(self, name: str) -> ModelRef:
        return ModelRef(name=name, target=name, backend="scripted", price=Price(input=1.0, output=2.0))


def swarm(flow: str = "A", **fields: object) -> Compiled:
    """A compiled swarm whose agents are the flow's names, each speaking through the model of its own name."""
    names = dict.fromkeys(name.strip() for stage in flow.split("->") for name in stage.split(","))
    payload: dict[str, object] = {
        "task": "go",
        "agents": [{"agent_name": name, "model_name": name} for name in names],
        "swarm_type": "AgentRearrange",
        "rearrange_flow": flow,
        **fields,
    }
    return compile_swarm(SwarmRequest.model_validate(payload), AnyModel(), PlanLimits(), AllowedTools(toolbox()))
