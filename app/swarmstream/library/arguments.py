"""Arguments that are not what they should be."""

from collections.abc import Iterable
from inspect import Parameter, signature

from pydantic import ValidationError

from swarmstream.errors import InvalidRequest
from swarmstream.spelling import closest_name
from swarmstream.swarm.ignored_fields import SYNONYMS
from swarmstream.swarm.payloads import AgentSpec, SwarmRequest

_SYNONYMS = {
    **SYNONYMS[SwarmRequest],
    **SYNONYMS[AgentSpec],
    "tools_list_dictionary": "tools",
    "functions": "tools",
    "dashboard": "show_dashboard",
    "rearrange_flow": "flow",
    "swarm_name": "name",
}
"""What other programs call our arguments."""


def refuse_unknown(kind: type, arguments: Iterable[str]) -> None:
    """Say which of the arguments for making a `kind` is none, and which may be meant.

    Raises:
        TypeError: there is one.
    """
    parameters = [each for its in kind.__mro__ if "__init__" in vars(its) for each in _parameters(its)]
    known = [each.name for each in parameters if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    for argument in arguments:
        if argument not in known:
            synonym = _SYNONYMS.get(argument.lower())
            near = synonym if synonym in known else closest_name(argument, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise TypeError(f"{kind.__name__} has no argument {argument!r}{hint}")


def _parameters(kind: type) -> list[Parameter]:
    return list(signature(kind.__init__).parameters.values())[1:]  # without `self`


def refusal(misfit: ValidationError) -> InvalidRequest:
    """The first of what is wrong, with its place."""
    first = misfit.errors(include_url=False, include_input=False)[0]
    # Between the names of fields stand those of a union's branches, which are pydantic's.
    place = tuple(part for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    return InvalidRequest(f"{'.'.join(map(str, place))}: {first['msg']}", location=place)
