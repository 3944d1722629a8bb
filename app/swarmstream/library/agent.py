"""`Agent`: one agent, to be run alone or in a team."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import environ
from typing import Any, Literal

from swarmstream.errors import DuplicateAgent, InvalidRequest, NoTask, quote
from swarmstream.journal.summary import Summary
from swarmstream.library.callbacks import Callback, with_details, with_tokens
from swarmstream.library.definition import Display, LastAnswerResult
from swarmstream.library.environment import Environment, load_environment
from swarmstream.library.event_types import AgentEvent
from swarmstream.library.runnable import Runnable
from swarmstream.library.terminal_view import terminal_view
from swarmstream.llm.base import ChatModel
from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.providers.backends import ModelBackends
from swarmstream.runs.compiled_job import agent_job
from swarmstream.runs.job import Job
from swarmstream.swarm.compile import compile_agent
from swarmstream.swarm.payloads import AgentRequest
from swarmstream.tools.base import Tool
from swarmstream.tools.functions import as_tool

_EXIT_WORDS = frozenset({"", "exit", "quit"})


class Agent(LastAnswerResult, Runnable[str, AgentEvent]):
    """A model with a name, a prompt and tools. Attributes may be changed between runs."""

    def __init__(
        self,
        agent_name: str = "Agent",
        system_prompt: str | None = None,
        model_name: str | None = None,
        max_loops: int | Literal["auto"] = 1,
        tools: Iterable[Tool | Callable[..., Any]] | None = None,
        streaming_on: bool = False,
        stream: bool = False,
        persistent_memory: bool = False,
        print_on: bool | None = None,
        verbose: bool = False,
        interactive: bool = False,
        temperature: float | None = None,
        max_tokens: int | None = None,
        description: str | None = None,
        handoffs: "Sequence[Agent] | None" = None,
        response_format: Mapping[str, Any] | None = None,
        mcp_url: str | None = None,
        mcp_config: Mapping[str, Any] | None = None,
        mcp_configs: Sequence[Mapping[str, Any]] | None = None,
        selected_tools: str | Sequence[str] | None = None,
        reasoning_effort: str | None = None,
        thinking_tokens: int | None = None,
        llm_args: Mapping[str, Any] | None = None,
        fallbacks: Sequence[str] | None = None,
        num_retries: int = 2,
        timeout: float | None = None,
    ) -> None:
        """Take a request's fields (docs/wire.md, "AgentSpec") as arguments, and these, which no request has:

        `tools` are functions, or what `@tool` made of them. `print_on` writes the answer to standard output, as it
        comes with `streaming_on`, else when it is whole; None: where that is a terminal, or the agent is `streaming_on`
        or `interactive`. `verbose` shows the thinking, too. `stream` gives callbacks a dict for each token.
        `persistent_memory` makes this object remember its earlier tasks and answers. `interactive` asks for the next
        task on the terminal after each answer, until there is none. `timeout` is in seconds, of a turn.

        Raises:
            ToolDefinitionError: one of the tools cannot be offered to a model.
        """
        self.agent_name = agent_name
        self.system_prompt = system_prompt
        self.model_name = model_name
        self.max_loops: int | Literal["auto"] = max_loops
        self.tools: list[Tool] = [as_tool(each) for each in tools or ()]
        self.streaming_on = streaming_on
        self.stream = stream
        self.persistent_memory = persistent_memory
        self.print_on = print_on
        self.verbose = verbose
        self.interactive = interactive
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.description = description
        self.handoffs = list(handoffs or ())
        self.response_format = response_format
        self.mcp_url = mcp_url
        self.mcp_config = mcp_config
        self.mcp_configs = mcp_configs
        self.selected_tools = selected_tools
        self.reasoning_effort = reasoning_effort
        self.thinking_tokens = thinking_tokens
        self.llm_args = llm_args
        self.fallbacks = fallbacks
        self.num_retries = num_retries
        self.timeout = timeout
        self._remembered: list[ChatMessage] = []

    @property
    def llm(self) -> ChatModel:
        """The backend of the agent's model, which has a method `stream`.

        Raises:
            AppError: the model is unknown, or lacks credentials.
        """
        registry = load_environment().registry
        return ModelBackends(environ)[registry.resolve(self.model_name or registry.default_model).backend]

    @property
    def is_printed(self) -> bool:
        """True if the agent's answers are written to standard output."""
        if self.print_on is not None:
            return self.print_on
        return self.streaming_on or self.interactive or sys.stdout.isatty()

    def spec(self) -> dict[str, Any]:
        """Return the agent as a request has it (docs/wire.md, "AgentSpec"), without its functions.

        Raises:
            InvalidRequest: its handoffs form a circle.
        """
        return _spec(self, ())

    def run(self, task: str, img: str | None = None, streaming_callback: Callback | None = None) -> str:
        answer = super().run(task, img, streaming_callback)
        while self.interactive and sys.stdin.isatty():
            try:
                next_task = input("You: ").strip()
            except EOFError:
                break
            if next_task.lower() in _EXIT_WORDS:
                break
            answer = super().run(next_task, None, streaming_callback)
        return answer

    def _title(self) -> str:
        model = "" if self.model_name is None else f", model_name={self.model_name!r}"
        return f"{self.agent_name!r}{model}"

    def _job(self, task: str, img: str | None, env: Environment) -> Job:
        fields: dict[str, Any] = {"agent_config": self.spec(), "task": task, "history": list(self._remembered)}
        request = AgentRequest.model_validate(fields if img is None else {**fields, "img": img})
        if not (request.task or "").strip():  # with a history, a request may go without
            raise NoTask("give a task", location=("task",))
        compiled = compile_agent(request, env.registry, env.plan_limits, env.tools, function_tools([self]))
        return agent_job(request, compiled, owner="")

    def _adapt_callback(self, callback: Callback) -> Callback:
        return with_details(callback) if self.stream else with_tokens(callback)

    def _display(self) -> Display | None:
        return terminal_view(live=self.streaming_on, verbose=self.verbose) if self.is_printed else None

    def _on_end(self, task: str, summary: Summary) -> None:
        if (self.persistent_memory or self.interactive) and summary.ended and summary.ended.status == "success":
            answer = self._result(summary)
            self._remembered += [{"role": "user", "content": task}, {"role": "assistant", "content": answer}]


