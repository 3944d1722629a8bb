"""The size of a JSON value."""

from collections.abc import Iterable
from typing import Any, TypeAlias, cast

_CHARACTERS_OF_A_PART = 16

_Object: TypeAlias = dict[str, Any]


def size_and_depth(value: Any, *, size_limit: int, depth_limit: int) -> tuple[int, int]:
    """Count the parts of a value, long texts as several, and how deep they are nested.

    Counting ends soon after either limit.
    """
    size = deepest = 0
    pending: list[tuple[Iterable[Any], int]] = [([value], 0)]
    while pending and size <= size_limit and deepest <= depth_limit:
        parts, depth = pending.pop()
        deepest = max(deepest, depth)
        for part in parts:
            size += 1
            if isinstance(part, str):
                size += len(part) // _CHARACTERS_OF_A_PART
            elif isinstance(part, dict):
                entries = cast(_Object, part)
                size += sum(map(len, entries)) // _CHARACTERS_OF_A_PART
                pending.append((entries.values(), depth + 1))
            elif isinstance(part, list):
                pending.append((cast("list[Any]", part), depth + 1))
    return size, deepest


def count_numbers(value: Any) -> int:
    """Count the numbers in a value, at every depth."""
    count = 0
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            pending.extend(cast(_Object, part).values())
        elif isinstance(part, list):
            pending.extend(cast("list[Any]", part))
        elif isinstance(part, int | float) and not isinstance(part, bool):
            count += 1
    return count
