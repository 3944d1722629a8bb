"""Errors for constructor arguments and tasks that cannot be used, with suggestions."""

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
"""Our arguments by the names that other programs give them."""


def check_arguments(kind: type, arguments: Iterable[str]) -> None:
    """Reject keyword arguments that no constructor of `kind` or its bases has.

    Raises:
        TypeError: names the argument, and the one that may be meant.
    """
    parameters = [each for base in kind.__mro__ if "__init__" in vars(base) for each in _parameters(base)]
    known = [each.name for each in parameters if each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    for argument in arguments:
        if argument not in known:
            synonym = _SYNONYMS.get(argument.lower())
            near = synonym if synonym in known else closest_name(argument, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise TypeError(f"{kind.__name__} has no argument {argument!r}{hint}")


def _parameters(kind: type) -> list[Parameter]:
    return list(signature(kind.__init__).parameters.values())[1:]  # without `self`


def invalid_request(error: ValidationError) -> InvalidRequest:
    """Return the first of pydantic's errors as ours, with the place of the field."""
    first = error.errors(include_url=False, include_input=False)[0]
    # Between the names of fields stand those of a union's branches, which are pydantic's.
    place = tuple(part for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    return InvalidRequest(f"{'.'.join(map(str, place))}: {first['msg']}", location=place)
