"""A request's body, run in this process as a server would run it."""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import ValidationError

from swarmstream.journal.summary import Summary
from swarmstream.library.arguments import invalid_request
from swarmstream.library.environment import Environment, load_environment
from swarmstream.library.events import Frame
from swarmstream.library.handle import RunHandle
from swarmstream.runs.compiled_job import agent_job, swarm_job
from swarmstream.runs.job import Job
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
        """End the run and wait until nothing of it is left."""
        self._handle.cancel()
        await self._frames.aclose()
        await self._handle.closed()


def run_payload(payload: Mapping[str, Any], *, environ: Mapping[str, str] = os.environ) -> PayloadRun:
    """Run a swarm request's body, or an agent request's if it has an `agent_config`, in the running event loop.

    Raises:
        AppError: it cannot be run.
    """
    env = load_environment(environ, hint="")
    return PayloadRun(RunHandle(_job(payload, env), lambda summary: summary, env))


def _job(payload: Mapping[str, Any], env: Environment) -> Job:
    try:
        if "agent_config" in payload:
            request = AgentRequest.model_validate(payload)
            return agent_job(request, compile_agent(request, env.registry, env.plan_limits, env.tools), owner="")
        request = SwarmRequest.model_validate(payload)
        return swarm_job(request, compile_swarm(request, env.registry, env.plan_limits, env.tools), owner="")
    except ValidationError as error:
        raise invalid_request(error) from error
