"""Arguments that are not what they should be."""

from collections.abc import Iterable
from difflib import get_close_matches
from inspect import signature

from pydantic import ValidationError

from app.errors import InvalidRequest


def refuse_unknown(kind: type, arguments: Iterable[str]) -> None:
    """Say which of the arguments for making a `kind` is none, and which may be meant.

    Raises:
        TypeError: there is one.
    """
    known = [name for its in kind.__mro__ if "__init__" in vars(its) for name in signature(its.__init__).parameters]
    for argument in arguments:
        if argument not in known:
            near = get_close_matches(argument, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{kind.__name__} has no argument {argument!r}{hint}")


def refusal(misfit: ValidationError) -> InvalidRequest:
    """The first of what is wrong, with its place."""
    first = misfit.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return InvalidRequest(f"{where}: {first['msg']}", location=first["loc"])
