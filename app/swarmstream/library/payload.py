"""A request's body, run in this process: what a server would do with it, without one."""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import ValidationError

from swarmstream.journal.summary import Summary
from swarmstream.library.arguments import refusal
from swarmstream.library.environment import Environment, surroundings
from swarmstream.library.events import Frame
from swarmstream.library.handle import RunHandle
from swarmstream.runs.job import Job, agent_job, swarm_job
from swarmstream.swarm.compile import compile_agent, compile_swarm
from swarmstream.swarm.payloads import AgentRequest, SwarmRequest


class PayloadRun(AsyncIterator[Frame]):
    """The frames of a run, from the first to `end`."""

    def __init__(self, handle: RunHandle[Summary]) -> None:
        self._handle = handle
        self._frames = handle.stream_events(include_output=False)

    async def __anext__(self) -> Frame:
        return await anext(self._frames)

    async def cancel(self) -> None:
        """End the run; its last frames are still to come."""
        self._handle.cancel()

    async def aclose(self) -> None:
        """End the run and let go of it."""
        self._handle.cancel()
        await self._frames.aclose()
        await self._handle.closed()


def frames_of_payload(payload: Mapping[str, Any], *, environ: Mapping[str, str] = os.environ) -> PayloadRun:
    """Run the body of a swarm's request, or of an agent's if it has an `agent_config`, in the running event loop.

    Raises:
        AppError: it cannot be run.
    """
    its = surroundings(environ, hint="")
    return PayloadRun(RunHandle(_job(payload, its), lambda summary: summary, surroundings=its, environ=environ))


def _job(payload: Mapping[str, Any], its: Environment) -> Job:
    try:
        if "agent_config" in payload:
            request = AgentRequest.model_validate(payload)
            return agent_job(request, compile_agent(request, its.registry, its.plan_limits, its.tools), owner="")
        request = SwarmRequest.model_validate(payload)
        return swarm_job(request, compile_swarm(request, its.registry, its.plan_limits, its.tools), owner="")
    except ValidationError as error:
        raise refusal(error) from error
