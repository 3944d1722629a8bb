"""A place in a JSON document, by JSON Pointer (RFC 6901) or by dotted path."""

import re
from collections.abc import Sequence

from pydantic import JsonValue

from swarmstream.errors import quote
from swarmstream.tools.errors import ToolError

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_LONE_TILDE = re.compile(r"~(?![01])")
_ROOT = re.compile(r"^\$(?:\.|(?=\[))")
_DOTTED = re.compile(r"(?:[^.\[\]]+|\[[0-9]+\])(?:\.[^.\[\]]+|\[[0-9]+\])*")
_STEP = re.compile(r"[^.\[\]]+")
_KEYS_SHOWN = 5


def value_at(document: JsonValue, path: str) -> JsonValue:
    """Return the value at a path; "" and "$" are the whole document.

    Raises:
        ToolError: the path cannot be read, or leads nowhere.
    """
    value = document
    for step in _steps(path):
        value = _step_into(value, step)
    return value


def _steps(path: str) -> Sequence[str]:
    if path in {"", "$"}:
        return []
    if path.startswith("/"):
        if _LONE_TILDE.search(path):
            raise ToolError("the path is no JSON Pointer: after ~ comes 0 or 1")
        return [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    path = _ROOT.sub("", path)
    if not _DOTTED.fullmatch(path):
        raise ToolError('the path cannot be read: write "/orders/0/id" or "orders[0].id"')
    return _STEP.findall(path)


def _step_into(value: JsonValue, step: str) -> JsonValue:
    match value:
        case dict():
            if step in value:
                return value[step]
            raise ToolError(f"there is no {quote(step)}; the object there has {_keys(list(value))}")
        case list():
            if _INDEX.fullmatch(step) and int(step) < len(value):
                return value[int(step)]
            raise ToolError(f"there is no item {quote(step)}; the array there has {len(value):,} items, from 0")
        case _:
            raise ToolError(f"there is no {quote(step)}; the value there is neither an object nor an array")


def _keys(keys: Sequence[str]) -> str:
    if not keys:
        return "no keys"
    shown = ", ".join(quote(key[:30]) for key in keys[:_KEYS_SHOWN])
    return f"{shown} and {len(keys) - _KEYS_SHOWN:,} more" if len(keys) > _KEYS_SHOWN else shown
