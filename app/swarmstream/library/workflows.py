"""Teams of agents: one after another, by a flow, or all at once."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import orjson

from swarmstream.journal.summary import Summary
from swarmstream.library.agent import Agent, function_tools
from swarmstream.library.callbacks import Callback, with_agent_names, with_details, with_tokens
from swarmstream.library.definition import Display, LastAnswerResult, ResultT
from swarmstream.library.environment import Environment
from swarmstream.library.event_types import TeamEvent
from swarmstream.library.runnable import Runnable
from swarmstream.library.terminal_view import for_agents, terminal_view
from swarmstream.runs.compiled_job import swarm_job
from swarmstream.runs.job import Job
from swarmstream.swarm.compile import compile_swarm
from swarmstream.swarm.payloads import SwarmRequest
from swarmstream.wire.answers import swarm_answer

logger = logging.getLogger(__name__)

_AUTOSAVE_FOLDER = "swarmstream-runs"


class _Workflow(Runnable[ResultT, TeamEvent]):
    """Agents, and the arguments that every kind of team has."""

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
        """Make a team.

        `max_loops` repeats the whole flow on its growing conversation. `autosave` writes each run's answer to a JSON
        file in this folder, `swarmstream-runs` if it is True. `show_dashboard` draws all agents on the terminal, live;
        else those are drawn that are printed by themselves (`print_on`). `rules` stand before every system prompt.
        `timeout` is in seconds, of a run.

        Raises:
            TypeError: one of the agents is something else.
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
        """Return the request's fields that only this kind of team has."""
        return {}

    def _title(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"[{', '.join(agent.agent_name for agent in self.agents)}]{name}"

    def _job(self, task: str, img: str | None, env: Environment) -> Job:
        self._autosave_folder()  # a task whose answer cannot be saved is not begun
        optional: dict[str, Any] = {
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
                **{name: value for name, value in optional.items() if value is not None},
                **self._fields(),
            }
        )
        compiled = compile_swarm(request, env.registry, env.plan_limits, env.tools, function_tools(self.agents))
        return swarm_job(request, compiled, owner="")

    def _adapt_callback(self, callback: Callback) -> Callback:
        return with_details(callback) if any(agent.stream for agent in self.agents) else with_tokens(callback)

    def _display(self) -> Display | None:
        shown = {agent.agent_name for agent in self.agents if self.show_dashboard or agent.is_printed}
        if not shown:
            return None
        live = self.show_dashboard or any(agent.streaming_on for agent in self.agents)
        view = terminal_view(live=live, verbose=any(agent.verbose for agent in self.agents), title=self.name)
        return view if len(shown) == len(self.agents) else for_agents(shown, view)

    def _on_end(self, task: str, summary: Summary) -> None:
        folder = self._autosave_folder()
        if folder is None or summary.described is None:
            return
        answer: dict[str, Any] = {"task": task, **swarm_answer(summary)}
        try:
            (folder / f"{summary.described.job_id}.json").write_bytes(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
        except OSError:
            logger.warning("the answer could not be saved", exc_info=True)  # the run has its result all the same

    def _autosave_folder(self) -> Path | None:
        """Return the folder for answers, which is made if needed; None if they are not saved.

        Raises:
            OSError: the folder cannot be made.
        """
        if not self.autosave:
            return None
        folder = Path(_AUTOSAVE_FOLDER if self.autosave is True else self.autosave)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class SequentialWorkflow(LastAnswerResult, _Workflow[str]):
    """A team whose agents take turns, each reading all before it. The result is the last one's answer."""

    swarm_type = "SequentialWorkflow"


class AgentRearrange(LastAnswerResult, _Workflow[str]):
    """A team whose agents take turns in the order of a flow such as `"A, B -> C"`. The result is the last answer."""

    swarm_type = "AgentRearrange"

    def __init__(self, agents: Sequence[Agent], flow: str, **options: Any) -> None:
        """Make a team. `flow` is stages joined by `->`, a stage is names joined by `,`.

        The other arguments are those of `SequentialWorkflow`.
        """
        super().__init__(agents, **options)
        self.flow = flow

    def _fields(self) -> dict[str, Any]:
        return {"rearrange_flow": self.flow}


class ConcurrentWorkflow(_Workflow[list[dict[str, str]]]):
    """A team whose agents all work on the task at once. Callbacks are called with `(agent, chunk, is_final)`.

    The result is every answer, `[{"role", "content"}]`, in the agents' order; with `on_error="continue"`, one that
    failed has the code in `error`.
    """

    swarm_type = "ConcurrentWorkflow"

    def _result(self, summary: Summary) -> list[dict[str, str]]:
        answers = [turn for turn in summary.answers if turn.handed_to is None]
        failed = {number: {"error": failure.code} for number, failure in summary.failures.items()}
        return [{"role": turn.agent, "content": turn.output, **failed.get(turn.turn, {})} for turn in answers]

    def _adapt_callback(self, callback: Callback) -> Callback:
        return with_agent_names(callback)
