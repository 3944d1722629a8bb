"""JSON schemas of other people's making, as something that values can be held against.

jsonschema-rs holds the interpreter's lock, overflows its stack on what is nested too deep, and takes 2**30 steps if a
schema of a few lines asks for them. So what a check may cost is known before it begins.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, from_json, to_json

from swarmstream.errors import quote
from swarmstream.json_schema.cost import Scale, SchemaError, SchemaSteps, measured, patterns
from swarmstream.unicode import replace_lone_surrogates

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

__all__ = ["JsonSchema", "SchemaError", "SchemaSteps", "check_schema", "compiled"]

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_NESTING: Final = 128
"""Of a schema as it is written, and of a value."""
MAX_WEIGHT: Final = 20_000
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
"""What reasons call the value, instead of repeating it."""


@dataclass(frozen=True, slots=True, eq=False)
class JsonSchema:
    """A schema that values can be held against."""

    _schema: JsonValue = field(repr=False)
    _validator: "Validator" = field(repr=False)
    _weight: int = field(repr=False)

    def complaint(self, value: JsonValue) -> str | None:
        """None if the value fits; else the first few reasons why not, in words for a model, without the value."""
        size, depth = measured(value, size_limit=MAX_STEPS // self._weight, depth_limit=MAX_NESTING)
        if depth > MAX_NESTING:
            return f"it is nested more than {MAX_NESTING} deep"
        if size * self._weight > MAX_STEPS:
            return "it is too large to be held against this schema"
        try:
            if self._validator.is_valid(value):
                return None
            return self._reasons(value, size, depth) or "it does not fit the schema"
        except ValueError:
            return "it holds half a surrogate pair, or a number that is none in JSON"

    def fits(self, value: JsonValue, max_steps: int) -> tuple[bool, int]:
        """Whether the value fits, and how many steps that took to find out; it does not where it takes too many."""
        size, depth = measured(value, size_limit=max_steps // self._weight, depth_limit=MAX_NESTING)
        steps = size * self._weight
        if depth > MAX_NESTING or steps > max_steps:
            return False, steps
        try:
            return self._validator.is_valid(value), steps
        except ValueError:
            return False, steps

    def _reasons(self, value: JsonValue, size: int, depth: int) -> str | None:
        try:
            weight = Scale(self._schema).weight_of_reasons(depth)
        except SchemaError:
            return None
        if size * weight > MAX_STEPS_TO_REASONS:
            return None
        errors = list(self._validator.iter_errors(value))
        shown = [_reason(error) for error in errors[:_REASONS]]
        more = [f"and {len(errors) - len(shown)} more"] if len(errors) > len(shown) else []
        return "; ".join([*shown, *more])


def compiled(schema: JsonValue, steps: SchemaSteps | None = None) -> JsonSchema:
    """The schema, ready for use; of draft 2020-12 unless its `$schema` says otherwise. Nothing is ever fetched.

    Formats are not checked. Regular expressions are those that can be matched in linear time: they have no look-around
    and no back-references. Schemas that are given the same `steps` share one bound on their parts.

    Raises:
        SchemaError: it is no schema, refers to something outside itself, or could cost more than a check may.
    """
    import jsonschema_rs

    schema = _copied(schema)
    weight = Scale(schema, steps).weight()
    if weight > MAX_WEIGHT:
        raise SchemaError("its parts refer to one another so often that a check would take too long")
    pattern_bytes = min(MAX_PATTERN_BYTES, MAX_PATTERNS_BYTES // max(1, len(set(patterns(schema)))))
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
    return JsonSchema(schema, validator, weight)


def check_schema(schema: JsonValue, steps: SchemaSteps | None = None) -> None:
    """Whether it is a schema, by its form alone: one that nothing is held against here need not be made ready.

    Raises:
        SchemaError: it is none.
    """
    import jsonschema_rs

    schema = _copied(schema)
    Scale(schema, steps).weight()
    try:
        jsonschema_rs.meta.validate(cast("dict[str, Any] | bool", schema))
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(f"it is no JSON schema: {_reason(error)}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"it is no JSON schema: {_cut(str(error), _REASON_LIMIT)}") from error


def _copied(schema: JsonValue) -> JsonValue:
    """Our own, so that nobody changes it later, and JSON without doubt."""
    if not isinstance(schema, dict | bool):
        raise SchemaError("a JSON schema is an object or a boolean")
    size, depth = measured(schema, size_limit=MAX_SCHEMA_BYTES, depth_limit=MAX_NESTING)
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


def _reason(error: "ValidationError") -> str:
    path = ".".join(map(str, error.instance_path))
    reason = _cut(error.message, _REASON_LIMIT)
    return f"{quote(_cut(path, _PATH_LIMIT))}: {reason}" if path else reason


def _cut(text: str, limit: int) -> str:
    text = " ".join(replace_lone_surrogates(text[: 2 * limit]).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
