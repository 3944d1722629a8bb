"""The job of a run: its plan, and what else of its payload is needed once that is made."""

from dataclasses import dataclass
from typing import Any, Literal

from swarmstream.events import RunKind
from swarmstream.journal.records import IdempotencyKey
from swarmstream.swarm.plan import Plan


@dataclass(frozen=True, slots=True)
class Job:
    """A payload as it is to be run."""

    kind: RunKind
    plan: Plan
    owner: str
    name: str | None = None
    description: str | None = None
    swarm_type: str | None = None
    number_of_agents: int = 1
    service_tier: str = "standard"
    temperature: float | None = None
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    on_error: Literal["fail", "continue"] = "fail"
    timeout_seconds: float | None = None
    max_cost_usd: float | None = None
    max_total_tokens: int | None = None
    include_output: bool = True
    coalesce_ms: int = 0
    request_id: str = ""
    traceparent: str | None = None
    prompt_bytes: int = 0
    """The size of the prompts of its widest stage, without the answers that its agents will have given by then."""
    body: bytes = b""
    """The payload, as JSON."""
    idempotency_key: IdempotencyKey | None = None
