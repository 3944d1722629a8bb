"""The format of an agent's answer: JSON, by a schema or without one."""

from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from swarmstream.errors import InvalidTool, Location
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.steps import SchemaSteps
from swarmstream.json_schema.validator import JsonSchema, compile_schema
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.names import is_name

_ANY_OBJECT: JsonObject = {"type": "object"}


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """An agent's `response_format`."""

    request: JsonObject
    """In the form of OpenAI's requests."""
    schema: JsonObject
    _check: JsonSchema

    def violation(self, answer: str) -> str | None:
        """Return what is wrong with an answer, in words for a model; None if it fits."""
        try:
            value: JsonValue = from_json(answer.strip().encode(), allow_inf_nan=False)
        except ValueError as error:
            reason = "half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)
            return f"it is not JSON: {reason}"
        return self._check.violation(value)

    def instructions(self) -> str:
        """Return the instructions for a model whose provider takes no schema."""
        return (
            "Answer with JSON only: no other words, no code fence. "
            f"It has to keep to this JSON schema: {to_json(self.schema).decode()}"
        )


def answer_format(
    response_format: JsonObject, *, at: Location, steps: SchemaSteps | None = None
) -> AnswerFormat | None:
    """Return the format for OpenAI's `response_format`, or for a JSON schema by itself; None for plain text.

    Raises:
        InvalidTool: the schema or its name cannot be used.
    """
    match response_format:
        case {"type": "text"}:
            return None
        case {"type": "json_object", **rest} if not rest:
            return _checked({"type": "json_object"}, _ANY_OBJECT, at, steps)
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)} as named}:
            name = named.get("name", "answer")
            if not isinstance(name, str) or not is_name(name):
                raise InvalidTool(
                    "a format's name is 1 to 64 of a-z A-Z 0-9 _ -", location=(*at, "json_schema", "name")
                )
            request: JsonObject = {"type": "json_schema", "json_schema": {**named, "name": name}}
            return _checked(request, cast(JsonObject, schema), (*at, "json_schema", "schema"), steps)
        case {"type": "json_schema"}:
            raise InvalidTool("json_schema needs a schema", location=(*at, "json_schema"))
        case _:
            wrapped: JsonObject = {"type": "json_schema", "json_schema": {"name": "answer", "schema": response_format}}
            return _checked(wrapped, response_format, at, steps)


def _checked(request: JsonObject, schema: JsonObject, at: Location, steps: SchemaSteps | None) -> AnswerFormat:
    try:
        return AnswerFormat(request, schema, compile_schema(schema, steps))
    except SchemaError as error:
        raise InvalidTool(f"the response format cannot be used: {error}", location=at) from error
