"""What holding a value against a JSON schema may cost, computed before it is done.

The unit is a step: one subschema held against one part of a value, a few dozen nanoseconds.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import unquote

from swarmstream.errors import quote

MAX_REFERENCES_DEEP: Final = 150
"""Subschemas inside one another once references are followed."""
MAX_SUBSCHEMAS: Final = 50_000
"""That are looked at, references included: of one schema, or of all schemas of a request together."""
MANY: Final = 10**9
"""Weights end here."""

_CHARACTERS_OF_A_PART = 16

_HERE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
"""Their subschemas are held against the same part of the value."""
_ONE_BELOW = ("properties", "prefixItems", "items", "additionalItems", "additionalProperties")
"""Of all their subschemas, one alone is held against each part below."""
_ALL_BELOW = ("patternProperties", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties")
_MAPS = {"dependentSchemas", "dependencies", "properties", "patternProperties"}
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
_TIMES_UNEVALUATED = 4
"""They look into the subschemas beside them again."""
_STEPS_OF_A_NUMBER = 50
"""A number that a value is compared with: an integer and a fraction are compared digit by digit."""
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_UNSUPPORTED = ("$dynamicRef", "$recursiveRef")

_Object: TypeAlias = dict[str, Any]


class SchemaError(ValueError):
    """Nothing can be held against it. The text is for whoever wrote the schema."""


class SchemaSteps:
    """What is left of the subschemas and references that may be looked at; schemas that share it share the bound."""

    def __init__(self) -> None:
        self._left = MAX_SUBSCHEMAS

    def take(self) -> None:
        """One more is looked at.

        Raises:
            SchemaError: none was left.
        """
        self._left -= 1
        if self._left < 0:
            raise SchemaError(
                f"a request's schemas may have {MAX_SUBSCHEMAS} subschemas and references in all, and they have more"
            )


def measured(value: Any, *, size_limit: int, depth_limit: int) -> tuple[int, int]:
    """How many parts a value has, long texts counted as several, and how deep they are nested.

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


def patterns(schema: Any) -> Iterator[str]:
    """Whatever may become a regular expression."""
    if isinstance(schema, dict):
        entries = cast(_Object, schema)
        if isinstance(pattern := entries.get("pattern"), str):
            yield pattern
        if isinstance(by_pattern := entries.get("patternProperties"), dict):
            yield from cast(_Object, by_pattern)
        schema = list(entries.values())
    if isinstance(schema, list):
        for part in cast("list[Any]", schema):
            yield from patterns(part)


