"""One agent as it will run: its models, its sampling, its tools, and whom it may pass the word to."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue, ValidationError

from swarmstream.errors import (
    QUOTE_LIMIT,
    AppError,
    InvalidRequest,
    InvalidTool,
    LimitExceeded,
    Location,
    UnpricedModel,
    UnsupportedOption,
    quote,
)
from swarmstream.json_schema.validator import SchemaError, SchemaSteps, check_schema
from swarmstream.llm.base import JsonObject, Sampling
from swarmstream.llm.model_ref import ModelRef, ModelRegistry
from swarmstream.llm.traits import EFFORT, NO_EFFORT
from swarmstream.swarm.agent_names import AgentNames
from swarmstream.swarm.ignored_fields import SYNONYMS, Unread
from swarmstream.swarm.payloads import EFFORTS, LLM_ARGS, OWN_ARGS, AgentSpec, McpConfig, McpConfigs
from swarmstream.swarm.response_format import AnswerFormat, answer_format
from swarmstream.tools.function_schema import is_name
from swarmstream.tools.functions import Tool
from swarmstream.tools.mcp.server import McpServer
from swarmstream.tools.policy import ToolAccess
from swarmstream.tools.toolbox import RESERVED_NAMES

MAX_TOOLS = 128
"""Of one agent: as many as OpenAI takes."""
MAX_MCP_SERVERS = 8
MAX_MCP_SERVERS_OF_A_REQUEST = 16
"""Distinct ones, of all its agents together."""
MAX_HANDOFFS = 32
_MAX_HANDOFF_DEPTH = 8

_ALL_TOOLS = "all"
_ALWAYS_ON = frozenset(["create_plan", "think", "subtask_done", "complete_task", "respond_to_user"])
"""The hosted API's names for how an autonomous agent goes about its work: here it does, asked or not."""
_LEFT_OUT = frozenset(
    [
        "create_file",
        "update_file",
        "read_file",
        "list_directory",
        "delete_file",
        "create_sub_agent",
        "assign_task",
    ]
)
"""The hosted API's tools that we do not have, and that an agent can work without: files, agents that make agents."""
_SHELL = "run_bash"
"""Refused: who asks for a shell has work for one."""

_TRANSPORTS = frozenset(["streamable_http", "streamable-http", "streamableHttp", "http"])
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
_OURS = frozenset(["host", "content-length", "transfer-encoding", "connection", "accept", "accept-encoding"])
"""Headers that are the connection's own business (RFC 9110)."""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent, ready to speak. `models` are tried in order, until one gives its first token."""

    name: str
    description: str | None
    rules: str | None
    """What stands before its system prompt: the swarm's, one text for all agents."""
    system_prompt: str | None
    models: tuple[ModelRef, ...]
    sampling: Sampling
    max_retries: int
    timeout_seconds: float | None
    max_loops: int | None = 1
    """The bound on a turn's model calls; None: the agent plans its work and carries the plan out."""
    tools: tuple[Tool, ...] = ()
    """Those that this server runs for it."""
    caller_tools: tuple[JsonObject, ...] = ()
    """Those that its caller runs, in the format of OpenAI's API."""
    mcp_servers: tuple[McpServer, ...] = ()
    handoffs: tuple["Agent", ...] = ()
    answer_format: AnswerFormat | None = None

    @property
    def has_tools(self) -> bool:
        """Whether its models are offered tools of any kind."""
        return bool(self.tools or self.caller_tools or self.mcp_servers or self.handoffs or self.max_loops is None)


