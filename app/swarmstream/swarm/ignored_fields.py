"""The fields of a payload without effect here, each with a hint for its author."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmstream.errors import Location
from swarmstream.spelling import closest_name
from swarmstream.swarm.fields import Payload
from swarmstream.swarm.payloads import (
    LLM_ARGS,
    AgentRequest,
    AgentSpec,
    McpConfig,
    RunSpec,
    StreamOptions,
    SwarmRequest,
)

MAX_PATH: Final = 100
"""Characters of a field's path that are repeated."""

WITHOUT_EFFECT: Final = frozenset(
    [
        # Of an agent in the hosted API's marketplace.
        *("use_cases", "tags", "capabilities", "category", "is_free", "price_usd"),
        # Of messages as OpenAI's SDK writes them.
        *("annotations", "audio", "function_call", "index"),
        # Of OpenAI's stream_options: every stream has its usage.
        "include_usage",
    ]
)
"""Known fields that need no warning: they ask for nothing that a run could do, or for what it does in any case."""

_NO_MARKETPLACE = "this server has no marketplace"
_OF_HEAVY_SWARM = "only HeavySwarm reads it, which this server does not run"
_OF_HIERARCHY = "only HierarchicalSwarm reads it, which this server does not run"
_OF_COUNCIL = "only a council's type reads it, which this server does not run"

HOSTED: Final[Mapping[str, str]] = {
    "auto_generate_prompt": "a system_prompt is taken as it is written",
    "dynamic_temperature_enabled": "temperature stays as it is given",
    "tool_call_summary": "the agent's answer says what its tools gave",
    "marketplace_prompt_id": f"{_NO_MARKETPLACE}; write the prompt into system_prompt",
    "publish_to_marketplace": _NO_MARKETPLACE,
    "reasoning_enabled": "reasoning_effort says how much a model thinks",
    "search_enabled": "agents search with tools that they are given",
    "output_type": "answers have one shape",
    "multi_agent_collab_prompt": "rules stand before every system prompt",
    "list_all_agents": "an agent knows of others what rules and prompts say",
    "tool_configurations": "an MCP server's tools are offered as it describes them",
    "heavy_swarm_loops_per_agent": _OF_HEAVY_SWARM,
    "heavy_swarm_max_loops": _OF_HEAVY_SWARM,
    "heavy_swarm_question_agent_model_name": _OF_HEAVY_SWARM,
    "heavy_swarm_worker_model_name": _OF_HEAVY_SWARM,
    "heavy_swarm_variant": _OF_HEAVY_SWARM,
    "council_judge_model_name": _OF_COUNCIL,
    "chairman_model": _OF_COUNCIL,
    "director_model_name": _OF_HIERARCHY,
    "director_settings": _OF_HIERARCHY,
}
"""Fields of the hosted API without a function here, each with the reason, or with what does it here."""

REFUSED: Final[Mapping[str, str]] = {
    "schedule": "this server starts runs at once; post the request when it is due",
}
"""Fields of a request whose neglect would do harm, each with the reason of its refusal."""

