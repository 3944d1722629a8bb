"""JSON schemas of clients and MCP servers, against which values are checked at a bounded cost.

jsonschema-rs holds the interpreter's lock, overflows its stack on what is nested too deep, and takes 2**30 steps if a
schema of a few lines asks for them. So the cost of a check is known before it begins (`cost.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, from_json, to_json

from swarmstream.errors import quote
from swarmstream.json_schema.cost import cost_of_check, cost_of_reasons
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.size import size_and_depth
from swarmstream.json_schema.steps import SchemaSteps
from swarmstream.unicode import replace_lone_surrogates

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_NESTING: Final = 128
"""Of a schema as it is written, and of a value."""
MAX_COST: Final = 20_000
"""Steps for one part of a value."""
MAX_STEPS: Final = 10_000_000
"""Of one check: some tenths of a second."""
MAX_STEPS_TO_REASONS: Final = 20_000
"""Each reason comes with a copy of the part that it is about."""
MAX_PATTERN_BYTES: Final = 1024 * 1024
"""Of a regular expression, compiled."""
MAX_PATTERNS_BYTES: Final = 4 * MAX_PATTERN_BYTES
"""Of all regular expressions of a schema."""

_REASONS = 3
_REASON_LIMIT = 200
_PATH_LIMIT = 60
_VALUE = "it"
"""The name of the value in reasons, which do not repeat it."""


@dataclass(frozen=True, slots=True, eq=False)
class JsonSchema:
    """A compiled schema."""

    _schema: JsonValue = field(repr=False)
    _validator: "Validator" = field(repr=False)
    _cost: int = field(repr=False)

    def violation(self, value: JsonValue) -> str | None:
        """Return the first few reasons why a value does not fit, for a model and without the value; None if it fits."""
        size, depth = size_and_depth(value, size_limit=MAX_STEPS // self._cost, depth_limit=MAX_NESTING)
        if depth > MAX_NESTING:
            return f"it is nested more than {MAX_NESTING} deep"
        if size * self._cost > MAX_STEPS:
            return "it is too large to be held against this schema"
        try:
            if self._validator.is_valid(value):
                return None
            return self._reasons(value, size, depth) or "it does not fit the schema"
        except ValueError:
            return "it holds half a surrogate pair, or a number that is none in JSON"

    def fits(self, value: JsonValue, max_steps: int) -> tuple[bool, int]:
        """Return whether the value fits, and the steps that this took; with more than `max_steps` it does not fit."""
        size, depth = size_and_depth(value, size_limit=max_steps // self._cost, depth_limit=MAX_NESTING)
        steps = size * self._cost
        if depth > MAX_NESTING or steps > max_steps:
            return False, steps
        try:
            return self._validator.is_valid(value), steps
        except ValueError:
            return False, steps

    def _reasons(self, value: JsonValue, size: int, depth: int) -> str | None:
        try:
            cost = cost_of_reasons(self._schema, depth)
        except SchemaError:
            return None
        if size * cost > MAX_STEPS_TO_REASONS:
            return None
        errors = list(self._validator.iter_errors(value))
        shown = [_reason(error) for error in errors[:_REASONS]]
        more = [f"and {len(errors) - len(shown)} more"] if len(errors) > len(shown) else []
        return "; ".join([*shown, *more])


def compile_schema(schema: JsonValue, steps: SchemaSteps | None = None) -> JsonSchema:
    """Compile a schema, of draft 2020-12 unless its `$schema` names another. Nothing is ever fetched.

    Formats are not checked. Regular expressions are those that match in linear time, without look-around and
    back-references. Schemas with the same `steps` share one bound on their parts.

    Raises:
        SchemaError: it is malformed, refers to something outside itself, or could cost more than a check may.
    """
    import jsonschema_rs

    schema = _copied(schema)
    cost = cost_of_check(schema, steps)
    if cost > MAX_COST:
        raise SchemaError("its parts refer to one another so often that a check would take too long")
    pattern_bytes = min(MAX_PATTERN_BYTES, MAX_PATTERNS_BYTES // max(1, len(set(_patterns(schema)))))
    try:
        validator = jsonschema_rs.validator_for(
            cast("dict[str, Any] | bool", schema),
            validate_formats=False,
            offline=True,
            mask=_VALUE,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=pattern_bytes, dfa_size_limit=pattern_bytes),
        )
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(f"it is no JSON schema: {_reason(error)}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"it is no JSON schema: {_cut(str(error), _REASON_LIMIT)}") from error
    return JsonSchema(schema, validator, cost)


def check_schema(schema: JsonValue, steps: SchemaSteps | None = None) -> None:
    """Check the form of a schema that no value is checked against here, without compiling it.

    Raises:
        SchemaError: it is malformed, or could cost more than a check may.
    """
    import jsonschema_rs

    schema = _copied(schema)
    cost_of_check(schema, steps)
    try:
        jsonschema_rs.meta.validate(cast("dict[str, Any] | bool", schema))
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(f"it is no JSON schema: {_reason(error)}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"it is no JSON schema: {_cut(str(error), _REASON_LIMIT)}") from error


def _copied(schema: JsonValue) -> JsonValue:
    """Return a copy, which no later change of the original reaches, and which is JSON beyond doubt."""
    if not isinstance(schema, dict | bool):
        raise SchemaError("a JSON schema is an object or a boolean")
    size, depth = size_and_depth(schema, size_limit=MAX_SCHEMA_BYTES, depth_limit=MAX_NESTING)
    if depth > MAX_NESTING:
        raise SchemaError(f"it is nested more than {MAX_NESTING} deep")
    try:
        written = to_json(schema) if size <= MAX_SCHEMA_BYTES else b""
        copy = from_json(written) if 0 < len(written) <= MAX_SCHEMA_BYTES else None
    except (PydanticSerializationError, ValueError) as error:
        raise SchemaError("it is not JSON") from error
    if copy is None:
        raise SchemaError(f"it is larger than {MAX_SCHEMA_BYTES // 1024} kB")
    return copy


def _patterns(schema: Any) -> Iterator[str]:
    """Yield every text of a schema that may become a regular expression."""
    if isinstance(schema, dict):
        entries = cast("dict[str, Any]", schema)
        if isinstance(pattern := entries.get("pattern"), str):
            yield pattern
        if isinstance(by_pattern := entries.get("patternProperties"), dict):
            yield from cast("dict[str, Any]", by_pattern)
        schema = list(entries.values())
    if isinstance(schema, list):
        for part in cast("list[Any]", schema):
            yield from _patterns(part)


def _reason(error: "ValidationError") -> str:
    path = ".".join(map(str, error.instance_path))
    reason = _cut(error.message, _REASON_LIMIT)
    return f"{quote(_cut(path, _PATH_LIMIT))}: {reason}" if path else reason


def _cut(text: str, limit: int) -> str:
    text = " ".join(replace_lone_surrogates(text[: 2 * limit]).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
