"""The plan of a run as data: stages of agents, and the conversations that they work on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from swarmstream.llm.base import Sampling
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.prompt_size import PromptSizes, text_bytes
from swarmstream.swarm.response_format import AnswerFormat
from swarmstream.tools.base import Tool
from swarmstream.tools.mcp.server import McpServer

Hears: TypeAlias = Literal["everything", "previous_loop", "previous_stage", "nothing"]
"""The earlier turns of its conversation that an agent reads: all; those since the loop before its own began; those of
the stage before; none. Agents of one stage never read each other."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that is ready to run."""

    name: str
    description: str | None
    rules: str | None
    """Text before the system prompt: the swarm's, the same for all its agents."""
    system_prompt: str | None
    models: tuple[ModelRef, ...]
    """Tried in order, until one gives its first token."""
    sampling: Sampling
    max_retries: int
    timeout_seconds: float | None
    max_loops: int | None = 1
    """The bound on a turn's model calls; None: the agent plans its work and carries the plan out."""
    tools: tuple[Tool, ...] = ()
    """Tools that this server runs."""
    client_tools: tuple[JsonObject, ...] = ()
    """Tools that the client runs, in the format of OpenAI's API."""
    mcp_servers: tuple[McpServer, ...] = ()
    handoffs: tuple["Agent", ...] = ()
    answer_format: AnswerFormat | None = None

    @property
    def has_tools(self) -> bool:
        """True if its models are offered tools of any kind."""
        return bool(self.tools or self.client_tools or self.mcp_servers or self.handoffs or self.max_loops is None)


@dataclass(frozen=True, slots=True)
class Stage:
    """Agents that run side by side, in flow order."""

    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages of agents, run `loops` times for each opening."""

    stages: tuple[Stage, ...]
    openings: tuple[tuple[ChatMessage, ...], ...]
    """The first messages of each conversation: one conversation for every task."""
    loops: int = 1
    hears: Hears = "everything"
    posted_as: Literal["task", "tasks"] = "task"
    """`tasks`: each opening is one of a list, and turns carry its index."""

    def conversations(self) -> Iterator[tuple[int | None, tuple[ChatMessage, ...]]]:
        """Yield each opening with its index among the client's `tasks`, which is None where it gave one task."""
        for index, opening in enumerate(self.openings):
            yield (index if self.posted_as == "tasks" else None), opening

    @property
    def turns(self) -> int:
        """Turns of the whole run, without handoffs."""
        return sum(len(stage.agents) for stage in self.stages) * self.loops * len(self.openings)

    def prompt_bytes(self) -> int:
        """Estimate the prompts of the widest stage, all at once, without the outputs of earlier turns."""
        sizes = PromptSizes()
        opening = max((sizes.measure(opening).bytes for opening in self.openings), default=0)
        return max(
            (sum(opening + _instruction_bytes(agent) for agent in stage.agents) for stage in self.stages), default=0
        )


def _instruction_bytes(agent: Agent) -> int:
    return text_bytes([agent.rules, agent.system_prompt])