@dataclass(frozen=True, slots=True)
class AgentCompiler:
    """Makes agents of what clients write, or says what is wrong with it."""

    models: ModelRegistry
    tools: ToolAccess
    names: AgentNames
    rules: str | None = None
    """What stands before every system prompt."""
    own_tools: Mapping[str, Sequence[Tool]] = field(default_factory=dict[str, Sequence[Tool]])
    """More tools, by the name of the agent that has them: those of a program that calls us."""
    needs_prices: bool = False
    """Whether the run has a budget in USD, which a model of unknown price would make meaningless."""
    mcp_servers: dict[McpServer, Location] = field(default_factory=dict[McpServer, Location])
    """All that its agents name, and where each is named first."""
    schema_steps: SchemaSteps = field(default_factory=SchemaSteps)
    """What the schemas of all its agents may take to be looked at."""
    unread: list[Unread] = field(default_factory=list[Unread])
    """What its agents' payloads say in vain."""
    notes: list[str] = field(default_factory=list[str])
    """What else the client should know."""

    def agent(self, spec: AgentSpec, at: Location, *, enabled: Sequence[Tool] = (), depth: int = 0) -> Agent:
        """The agent, with these tools beside those that it selects.

        Raises:
            AppError: whatever about it would keep it from running; `location` names the field.
        """
        spec = self._with_llm_args(spec, at)
        name = self.names.of[at]
        own = self._model(spec.model_name or self.models.default_model, (*at, "model_name"))
        fallbacks = [self._model(name, (*at, "fallbacks", index)) for index, name in enumerate(spec.fallbacks)]
        tools = self._tools(spec, at, name, enabled)
        if spec.max_loops == "auto":
            for ending in ("tools_list_dictionary", "tools_dictionary", "handoffs"):
                if getattr(spec, ending):
                    raise UnsupportedOption(
                        f'{ending} cannot be combined with max_loops "auto": the plan would end there',
                        location=(*at, ending),
                    )
        if spec.reasoning_effort and spec.reasoning_effort not in EFFORTS:
            at_effort = ".".join(map(str, (*at, "reasoning_effort")))
            self.notes.append(f"{at_effort} is passed on, though it is none of {', '.join(EFFORTS)}")
        agent = Agent(
            name=name,
            description=spec.description,
            rules=self.rules or None,
            system_prompt=spec.system_prompt or None,
            models=(own, *fallbacks),
            sampling=Sampling(
                max_tokens=spec.max_tokens if "max_tokens" in spec.model_fields_set else None,
                temperature=spec.temperature,
                reasoning_effort=spec.reasoning_effort or None,
                thinking_tokens=spec.thinking_tokens,
                llm_args=dict(spec.llm_args),
            ),
            max_retries=spec.num_retries,
            timeout_seconds=spec.timeout,
            max_loops=None if spec.max_loops == "auto" else spec.max_loops,
            tools=tuple(tools),
            caller_tools=tuple(self._caller_tools(spec, at, taken={tool.name for tool in tools})),
            mcp_servers=tuple(self._mcp_servers(spec, at)),
            handoffs=self._handoffs(spec, at, depth),
            answer_format=answer_format(spec.response_format, at=(*at, "response_format"), steps=self.schema_steps)
            if spec.response_format
            else None,
        )
        return on_lanes_for_tools(agent, at)

    def _with_llm_args(self, spec: AgentSpec, at: Location) -> AgentSpec:
        """The agent with those fields of its own that stand in `llm_args`, and `top_p` in there; its own field wins."""
        at = (*at, "llm_args")
        own: dict[str, JsonValue] = {}
        args: dict[str, JsonValue] = {}
        for name, value in spec.llm_args.items():
            if name not in LLM_ARGS and name not in OWN_ARGS:
                likely = SYNONYMS[AgentSpec].get(name)
                raise UnsupportedOption(
                    f"llm_args accepts {', '.join(sorted({*LLM_ARGS, *OWN_ARGS}))}; not {quote(name)}"
                    + (f"; did you mean {likely} of the agent?" if likely else ""),
                    location=(*at, name),
                )
            if name in spec.model_fields_set:
                self.unread.append(Unread((*at, name), f"ignored: the agent's own {name} wins", is_known=True))
            elif name in OWN_ARGS:
                own[name] = value
            else:
                args[name] = value
        try:
            given = AgentSpec.model_validate(own)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            raise InvalidRequest(wrong["msg"], location=(*at, str(wrong["loc"][0]))) from None
        if spec.top_p is not None:
            args["top_p"] = spec.top_p
        return spec.model_copy(update={**{name: getattr(given, name) for name in own}, "llm_args": args})

    def selected(self, names: Iterable[str], at: Location, *, listed: bool = True) -> list[Tool]:
        """The operator's and the built-in tools of these names, each once. `listed`: `at` is a list's place."""
        tools: list[Tool] = []
        left_out: list[str] = []
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen:
                continue
            seen.add(name)
            is_operators = self.tools.box.get(name) is not None
            if name in _LEFT_OUT and not is_operators:
                left_out.append(name)
            elif name not in _ALWAYS_ON or is_operators:
                tools.append(self._selected(name, (*at, index) if listed else at))
        if left_out:
            words = f"without {', '.join(left_out)}: no files here, no agents that make agents"
            self.unread.append(Unread(at, words, is_known=True))
        return tools

    def _selected(self, name: str, at: Location) -> Tool:
        if name == _SHELL and self.tools.box.get(name) is None:
            raise UnsupportedOption(
                f"{quote(name)} is not offered here, no model gets a shell; leave it out", location=at
            )
        try:
            return self.tools.named(name)
        except AppError as error:
            error.location = at
            raise

    def _model(self, name: str, at: Location) -> ModelRef:
        try:
            model = self.models.resolve(name)
        except AppError as error:
            error.location = at
            raise
        if self.needs_prices and model.price is None:
            raise UnpricedModel(f"max_cost_usd needs the price of {quote(name)}, which is not known here", location=at)
        return model

    def _tools(self, spec: AgentSpec, at: Location, agent: str, enabled: Sequence[Tool]) -> list[Tool]:
        where = (*at, "selected_tools")
        selected = spec.selected_tools or []
        if selected == [_ALL_TOOLS]:
            selected = _ALL_TOOLS
        if isinstance(selected, str):
            names = self.tools.names() if selected == _ALL_TOOLS else [selected]
            tools = self.selected(names, where, listed=False)
        else:
            tools = self.selected(selected, where)
        tools += [tool for tool in enabled if tool not in tools]
        if len(tools) > MAX_TOOLS:
            raise _too_many_tools(where)
        for tool in self.own_tools.get(agent, ()):
            if tool.name in RESERVED_NAMES or any(tool.name == other.name for other in tools):
                raise InvalidTool(f"the tool name {quote(tool.name)} is taken", location=(*at, "tools"))
            tools.append(tool)
        return tools

    def _caller_tools(self, spec: AgentSpec, at: Location, *, taken: set[str]) -> Iterator[JsonObject]:
        given = spec.tools_list_dictionary or spec.tools_dictionary or []
        if spec.tools_list_dictionary and spec.tools_dictionary:
            words = "ignored: it is the old name of tools_list_dictionary, which is given"
            self.unread.append(Unread((*at, "tools_dictionary"), words, is_known=True))
        at = (*at, "tools_list_dictionary" if spec.tools_list_dictionary else "tools_dictionary")
        if len(given) + len(taken) > MAX_TOOLS:
            raise _too_many_tools(at)
        if silent := [name for schema in given if (name := _silent_name(schema))]:
            where = ".".join(map(str, at))
            self.notes.append(f"{where}: models can only guess what these tools are for: {', '.join(silent)}")
        ours = RESERVED_NAMES | taken
        taken = {*ours}
        for index, schema in enumerate(given):
            function, where = _function_in(schema, (*at, index))
            name = function.get("name")
            if not isinstance(name, str) or not is_name(name):
                raise InvalidTool("a tool's name is 1 to 64 of a-z A-Z 0-9 _ -", location=(*where, "name"))
            if name in taken:
                whose = "a tool of this server that the agent has" if name in ours else "another tool of the agent"
                raise InvalidTool(f"{quote(name)} is the name of {whose}; choose another", location=(*where, "name"))
            taken.add(name)
            yield {"type": "function", "function": {**function, **_described(function, where, self.schema_steps)}}

    def _mcp_servers(self, spec: AgentSpec, at: Location) -> Iterator[McpServer]:
        configs: list[tuple[McpConfig, Location]] = []
        if spec.mcp_url:
            configs.append((McpConfig(url=spec.mcp_url), (*at, "mcp_url")))
        if spec.mcp_config is not None and spec.mcp_config.model_fields_set:
            configs.append((spec.mcp_config, (*at, "mcp_config")))
        if spec.mcp_configs is not None:
            listed = isinstance(spec.mcp_configs, McpConfigs)
            several = spec.mcp_configs.connections if isinstance(spec.mcp_configs, McpConfigs) else spec.mcp_configs
            where = (*at, "mcp_configs", "connections") if listed else (*at, "mcp_configs")
            configs += [(config, (*where, index)) for index, config in enumerate(several)]
        if len(configs) > MAX_MCP_SERVERS:
            raise LimitExceeded(f"an agent may have {MAX_MCP_SERVERS} MCP servers", location=(*at, "mcp_configs"))
        for config, where in configs:
            yield self._mcp_server(config, where)

    def _mcp_server(self, config: McpConfig, at: Location) -> McpServer:
        url_at = at if at[-1] == "mcp_url" else (*at, "url")
        if config.transport not in _TRANSPORTS:
            raise UnsupportedOption(
                "MCP servers are reached by streamable_http; programs are not started and sse is not spoken",
                location=(*at, "transport"),
            )
        if not config.url:
            starts = "command" in (config.model_extra or {})
            why = "; programs (stdio) are not started, put a bridge to Streamable HTTP before one" if starts else ""
            raise InvalidRequest(f"an MCP server needs its url{why}", location=url_at)
        try:
            self.tools.hosts.check_url(config.url)
        except AppError as error:
            error.location = url_at
            raise
        headers = {name.lower(): value for name, value in config.headers.items()}
        if config.authorization_token:
            token = config.authorization_token
            headers.setdefault("authorization", token if token.lower().startswith("bearer ") else f"Bearer {token}")
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or name in _OURS:
                raise InvalidRequest(f"{quote(name)} cannot be sent as a header", location=(*at, "headers"))
        limit = {} if config.timeout is None else {"timeout_seconds": config.timeout}
        server = McpServer(config.url, tuple(headers.items()), **limit)
        self.mcp_servers.setdefault(server, url_at)
        if len(self.mcp_servers) > MAX_MCP_SERVERS_OF_A_REQUEST:
            raise LimitExceeded(
                f"the agents of a request may have {MAX_MCP_SERVERS_OF_A_REQUEST} MCP servers, all together",
                location=url_at,
            )
        return server

    def _handoffs(self, spec: AgentSpec, at: Location, depth: int) -> tuple[Agent, ...]:
        at = (*at, "handoffs")
        if not spec.handoffs:
            return ()
        if depth >= _MAX_HANDOFF_DEPTH or len(spec.handoffs) > MAX_HANDOFFS:
            raise LimitExceeded(
                f"an agent may hand off to {MAX_HANDOFFS} agents, and they to others, {_MAX_HANDOFF_DEPTH} deep",
                location=at,
            )
        names = {self.names.of[at[:-1]]}
        agents: list[Agent] = []
        for index, other in enumerate(spec.handoffs):
            name = self.names.of[(*at, index)]
            if name in names:
                raise InvalidRequest(
                    f"two agents of a handoff are named {quote(name)}", location=(*at, index, "agent_name")
                )
            names.add(name)
            agents.append(self.agent(other, (*at, index), depth=depth + 1))
        return tuple(agents)


