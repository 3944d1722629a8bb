"""The compilation of one agent: its models, sampling, tools and handoffs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from swarmstream.errors import (
    AppError,
    InvalidRequest,
    InvalidTool,
    LimitExceeded,
    Location,
    UnpricedModel,
    UnsupportedOption,
    quote,
)
from swarmstream.json_schema.steps import SchemaSteps
from swarmstream.llm.base import Sampling
from swarmstream.llm.model_ref import ModelRef, ModelRegistry
from swarmstream.swarm.agent_names import AgentNames
from swarmstream.swarm.client_tools import client_tools
from swarmstream.swarm.findings import Findings
from swarmstream.swarm.llm_args import merge_llm_args
from swarmstream.swarm.mcp_servers import McpServers
from swarmstream.swarm.payloads import EFFORTS, AgentSpec
from swarmstream.swarm.plan import Agent
from swarmstream.swarm.response_format import answer_format
from swarmstream.swarm.selected_tools import MAX_TOOLS, select_agent_tools, select_tools, too_many_tools
from swarmstream.swarm.tool_backends import with_tool_backends
from swarmstream.tools.base import Tool
from swarmstream.tools.names import RESERVED_NAMES
from swarmstream.tools.policy import AllowedTools

MAX_HANDOFFS = 32
_MAX_HANDOFF_DEPTH = 8


class AgentCompiler:
    """Compiles the agents of one request."""

    def __init__(
        self,
        models: ModelRegistry,
        allowed: AllowedTools,
        names: AgentNames,
        rules: str | None,
        function_tools: Mapping[str, Sequence[Tool]],
        *,
        needs_prices: bool,
    ) -> None:
        """`rules` stand before every system prompt; `function_tools` are a program's own, by agent name;
        `needs_prices`: the run has a budget in USD, for which the price of every model has to be known."""
        self.names = names
        self.mcp_servers = McpServers(allowed.hosts)
        self.findings = Findings()
        self._models = models
        self._allowed = allowed
        self._rules = rules
        self._function_tools = function_tools
        self._needs_prices = needs_prices
        self._schema_steps = SchemaSteps()

    def compile(self, spec: AgentSpec, at: Location, *, enabled: Sequence[Tool] = (), depth: int = 0) -> Agent:
        """Return the agent, with the `enabled` tools beside those that it selects.

        Raises:
            AppError: whatever about it would keep it from running; `location` names the field.
        """
        spec = merge_llm_args(spec, at, self.findings)
        name = self.names.by_location[at]
        models = self._agent_models(spec, at)
        tools = self._tools(spec, at, name, enabled)
        _check_planning(spec, at)
        self._check_effort(spec, at)
        agent = Agent(
            name=name,
            description=spec.description,
            rules=self._rules or None,
            system_prompt=spec.system_prompt or None,
            models=models,
            sampling=_sampling(spec),
            max_retries=spec.num_retries,
            timeout_seconds=spec.timeout,
            max_loops=None if spec.max_loops == "auto" else spec.max_loops,
            tools=tuple(tools),
            client_tools=tuple(
                client_tools(spec, at, {tool.name for tool in tools}, self._schema_steps, self.findings)
            ),
            mcp_servers=self.mcp_servers.of_agent(spec, at),
            handoffs=self._handoffs(spec, at, depth),
            answer_format=answer_format(spec.response_format, at=(*at, "response_format"), steps=self._schema_steps)
            if spec.response_format
            else None,
        )
        return with_tool_backends(agent, at)

    def select_tools(self, names: Iterable[str], at: Location) -> list[Tool]:
        """Return the tools of a list of names, each once.

        Raises:
            AppError: a tool is unknown, not for this caller, or a shell.
        """
        return select_tools(names, at, self._allowed, self.findings)

    def _agent_models(self, spec: AgentSpec, at: Location) -> tuple[ModelRef, ...]:
        first = self._model(spec.model_name or self._models.default_model, (*at, "model_name"))
        fallbacks = (self._model(name, (*at, "fallbacks", index)) for index, name in enumerate(spec.fallbacks))
        return first, *fallbacks

    def _model(self, name: str, at: Location) -> ModelRef:
        try:
            model = self._models.resolve(name)
        except AppError as error:
            error.location = at
            raise
        if self._needs_prices and model.price is None:
            raise UnpricedModel(f"max_cost_usd needs the price of {quote(name)}, which is not known here", location=at)
        return model

    def _tools(self, spec: AgentSpec, at: Location, agent: str, enabled: Sequence[Tool]) -> list[Tool]:
        tools = select_agent_tools(spec, at, self._allowed, self.findings)
        tools += [tool for tool in enabled if tool not in tools]
        if len(tools) > MAX_TOOLS:
            raise too_many_tools((*at, "selected_tools"))
        for tool in self._function_tools.get(agent, ()):
            if tool.name in RESERVED_NAMES or any(tool.name == other.name for other in tools):
                raise InvalidTool(f"the tool name {quote(tool.name)} is taken", location=(*at, "tools"))
            tools.append(tool)
        return tools

    def _check_effort(self, spec: AgentSpec, at: Location) -> None:
        if spec.reasoning_effort and spec.reasoning_effort not in EFFORTS:
            path = ".".join(map(str, (*at, "reasoning_effort")))
            self.findings.sentences.append(f"{path} is passed on, though it is none of {', '.join(EFFORTS)}")

    def _handoffs(self, spec: AgentSpec, at: Location, depth: int) -> tuple[Agent, ...]:
        at = (*at, "handoffs")
        if not spec.handoffs:
            return ()
        if depth >= _MAX_HANDOFF_DEPTH or len(spec.handoffs) > MAX_HANDOFFS:
            raise LimitExceeded(
                f"an agent may hand off to {MAX_HANDOFFS} agents, and they to others, {_MAX_HANDOFF_DEPTH} deep",
                location=at,
            )
        names = {self.names.by_location[at[:-1]]}
        agents: list[Agent] = []
        for index, other in enumerate(spec.handoffs):
            name = self.names.by_location[(*at, index)]
            if name in names:
                raise InvalidRequest(
                    f"two agents of a handoff are named {quote(name)}", location=(*at, index, "agent_name")
                )
            names.add(name)
            agents.append(self.compile(other, (*at, index), depth=depth + 1))
        return tuple(agents)


def model_warnings(agents: Iterable[Agent]) -> Iterator[str]:
    """Yield a sentence, each once, for every field that a model of these agents, or of their handoffs, is known to
    refuse."""
    seen: set[str] = set()
    pending = list(agents)
    while pending:
        agent = pending.pop(0)
        pending += agent.handoffs
        for model in agent.models:
            for sentence in agent.sampling.fields(model).warnings(quote(model.name)):
                if sentence not in seen:
                    seen.add(sentence)
                    yield sentence


def _check_planning(spec: AgentSpec, at: Location) -> None:
    """Refuse tools that end a turn for an agent that plans its work."""
    if spec.max_loops != "auto":
        return
    for name in ("tools_list_dictionary", "tools_dictionary", "handoffs"):
        if getattr(spec, name):
            raise UnsupportedOption(
                f'{name} cannot be combined with max_loops "auto": the plan would end there', location=(*at, name)
            )


def _sampling(spec: AgentSpec) -> Sampling:
    return Sampling(
        max_tokens=spec.max_tokens if "max_tokens" in spec.model_fields_set else None,
        temperature=spec.temperature,
        reasoning_effort=spec.reasoning_effort or None,
        thinking_tokens=spec.thinking_tokens,
        llm_args=dict(spec.llm_args),
    )
