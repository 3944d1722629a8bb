"""Which known name a misspelt one was meant to be."""

from collections.abc import Iterable

_MAX_LENGTH = 100
"""Characters of a name that is looked at; what is longer is no misspelt one."""
_SHORT = 8
"""Below so many characters one slip is allowed, else two: more would find names that only look alike."""


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """The nearest of the known names, if one is so near that little else can have been meant.

    Small and capital letters are the same here, `-` and `_` are nothing: `maxTokens` is `max_tokens`.
    """
    key = _key(name)
    if len(name) > _MAX_LENGTH or len(key) < 3:
        return None
    slips = 1 if len(key) < _SHORT else 2
    near: dict[str, int] = {}
    for other in known:
        distance = _distance(key, _key(other), slips)
        if distance is not None:
            near[other] = distance
    return min(near, key=near.__getitem__, default=None)


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _distance(left: str, right: str, limit: int) -> int | None:
    """How many letters are missing, too many, wrong or swapped with their neighbour (optimal string alignment); None
    if they are more than `limit`."""
    if abs(len(left) - len(right)) > limit:
        return None
    before: list[int] = []
    last = list(range(len(right) + 1))
    for row, a in enumerate(left, start=1):
        here = [row]
        for column, b in enumerate(right, start=1):
            cost = min(last[column] + 1, here[-1] + 1, last[column - 1] + (a != b))
            if row > 1 and column > 1 and a == right[column - 2] and left[row - 2] == b:
                cost = min(cost, before[column - 2] + 1)
            here.append(cost)
        if min(here) > limit:
            return None
        before, last = last, here
    return last[-1] if last[-1] <= limit else None
