"""Constructor arguments that nobody knows."""

from collections.abc import Iterable
from difflib import get_close_matches


def refuse_unknown(name: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Say which of the arguments of `name` is none, and which may be meant.

    Raises:
        TypeError: there is one.
    """
    for argument in unknown:
        near = get_close_matches(argument, list(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"{name} has no argument {argument!r}{hint}")
