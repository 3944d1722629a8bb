"""How an agent passes the word to another one: a tool that ends its turn (docs/engine.md, "One turn")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from swarmstream.llm.base import JsonObject
from swarmstream.swarm.plan import Agent
from swarmstream.tools.base import Tool
from swarmstream.tools.context import ToolContext
from swarmstream.tools.errors import ToolError

MAX_HANDOFFS_IN_A_ROW = 8


@dataclass(frozen=True, slots=True)
class Handoff:
    """Who has the word now, and what they were told with it."""

    receiver: Agent
    message: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HandoffTool(Tool):
    """What one turn's model is offered; `passed` has at most one entry."""

    receivers: Mapping[str, Agent]
    passed: list[Handoff] = field(default_factory=list[Handoff])

    def _meant(self, name: JsonValue) -> str | None:
        """The agent of this name; models change its case and the space around it."""
        if not isinstance(name, str) or name in self.receivers:
            return name if isinstance(name, str) else None
        alike = [other for other in self.receivers if other.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None

    async def perform(self, values: Mapping[str, JsonValue], context: ToolContext) -> str:
        name, message = values.get("agent"), values.get("message") or ""
        name = self._meant(name)
        if name is None:
            raise ToolError(f"agent must be one of {', '.join(self.receivers)}")
        if not isinstance(message, str):
            raise ToolError("message must be text")
        if self.passed:
            raise ToolError(f"{self.passed[0].receiver.name} has the word already")
        self.passed.append(Handoff(self.receivers[name], message))
        return f"{name} has the word now"


def handoff_tool(receivers: Sequence[Agent]) -> HandoffTool:
    """The tool by which the word can be passed to these."""
    names: list[JsonValue] = [agent.name for agent in receivers]
    told = "; ".join(f"{agent.name}: {agent.description or 'no description'}" for agent in receivers)
    parameters: JsonObject = {
        "type": "object",
        "properties": {
            "agent": {"type": "string", "enum": names, "description": f"Who speaks next. {told}"},
            "message": {"type": "string", "description": "What they should know or do."},
        },
        "required": ["agent"],
    }
    return HandoffTool(
        name="handoff",
        description="Pass the word to another agent, whose answer then stands for yours. Your turn ends.",
        parameters=parameters,
        receivers={agent.name: agent for agent in receivers},
    )