_OF_ANY_REQUEST = {
    "prompt": "task",
    "input": "task",
    "query": "task",
    "question": "task",
    "image": "img",
    "images": "imgs",
    "streaming": "stream",
    "streaming_on": "stream",
    "timeout_seconds": "timeout",
    "max_cost": "max_cost_usd",
    "budget": "max_cost_usd",
}
SYNONYMS: Final[Mapping[type[Payload], Mapping[str, str]]] = {
    AgentSpec: {
        "name": "agent_name",
        "agent_description": "description",
        "instructions": "system_prompt",
        "instruction": "system_prompt",
        "prompt": "system_prompt",
        "system": "system_prompt",
        "system_message": "system_prompt",
        "model": "model_name",
        "llm": "model_name",
        "max_turns": "max_loops",
        "max_steps": "max_loops",
        "max_iterations": "max_loops",
        "max_completion_tokens": "max_tokens",
        "max_output_tokens": "max_tokens",
        "temp": "temperature",
        "stream": "streaming_on",
        "effort": "reasoning_effort",
        "thinking": "thinking_tokens",
        "thinking_budget": "thinking_tokens",
        "budget_tokens": "thinking_tokens",
        "max_retries": "num_retries",
        "retries": "num_retries",
        "retry_attempts": "num_retries",
        "timeout_seconds": "timeout",
        "fallback_models": "fallbacks",
        "tools": "selected_tools or tools_list_dictionary",
        "functions": "tools_list_dictionary",
        "json_schema": "response_format",
        "output_schema": "response_format",
        "mcp_servers": "mcp_configs",
        **{name: f"llm_args.{name}" for name in sorted(LLM_ARGS - AgentSpec.model_fields.keys())},
    },
    AgentRequest: {
        **_OF_ANY_REQUEST,
        "tasks": "task",
        "messages": "history",
        "agent": "agent_config",
        "name": "agent_config.agent_name",
        "model": "agent_config.model_name",
        "instructions": "agent_config.system_prompt",
    },
    SwarmRequest: {
        **_OF_ANY_REQUEST,
        "swarm_name": "name",
        "type": "swarm_type",
        "flow": "rearrange_flow",
        "loops": "max_loops",
    },
    StreamOptions: {"output": "include_output"},
    McpConfig: {"server_url": "url", "server": "url", "token": "authorization_token", "api_key": "authorization_token"},
}
"""Names that other programs have for our fields, too different to be found as misspellings."""


@dataclass(frozen=True, slots=True)
class IgnoredField:
    """A field without effect, or without effect in part."""

    at: Location
    hint: str = ""
    """For an unknown field, what to write instead if that is known; for a known one, the reason."""
    is_known: bool = False

    @property
    def path(self) -> str:
        """The location, printable and of at most `MAX_PATH` characters."""
        path = ".".join(str(part)[: MAX_PATH + 1] for part in self.at)
        shown = "".join(char if char.isprintable() else " " for char in path[: MAX_PATH + 1])
        return shown if len(shown) <= MAX_PATH else f"{shown[: MAX_PATH - 1]}…"

    @property
    def warning(self) -> str:
        """The sentence for the client."""
        if self.is_known:
            return f"{self.path} {self.hint}"
        return f"unknown field {self.path}; {self.hint}" if self.hint else f"unknown field {self.path}"


def unknown_fields(request: RunSpec) -> Iterator[IgnoredField]:
    """Yield the fields that no payload class declares, in the payload's order.

    A field of the hosted API that asks for nothing (false, empty) is left out.
    """
    yield from _unknown_fields(request, (), request)


def _unknown_fields(payload: Payload, at: Location, request: RunSpec) -> Iterator[IgnoredField]:
    extra: Mapping[str, Any] = payload.model_extra or {}
    for name, value in extra.items():
        if name in WITHOUT_EFFECT or (not value and (name in HOSTED or name in REFUSED)):
            continue
        if name in HOSTED:
            yield IgnoredField((*at, name), f"ignored: {HOSTED[name]}", is_known=True)
        else:
            yield IgnoredField((*at, name), _hint(name, payload, request))
    for name, value in vars(payload).items():
        if isinstance(value, Payload):
            yield from _unknown_fields(value, (*at, name), request)
        elif isinstance(value, list):
            for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                if isinstance(item, Payload):
                    yield from _unknown_fields(item, (*at, name, index), request)


def _hint(name: str, payload: Payload, request: RunSpec) -> str:
    """Return the field that is probably meant, or the place where this one belongs; empty if neither is known."""
    kind = type(payload)
    agents = "agent_config" if isinstance(request, AgentRequest) else "agents"
    synonym = SYNONYMS.get(kind, {}).get(name.lower())
    if synonym is None and isinstance(payload, RunSpec) and name in AgentSpec.model_fields:
        return f"it belongs in {agents}"
    if synonym is None and isinstance(payload, AgentSpec) and name in type(request).model_fields:
        return f"it belongs beside {agents}"
    likely = synonym or closest_name(name, kind.model_fields)
    return f"did you mean {likely}?" if likely else ""
