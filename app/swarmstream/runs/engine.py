"""The port to the engine, which carries out the plans of runs."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from swarmstream.engine.replay import RecoveredTurns
from swarmstream.engine.run_context import RunContext
from swarmstream.swarm.plan import Plan


class Engine(Protocol):
    """What carries out plans, those of all runs of a process."""

    async def carry_out(
        self,
        plan: Plan,
        run: RunContext,
        *,
        on_error: Literal["fail", "continue"],
        before_turn: Callable[[], Awaitable[None]],
        recovered: RecoveredTurns,
    ) -> bool:
        """Take all turns of the plan; return False where a turn failed and `on_error` is `"fail"`, which ends it.

        `before_turn` waits while no new turn may begin; `recovered` has the turns that another process took or began.
        """
        ...