class Scale:
    """Weighs a schema: how many steps it takes for one part of a value, at most. Each method is called once."""

    def __init__(self, schema: Any, steps: SchemaSteps | None = None) -> None:
        self._root = schema
        self._steps = steps or SchemaSteps()
        old = isinstance(schema, dict) and "draft-04" in str(cast(_Object, schema).get("$schema"))
        self._id: Literal["id", "$id"] = "id" if old else "$id"
        self._weights: dict[tuple[int, int | None], int] = {}
        self._path: dict[int, int] = {}
        """The subschemas that we are in, with the level of the value that each is held against."""
        self._depth = 0
        self._cycles: dict[int, Any] = {}
        self._has_unevaluated = False
        self._anchors: dict[str, Any] | None = None

    def weight(self) -> int:
        """For finding out whether a value fits: what a reference comes back to is held against each part but once.

        Raises:
            SchemaError: a reference leads nowhere, out of the schema, or round and round.
        """
        total = self._of(self._root, 0, None)
        weighed: set[int] = set()
        while pending := self._cycles.keys() - weighed:
            weighed |= pending
            total += sum(self._of(self._cycles[each], 0, None) for each in pending)
        if self._cycles and self._has_unevaluated:  # what one part has come to is not remembered then
            raise SchemaError(f"{_UNEVALUATED[0]} and {_UNEVALUATED[1]} cannot stand in a schema that refers to itself")
        return min(total, MANY)

    def weight_of_reasons(self, depth: int) -> int:
        """For finding out why a value of this depth does not fit: references are followed again and again.

        Raises:
            SchemaError: that takes too long to be computed.
        """
        return self._of(self._root, 0, depth)

    def _of(self, schema: Any, level: int, left: int | None) -> int:
        """Of a subschema held against a level of the value, with so many below it; None: nobody knows how many."""
        if not isinstance(schema, dict) or (left is not None and left < 0):
            return 1
        schema = cast(_Object, schema)
        if (known := self._weights.get((id(schema), left))) is not None:
            return known
        entered = self._path.get(id(schema))
        if entered == level:
            raise SchemaError("a part of it refers to itself without end")
        if entered is not None and left is None:
            self._cycles[id(schema)] = schema
            return 1
        if self._depth > MAX_REFERENCES_DEEP:
            raise SchemaError("its parts refer to one another too deeply")
        self._steps.take()
        self._path[id(schema)] = level
        self._depth += 1
        weight = self._weights[id(schema), left] = min(self._sum(schema, level, left), MANY)
        self._depth -= 1
        if entered is None:
            del self._path[id(schema)]
        else:
            self._path[id(schema)] = entered
        return weight

    def _sum(self, schema: _Object, level: int, left: int | None) -> int:
        if schema is not self._root and isinstance(schema.get(self._id), str):
            raise SchemaError(f"{self._id} can only stand at its top")
        below = None if left is None else left - 1
        subschemas = sum(self._of(part, level, left) for part in self._here(schema))
        subschemas += max((self._of(part, level + 1, below) for part in _parts(schema, _ONE_BELOW)), default=0)
        subschemas += sum(self._of(part, level + 1, below) for part in _parts(schema, _ALL_BELOW))
        if any(name in schema for name in _UNEVALUATED):
            self._has_unevaluated = True
            subschemas *= _TIMES_UNEVALUATED
        return 1 + sum(_steps(name, value) for name, value in schema.items()) + subschemas

    def _here(self, schema: _Object) -> Iterator[Any]:
        yield from _parts(schema, _HERE)
        for name in _UNSUPPORTED:
            if name in schema:
                raise SchemaError(f"{name} is not supported")
        if isinstance(reference := schema.get("$ref"), str):
            yield self._target(reference)

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise SchemaError(f"{quote(reference)} refers to something outside the schema")
        self._steps.take()
        pointer = unquote(reference[1:])
        found = self._pointed(pointer) if pointer.startswith("/") or not pointer else self._anchored(pointer)
        if found is None:
            raise SchemaError(f"{quote(reference)} refers to nothing")
        return found

    def _pointed(self, pointer: str) -> Any:
        """RFC 6901."""
        found: Any = self._root
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = cast(_Object, found).get(step)
            elif isinstance(found, list) and step.isascii() and step.isdigit() and len(step) < 6:
                found = next(iter(cast("list[Any]", found)[int(step) :]), None)
            else:
                return None
        return found

    def _anchored(self, anchor: str) -> Any:
        if self._anchors is None:
            self._anchors = _anchors(self._root)
        return self._anchors.get(anchor)


def _anchors(schema: Any) -> dict[str, Any]:
    """Whatever in it has a name, by that."""
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


def _parts(schema: _Object, names: Iterable[str]) -> Iterator[Any]:
    """The subschemas under these keywords: one each, a list of them, or a map."""
    for name in names:
        value = schema.get(name)
        if isinstance(value, list):
            yield from cast("list[Any]", value)
        elif isinstance(value, dict) and name in _MAPS:
            yield from cast(_Object, value).values()
        elif value is not None:
            yield value


def _steps(name: str, value: Any) -> int:
    """What a keyword takes by itself."""
    if name in {"enum", "const"}:
        return measured(value, size_limit=MANY, depth_limit=MANY)[0] + _STEPS_OF_A_NUMBER * _numbers(value)
    if name in _BOUNDS:
        return _STEPS_OF_A_NUMBER
    return len(cast("list[Any] | _Object", value)) if isinstance(value, list | dict) else 0


def _numbers(value: Any) -> int:
    """How many numbers it holds."""
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
