"""The shapes of what the routes of runs answer as JSON (docs/wire.md, section 5)."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from swarmstream.events import EndStatus, RunKind
from swarmstream.wire.shapes.outputs import AgentOutput, SwarmOutput
from swarmstream.wire.shapes.usage import AgentRunUsage, SwarmRunUsage


class RunAnswer(TypedDict):
    """A run as it stands. `output` and `usage` are what there is of them by now; in a list, `output` is there only with
    `?include=output`."""

    job_id: str
    """The run's id."""
    object: Literal["run"]
    """The kind of object, for clients of OpenAI's API."""
    kind: RunKind
    """The route that the run was posted to."""
    name: str | None
    """The swarm's or the agent's name; null: none."""
    swarm_type: str | None
    """The kind of swarm; null for a single agent."""
    status: Literal["running"] | EndStatus
    """Where the run is: `running`, or how it ended."""
    created_at: str
    """When the run was taken on, as ISO 8601 in UTC."""
    started_at: str | None
    """When it began, as ISO 8601 in UTC; null: not yet."""
    ended_at: str | None
    """When it ended, as ISO 8601 in UTC; null: not yet."""
    last_event_id: int
    """The id of the newest event."""
    output: NotRequired[list[SwarmOutput] | list[AgentOutput]]
    """What there is of the output by now: an entry for each turn that has ended."""
    usage: SwarmRunUsage | AgentRunUsage
    """What the run has consumed by now, in turns that have ended."""
    metadata: dict[str, Any] | None
    """The `metadata` as posted; null: none."""


class RunList(TypedDict):
    """A page of runs, newest first."""

    data: list[RunAnswer]
    """The runs."""
    object: Literal["list"]
    """The kind of object, for clients of OpenAI's API."""
    first_id: str | None
    """The id of the page's first run; null: the page is empty."""
    last_id: str | None
    """The id of the page's last run, which `after` takes for the next page; null: the page is empty."""
    has_more: bool
    """Whether there are more runs behind the last one."""


class SwarmLog(TypedDict):
    """A run as the hosted API lists it."""

    id: str
    """The run's id."""
    created_at: str
    """When the run was taken on, as ISO 8601 in UTC."""
    api_key: str
    """The key that asked, all but its last four characters masked."""
    category: Literal["completion"]
    """Always `completion`."""
    data: RunAnswer
    """The run."""


class SwarmLogs(TypedDict):
    """The latest runs, newest first, as the hosted API lists them."""

    logs: list[SwarmLog]
    """The runs."""
    status: Literal["success"]
    """Always `success`."""
    count: int
    """How many there are."""
    has_more: bool
    """Whether there are more, which the answer has no room for."""
    timestamp: str
    """When this was asked, as ISO 8601 in UTC."""


class StreamToken(TypedDict):
    """What opens a run's stream to a browser's EventSource."""

    token: str
    """What goes into the stream's URL as `?token=`."""
    expires_in: int
    """How many seconds there are to connect."""
