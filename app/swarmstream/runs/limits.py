"""What the operator grants, as the settings say it."""

from swarmstream.engine.timeouts import TurnTimeouts
from swarmstream.runs.supervisor import RunLimits
from swarmstream.settings import Settings
from swarmstream.swarm.limits import PlanLimits


def plan_limits(settings: Settings) -> PlanLimits:
    """What a payload may ask for."""
    return PlanLimits(settings.max_agents, settings.max_stages, settings.max_turns)


def run_limits(settings: Settings) -> RunLimits:
    """What runs may take."""
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
