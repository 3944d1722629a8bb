"""The shapes of what the completion routes answer as JSON (docs/wire.md, section 3)."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from swarmstream.events import EndStatus
from swarmstream.wire.shapes.outputs import AgentOutput, SwarmOutput
from swarmstream.wire.shapes.usage import AgentRunUsage, SwarmRunUsage


class QueuedRun(TypedDict):
    """The answer of a completion route in the background."""

    job_id: str
    """The run's id, by which `GET /v1/runs/{job_id}` tells how it stands."""
    status: Literal["queued"]
    """Always `queued`: the run was taken on."""


class RunSoFar(TypedDict):
    """What the problem of a run that failed says beside what every problem does."""

    job_id: str
    """The run's id."""
    output: NotRequired[list[SwarmOutput] | list[AgentOutput]]
    """What the run had come to: an entry for each turn that ended; not there where it goes on."""
    usage: NotRequired[SwarmRunUsage | AgentRunUsage]
    """What the run had consumed; not there where it goes on."""


class AgentAnswer(TypedDict):
    """The answer of `POST /v1/agent/completions` that is not streamed."""

    job_id: str
    """The run's id."""
    success: bool
    """Always true: a run that failed is answered by a problem."""
    name: str | None
    """The agent's name."""
    description: str | None
    """The description as it was posted; null: none."""
    temperature: float | None
    """The temperature as it was posted; null: none, so that the model's own held."""
    outputs: list[AgentOutput]
    """The agent's answer; after a handoff, also those of the others."""
    usage: AgentRunUsage
    """What the run consumed."""
    timestamp: str
    """When the run ended, as ISO 8601 in UTC."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    failed_agents: list[str]
    """The names of agents whose turns failed, where the run went on."""


class SwarmAnswer(TypedDict):
    """The answer of `POST /v1/swarm/completions` that is not streamed. `execution_time` is in seconds."""

    job_id: str
    """The run's id."""
    status: EndStatus
    """Always `success`: a run that failed is answered by a problem."""
    swarm_name: str | None
    """The swarm's name as it was posted; null: none."""
    description: str | None
    """The description as it was posted; null: none."""
    swarm_type: str
    """The kind of swarm that ran."""
    output: list[SwarmOutput]
    """One entry for each turn, in flow order."""
    number_of_agents: int
    """How many agents the request had."""
    service_tier: str
    """The `service_tier` as it was posted."""
    execution_time: float
    """How long the run took, in seconds."""
    usage: SwarmRunUsage
    """What the run consumed."""
    warnings: list[str]
    """What the server thinks the caller should know about the request, such as fields that nobody knows; at most 20."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""
    failed_agents: list[str]
    """The names of agents whose turns failed, where the run went on."""