def _spec(agent: Agent, handed_off_by: tuple[Agent, ...]) -> dict[str, Any]:
    if agent in handed_off_by:
        raise InvalidRequest(f"{quote(agent.agent_name)} would be handed its own word back: handoffs form a circle")
    listed: dict[str, Any] = {
        "mcp_configs": agent.mcp_configs,
        "fallbacks": agent.fallbacks,
        "selected_tools": agent.selected_tools,
    }
    plain: dict[str, Any] = {
        name: getattr(agent, name)
        for name in (
            *("agent_name", "description", "system_prompt", "model_name", "max_loops", "temperature", "max_tokens"),
            *("reasoning_effort", "thinking_tokens", "num_retries", "timeout", "mcp_url"),
        )
    }
    mapped: dict[str, Any] = {
        name: dict(value)
        for name in ("response_format", "mcp_config", "llm_args")
        if (value := getattr(agent, name)) is not None
    }
    several = {name: value if isinstance(value, str) else list(value) for name, value in listed.items() if value}
    others = {"handoffs": [_spec(other, (*handed_off_by, agent)) for other in agent.handoffs]} if agent.handoffs else {}
    return {name: value for name, value in (plain | mapped | several | others).items() if value is not None}


def function_tools(agents: Iterable[Agent]) -> dict[str, Sequence[Tool]]:
    """Return the functions of these agents and of those that they may hand off to, by the agent's name.

    Raises:
        DuplicateAgent: two agents of one name have different functions.
    """
    by_name: dict[str, Sequence[Tool]] = {}
    for agent in agents:
        tools = [as_tool(each) for each in agent.tools]  # the list may have been added to
        for name, found in {**function_tools(agent.handoffs), agent.agent_name.strip(): tools}.items():
            if _functions(by_name.setdefault(name, found)) != _functions(found):
                raise DuplicateAgent(f"two agents with different tools are named {quote(name)}")
    return by_name


def _functions(tools: Sequence[Tool]) -> list[object]:
    """Return what tools are compared by: two that were made of one function are equal."""
    return [getattr(tool, "function", tool) for tool in tools]
