"""The cost of a check against a JSON schema, computed before any value is checked.

**Unit.** A step: one subschema held against one part of a value, a few dozen nanoseconds. The cost of a schema is the
number of steps for one part, at most; times the size of a value (`size.py`), it bounds a check.

**Rules**, for a subschema at one level of the value:

| keyword | cost |
|---|---|
| `allOf`, `anyOf`, `if`, … and the target of `$ref` | added: all apply to the same part |
| `properties`, `items`, … | the most expensive one: each part below meets one of them |
| `patternProperties`, `contains`, … | added: each part below meets all of them |
| `unevaluatedItems`, `unevaluatedProperties` | times four: the subschemas beside them are visited again |
| `enum`, `const`, bounds of numbers | the size of what is compared |

**Cycles.** A validator that only decides remembers the outcome for each pair of subschema and part. So a reference back
to a subschema that is being entered costs one step, and the cost of every subschema in a cycle is added once. A
validator that collects reasons remembers nothing: it follows references again at every level of the value, and
`cost_of_reasons` counts them so, to the value's depth.

Without these bounds a schema of a few lines, whose parts refer to one another twice each, would take 2**30 steps with
the interpreter's lock held.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, cast

from swarmstream.errors import quote
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.references import References
from swarmstream.json_schema.size import count_numbers, size_and_depth
from swarmstream.json_schema.steps import MAX_SUBSCHEMAS, SchemaSteps

MAX_REFERENCES_DEEP: Final = 150
"""Subschemas inside one another once references are followed."""
MANY: Final = 10**9
"""The highest cost: a higher one counts as this."""

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


def cost_of_check(schema: Any, steps: SchemaSteps | None = None) -> int:
    """Return the cost of deciding if a value fits, at most `MANY`.

    Raises:
        SchemaError: a reference leads nowhere, out of the schema, or in an endless circle.
    """
    return _Cost(schema, steps).of_check()


def cost_of_reasons(schema: Any, depth: int) -> int:
    """Return the cost of collecting the reasons why a value of this depth does not fit, at most `MANY`.

    Raises:
        SchemaError: that takes too long to compute.
    """
    return _Cost(schema, None).of_subschema(schema, 0, depth)


class _Cost:
    """A computation of the cost of a schema."""

    def __init__(self, schema: Any, steps: SchemaSteps | None = None) -> None:
        self._root = schema
        self._steps = steps or SchemaSteps()
        old = isinstance(schema, dict) and "draft-04" in str(cast(_Object, schema).get("$schema"))
        self._id: Literal["id", "$id"] = "id" if old else "$id"
        self._costs: dict[tuple[int, int | None], int] = {}
        self._path: dict[int, int] = {}
        """The subschemas being entered, by `id`, with the level of the value that each applies to."""
        self._depth = 0
        self._cycles: dict[int, Any] = {}
        self._has_unevaluated = False
        self._references = References(schema)

    def of_check(self) -> int:
        total = self.of_subschema(self._root, 0, None)
        counted: set[int] = set()
        while pending := self._cycles.keys() - counted:
            counted |= pending
            total += sum(self.of_subschema(self._cycles[each], 0, None) for each in pending)
        if self._cycles and self._has_unevaluated:  # what one part has come to is not remembered then
            raise SchemaError(f"{_UNEVALUATED[0]} and {_UNEVALUATED[1]} cannot stand in a schema that refers to itself")
        return min(total, MANY)

    def of_subschema(self, schema: Any, level: int, left: int | None) -> int:
        """Return the cost of a subschema at a level of the value with `left` levels below; None: as in a check."""
        if not isinstance(schema, dict) or (left is not None and left < 0):
            return 1
        schema = cast(_Object, schema)
        if (known := self._costs.get((id(schema), left))) is not None:
            return known
        entered = self._path.get(id(schema))
        if entered == level:
            raise SchemaError("a part of it refers to itself without end")
        if entered is not None and left is None:
            self._cycles[id(schema)] = schema
            return 1
        if self._depth > MAX_REFERENCES_DEEP:
            raise SchemaError("its parts refer to one another too deeply")
        self._take_step()
        self._path[id(schema)] = level
        self._depth += 1
        cost = self._costs[id(schema), left] = min(self._sum(schema, level, left), MANY)
        self._depth -= 1
        if entered is None:
            del self._path[id(schema)]
        else:
            self._path[id(schema)] = entered
        return cost

    def _sum(self, schema: _Object, level: int, left: int | None) -> int:
        if schema is not self._root and isinstance(schema.get(self._id), str):
            raise SchemaError(f"{self._id} can only stand at its top")
        below = None if left is None else left - 1
        subschemas = sum(self.of_subschema(part, level, left) for part in self._here(schema))
        subschemas += max((self.of_subschema(part, level + 1, below) for part in _parts(schema, _ONE_BELOW)), default=0)
        subschemas += sum(self.of_subschema(part, level + 1, below) for part in _parts(schema, _ALL_BELOW))
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
        self._take_step()
        target = self._references.target(reference)
        if target is None:
            raise SchemaError(f"{quote(reference)} refers to nothing")
        return target

    def _take_step(self) -> None:
        if not self._steps.take():
            raise SchemaError(
                f"a request's schemas may have {MAX_SUBSCHEMAS} subschemas and references in all, and they have more"
            )


def _parts(schema: _Object, names: Iterable[str]) -> Iterator[Any]:
    """Yield the subschemas under these keywords: one each, a list of them, or a map."""
    for name in names:
        value = schema.get(name)
        if isinstance(value, list):
            yield from cast("list[Any]", value)
        elif isinstance(value, dict) and name in _MAPS:
            yield from cast(_Object, value).values()
        elif value is not None:
            yield value


def _steps(name: str, value: Any) -> int:
    """Return the cost of a keyword by itself."""
    if name in {"enum", "const"}:
        return size_and_depth(value, size_limit=MANY, depth_limit=MANY)[0] + _STEPS_OF_A_NUMBER * count_numbers(value)
    if name in _BOUNDS:
        return _STEPS_OF_A_NUMBER
    return len(cast("list[Any] | _Object", value)) if isinstance(value, list | dict) else 0