def on_lanes_for_tools(agent: Agent, at: Location) -> Agent:
    """The agent, with each model by a lane on which it takes the tools that the agent has, if it has any.

    Raises:
        UnsupportedOption: a model takes them on litellm's lane alone, which the operator does not allow.
    """
    if not agent.has_tools:
        return agent
    models: list[ModelRef] = []
    for index, model in enumerate(agent.models):
        effort = agent.sampling.fields(model).fields.get(EFFORT)
        by_lane = model.for_tools(effort)
        if by_lane is None:
            otherwise = (
                f' unless {EFFORT} is "{NO_EFFORT}"' if model.traits.tools_in_chat == "without_reasoning" else ""
            )
            raise UnsupportedOption(
                f"{quote(model.name)} takes tools through litellm only{otherwise}, and litellm is ruled out here "
                "(SWARMSTREAM_LANE, or the alias's lane)",
                location=(*at, "fallbacks", index - 1) if index else (*at, "model_name"),
            )
        models.append(by_lane)
    return replace(agent, models=tuple(models))


def model_warnings(agents: Iterable[Agent]) -> Iterator[str]:
    """What agents ask for that their models are known to refuse, in sentences, each once."""
    said: set[str] = set()
    pending = list(agents)
    while pending:
        agent = pending.pop(0)
        pending += agent.handoffs
        for model in agent.models:
            for sentence in agent.sampling.fields(model).warnings(quote(model.name)):
                if sentence not in said:
                    said.add(sentence)
                    yield sentence


