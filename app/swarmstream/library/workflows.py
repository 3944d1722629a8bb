"""Teams of agents as Python programs have them."""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import orjson

from swarmstream.journal.summary import Summary
from swarmstream.library.agent import Agent, own_tools
from swarmstream.library.environment import Environment
from swarmstream.library.event_types import TeamEvent
from swarmstream.library.events import Callback, with_details, with_speakers, with_tokens
from swarmstream.library.outcomes import last_answer
from swarmstream.library.runnable import ResultT, Runnable, drawing
from swarmstream.runs.job import Job, swarm_job
from swarmstream.swarm.compile import compile_swarm
from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.wire.answers import swarm_answer

logger = logging.getLogger(__name__)

_SAVED = "swarmstream-runs"


class _Workflow(Runnable[ResultT, TeamEvent]):
    """What all kinds of teams have in common."""

    swarm_type: ClassVar[str]

    def __init__(
        self,
        agents: Sequence[Agent],
        name: str | None = None,
        max_loops: int = 1,
        autosave: bool | str | Path = False,
        show_dashboard: bool = False,
        description: str | None = None,
        rules: str | None = None,
        on_error: Literal["fail", "continue"] = "fail",
        timeout: float | None = None,
    ) -> None:
        """`max_loops` repeats the whole flow on its growing conversation. `autosave` writes each run's answer to a
        JSON file in this folder, `swarmstream-runs` if it is True. `show_dashboard` draws all agents on the terminal,
        live; else those are drawn that are printed by themselves (`print_on`). `rules` stand before every system
        prompt. `timeout` is in seconds, of a run.

        Raises:
            TypeError: one of the agents is none.
        """
        self.agents = list(agents)
        for agent in self.agents:
            if not isinstance(agent, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{type(self).__name__} is made of agents, not of {type(agent).__name__}")
        self.name = name
        self.max_loops = max_loops
        self.autosave = autosave
        self.show_dashboard = show_dashboard
        self.description = description
        self.rules = rules
        self.on_error: Literal["fail", "continue"] = on_error
        self.timeout = timeout

    def _fields(self) -> dict[str, Any]:
        """What a request of this kind has beside what all have."""
        return {}

    def _title(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"[{', '.join(agent.agent_name for agent in self.agents)}]{name}"

    def _job(self, task: str, img: str | None, its: Environment) -> Job:
        self._folder()  # a task whose answer cannot be saved is not begun
        given: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "rules": self.rules,
            "timeout": self.timeout,
            "img": img,
        }
        request = SwarmRequest.model_validate(
            {
                "swarm_type": self.swarm_type,
                "agents": [agent.spec() for agent in self.agents],
                "task": task,
                "max_loops": self.max_loops,
                "on_error": self.on_error,
                **{name: value for name, value in given.items() if value is not None},
                **self._fields(),
            }
        )
        compiled = compile_swarm(request, its.registry, its.plan_limits, its.tools, own_tools(self.agents))
        return swarm_job(request, compiled, owner="")

    def _told(self, callback: Callback) -> Callback:
        return with_details(callback) if any(agent.stream for agent in self.agents) else with_tokens(callback)

    def _audience(self) -> AbstractContextManager[Any] | None:
        shown = {agent.agent_name for agent in self.agents if self.show_dashboard or agent.is_printed}
        if not shown:
            return None
        live = self.show_dashboard or any(agent.streaming_on for agent in self.agents)
        picture = drawing(live=live, verbose=any(agent.verbose for agent in self.agents), title=self.name)
        return picture if len(shown) == len(self.agents) else _only(shown, picture)

    def _learn(self, task: str, summary: Summary) -> None:
        folder = self._folder()
        if folder is None or summary.described is None:
            return
        answer: dict[str, Any] = {"task": task, **swarm_answer(summary)}
        try:
            (folder / f"{summary.described.job_id}.json").write_bytes(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
        except OSError:
            logger.warning("the answer could not be saved", exc_info=True)  # it is had all the same

    def _folder(self) -> Path | None:
        """Where answers are saved, if they are.

        Raises:
            OSError: it cannot be made.
        """
        if not self.autosave:
            return None
        folder = Path(_SAVED if self.autosave is True else self.autosave)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class SequentialWorkflow(_Workflow[str]):
    """Agents that speak one after another, each reading all before it. The result is the last one's answer."""

    swarm_type = "SequentialWorkflow"

    def _result(self, summary: Summary) -> str:
        return last_answer(summary)


class AgentRearrange(_Workflow[str]):
    """Agents that speak as a flow such as `"A, B -> C"` says. The result is the last answer."""

    swarm_type = "AgentRearrange"

    def __init__(self, agents: Sequence[Agent], flow: str, **more: Any) -> None:
        """`flow` is stages joined by `->`, a stage is names joined by `,`. For the rest see `SequentialWorkflow`."""
        super().__init__(agents, **more)
        self.flow = flow

    def _fields(self) -> dict[str, Any]:
        return {"rearrange_flow": self.flow}

    def _result(self, summary: Summary) -> str:
        return last_answer(summary)


class ConcurrentWorkflow(_Workflow[list[dict[str, str]]]):
    """Agents that all work on the task at once. Callbacks are called with `(agent, chunk, is_final)`.

    The result is every answer, `[{"role", "content"}]`, in the agents' order; with `on_error="continue"`, one that
    failed has the code in `error`.
    """

    swarm_type = "ConcurrentWorkflow"

    def _result(self, summary: Summary) -> list[dict[str, str]]:
        answers = [turn for turn in summary.answers if turn.handed_to is None]
        failed = {number: {"error": failure.code} for number, failure in summary.failures.items()}
        return [{"role": turn.agent, "content": turn.output, **failed.get(turn.turn, {})} for turn in answers]

    def _told(self, callback: Callback) -> Callback:
        return with_speakers(callback)


class _Chosen:
    """A picture that some agents are left out of."""

    def __init__(self, agents: set[str], picture: Any) -> None:
        self._agents = agents
        self._picture = picture

    def show(self, frame: Mapping[str, Any]) -> None:
        agent = frame["data"].get("agent")
        if agent is None or agent in self._agents:
            self._picture.show(frame)


@contextmanager
def _only(agents: set[str], picture: AbstractContextManager[Any]) -> Generator[_Chosen]:
    with picture as drawn:
        yield _Chosen(agents, drawn)
