"""The `llm_args` of an agent, merged with the agent's own fields."""

from pydantic import JsonValue, ValidationError

from swarmstream.errors import InvalidRequest, Location, UnsupportedOption, quote
from swarmstream.swarm.findings import Findings
from swarmstream.swarm.ignored_fields import SYNONYMS
from swarmstream.swarm.payloads import LLM_ARGS, OWN_ARGS, AgentSpec


def merge_llm_args(spec: AgentSpec, at: Location, findings: Findings) -> AgentSpec:
    """Return the agent with its own fields taken out of `llm_args`, and `top_p` put in; its own field wins.

    Raises:
        UnsupportedOption: `llm_args` has a parameter that is not passed on.
        InvalidRequest: one of the agent's own fields in there has a wrong value.
    """
    at = (*at, "llm_args")
    own: dict[str, JsonValue] = {}
    args: dict[str, JsonValue] = {}
    for name, value in spec.llm_args.items():
        _check_name(name, at)
        if name in spec.model_fields_set:
            findings.ignore((*at, name), f"ignored: the agent's own {name} wins")
        elif name in OWN_ARGS:
            own[name] = value
        else:
            args[name] = value
    try:
        validated = AgentSpec.model_validate(own)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(first["msg"], location=(*at, str(first["loc"][0]))) from None
    if spec.top_p is not None:
        args["top_p"] = spec.top_p
    return spec.model_copy(update={**{name: getattr(validated, name) for name in own}, "llm_args": args})


def _check_name(name: str, at: Location) -> None:
    if name in LLM_ARGS or name in OWN_ARGS:
        return
    likely = SYNONYMS[AgentSpec].get(name)
    raise UnsupportedOption(
        f"llm_args accepts {', '.join(sorted({*LLM_ARGS, *OWN_ARGS}))}; not {quote(name)}"
        + (f"; did you mean {likely} of the agent?" if likely else ""),
        location=(*at, name),
    )