def count_agents(specs: Iterable[AgentSpec], *, limit: int) -> int:
    """How many there are, those that they may hand off to included; counting ends soon after the limit."""
    count = 0
    pending = list(specs)
    while pending and count <= limit:
        count += 1
        pending += pending.pop().handoffs or ()
    return count


def _function_in(schema: JsonObject, at: Location) -> tuple[JsonObject, Location]:
    """What a caller's tool says of its function, without nulls, and where: under `function` as in OpenAI's chat
    completions, or beside `type`, as in its Responses API."""
    function, where = schema.get("function"), (*at, "function")
    if function is None:
        function, where = {key: value for key, value in schema.items() if key != "type"}, at
    if (schema.get("type") or "function") != "function" or not isinstance(function, dict):
        raise InvalidTool('a tool is {"type": "function", "function": {…}}', location=at)
    return {key: value for key, value in function.items() if value is not None}, where


def _silent_name(schema: JsonObject) -> str | None:
    """The name of a caller's tool that says nothing else of itself: no description, no parameters."""
    function = schema.get("function") or schema
    name = function.get("name") if isinstance(function, dict) else None
    says = isinstance(function, dict) and (function.get("description") or function.get("parameters"))
    return name[:QUOTE_LIMIT] if isinstance(name, str) and not says else None


def _described(function: JsonObject, at: Location, steps: SchemaSteps) -> JsonObject:
    """The description and the parameters of a caller's tool, checked."""
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidTool("a tool's description is text", location=(*at, "description"))
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise InvalidTool('a tool\'s parameters are a JSON schema of type "object"', location=(*at, "parameters"))
    try:
        check_schema(parameters, steps)
    except SchemaError as error:
        raise InvalidTool(f"the parameters cannot be used: {error}", location=(*at, "parameters")) from error
    return {"parameters": {"type": "object", **parameters}}


def _too_many_tools(at: Location) -> LimitExceeded:
    return LimitExceeded(f"an agent may have {MAX_TOOLS} tools", location=at)
