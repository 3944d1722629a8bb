"""Handoffs: a tool by which an agent ends its turn and has another one answer instead (docs/engine.md, "One turn")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from swarmstream.llm.messages import JsonObject
from swarmstream.swarm.plan import Agent
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError

MAX_HANDOFFS_IN_A_ROW = 8


@dataclass(frozen=True, slots=True)
class Handoff:
    """The agent that answers instead, and the message that it is given."""

    receiver: Agent
    message: str


class Handoffs:
    """The toolset of an agent's handoffs: one tool for all its receivers. A turn makes at most one handoff."""

    def __init__(self, receivers: Sequence[Agent]) -> None:
        self._tool = _handoff_tool(receivers)
        self.tools = {self._tool.name: self._tool}

    @property
    def accepted(self) -> Handoff | None:
        """The handoff that ended the turn."""
        return self._tool.accepted[0] if self._tool.accepted else None

    @property
    def ends_turn(self) -> bool:
        return bool(self._tool.accepted)

    def schemas(self) -> Mapping[str, JsonObject]:
        return {self._tool.name: self._tool.schema()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _HandoffTool(Tool):
    """The tool of one turn; `accepted` has at most one entry."""

    receivers: Mapping[str, Agent]
    accepted: list[Handoff] = field(default_factory=list[Handoff])

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        name, message = self._receiver_name(values.get("agent")), values.get("message") or ""
        if name is None:
            raise ToolError(f"agent must be one of {', '.join(self.receivers)}")
        if not isinstance(message, str):
            raise ToolError("message must be text")
        if self.accepted:
            raise ToolError(f"{self.accepted[0].receiver.name} has the word already")
        self.accepted.append(Handoff(self.receivers[name], message))
        return f"{name} has the word now"

    def _receiver_name(self, name: JsonValue) -> str | None:
        """Return the receiver of this name; models change its case and the space around it."""
        if not isinstance(name, str) or name in self.receivers:
            return name if isinstance(name, str) else None
        alike = [other for other in self.receivers if other.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None


def _handoff_tool(receivers: Sequence[Agent]) -> _HandoffTool:
    names: list[JsonValue] = [agent.name for agent in receivers]
    listed = "; ".join(f"{agent.name}: {agent.description or 'no description'}" for agent in receivers)
    parameters: JsonObject = {
        "type": "object",
        "properties": {
            "agent": {"type": "string", "enum": names, "description": f"Who speaks next. {listed}"},
            "message": {"type": "string", "description": "What they should know or do."},
        },
        "required": ["agent"],
    }
    return _HandoffTool(
        name="handoff",
        description="Pass the word to another agent, whose answer then stands for yours. Your turn ends.",
        parameters=parameters,
        receivers={agent.name: agent for agent in receivers},
    )
