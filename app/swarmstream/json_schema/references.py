"""The references inside a JSON schema: `$ref` with a JSON pointer or an anchor."""

from typing import Any, TypeAlias, cast
from urllib.parse import unquote

_Object: TypeAlias = dict[str, Any]


class References:
    """The targets of one schema's references."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._anchors: dict[str, Any] | None = None

    def target(self, reference: str) -> Any:
        """Return the subschema that a `$ref`, which begins with `#`, leads to; None if it leads nowhere."""
        pointer = unquote(reference[1:])
        return self._pointed(pointer) if pointer.startswith("/") or not pointer else self._anchored(pointer)

    def _pointed(self, pointer: str) -> Any:
        """Follow a JSON pointer (RFC 6901)."""
        target: Any = self._root
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict):
                target = cast(_Object, target).get(step)
            elif isinstance(target, list) and step.isascii() and step.isdigit() and len(step) < 6:
                target = next(iter(cast("list[Any]", target)[int(step) :]), None)
            else:
                return None
        return target

    def _anchored(self, anchor: str) -> Any:
        if self._anchors is None:
            self._anchors = _anchors(self._root)
        return self._anchors.get(anchor)


def _anchors(schema: Any) -> dict[str, Any]:
    """Return the subschemas that have an anchor, by its name."""
    found: dict[str, Any] = {}
    pending: list[Any] = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            entries = cast(_Object, part)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := entries.get(keyword), str):
                    found.setdefault(name, entries)
            pending.extend(entries.values())
        elif isinstance(part, list):
            pending.extend(cast("list[Any]", part))
    return found
