"""The operator's limits on payloads and on runs, read from the settings."""

from dataclasses import dataclass, field

from swarmstream.engine.prompt_room import DEFAULT_BYTES
from swarmstream.engine.run_calls import DEFAULT_MAX_CALLS
from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.settings import Settings
from swarmstream.swarm.limits import PlanLimits


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The operator's limits on runs; times are in seconds."""

    max_runs: int = 1000
    keys: int = 1
    """The number of API keys, which share the runs and the threads of tools."""
    run_seconds: float = 3600.0
    disconnect_grace_seconds: float = 10.0
    max_calls: int = DEFAULT_MAX_CALLS
    """Model calls in one run."""
    max_prompt_bytes: int = DEFAULT_BYTES
    """Bytes of the prompts on their way to models, in all runs together."""
    timeouts: TurnTimeouts = field(default_factory=TurnTimeouts)


def plan_limits(settings: Settings) -> PlanLimits:
    """Return the limits on what a payload may ask for."""
    return PlanLimits(settings.max_agents, settings.max_stages, settings.max_turns)


def run_limits(settings: Settings) -> RunLimits:
    """Return the limits on what runs may take."""
    return RunLimits(
        max_runs=settings.max_runs,
        keys=len({key.get_secret_value() for key in settings.api_keys}),
        run_seconds=settings.run_seconds,
        disconnect_grace_seconds=settings.disconnect_grace_seconds,
        max_calls=settings.max_calls,
        max_prompt_bytes=settings.max_prompt_bytes,
        timeouts=TurnTimeouts(
            first_token_seconds=settings.first_token_seconds,
            idle_seconds=settings.idle_seconds,
            turn_seconds=settings.turn_seconds,
        ),
    )
