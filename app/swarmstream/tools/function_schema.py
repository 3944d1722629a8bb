"""The JSON schema of a Python function, by which the arguments of models are read.

Signature, annotations and docstring become the fields of a pydantic model, whose JSON schema models are offered.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PydanticUserError, ValidationError, create_model
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, to_json

from swarmstream.errors import quote
from swarmstream.llm.messages import JsonObject
from swarmstream.tools.context import ToolContext
from swarmstream.tools.docstring import description_in, parameters_in
from swarmstream.tools.errors import ToolDefinitionError, ToolError
from swarmstream.tools.names import check_name

_PATH_LIMIT = 60
_VIOLATION_LIMIT = 200
_MAX_VIOLATIONS = 3
_WHOLE_FLOAT_LIMIT = 2**53
"""Floats above it do not hold every whole number."""


class _Schemas(GenerateJsonSchema):
    """A generator of JSON schemas without titles that repeat names, and without defaults that JSON cannot write."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def field_title_should_be_set(self, schema: CoreSchema | Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class FunctionSchema:
    """A function as models are offered it, with the way from their arguments to its own."""

    name: str
    description: str
    parameters: JsonObject
    _fields: tuple[tuple[Parameter, str | None], ...]
    """The parameters with the names of their fields in `_arguments`; None for one that takes the context."""
    _arguments: type[BaseModel]

    def bind(self, values: Mapping[str, JsonValue], context: ToolContext) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named arguments of one call.

        Types are strict, but for a number such as 17.0, which is an integer as in JSON Schema.

        Raises:
            ToolError: the values do not fit the schema.
        """
        arguments = self._read(values)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for parameter, field in self._fields:
            value = context if field is None else getattr(arguments, field)
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named

    def _read(self, values: Mapping[str, JsonValue]) -> BaseModel:
        try:
            return self._arguments.model_validate_json(to_json(values), strict=True)
        except ValidationError as error:
            violations = error
        try:
            return self._arguments.model_validate_json(to_json(_with_whole_numbers(values)), strict=True)
        except ValidationError:
            raise ToolError(f"the arguments do not fit: {_describe(violations)}") from violations


def function_schema(
    function: Callable[..., Any], *, name: str | None = None, description: str | None = None
) -> FunctionSchema:
    """Return the schema of a function, bound method, partial or object with `__call__`, async or not.

    Names that a partial has bound are left out, and parameters that take the `ToolContext`.

    Raises:
        ToolDefinitionError: it cannot be called with JSON arguments.
    """
    routine = _routine(function)
    name = check_name(name or getattr(routine, "__name__", None) or type(routine).__name__)
    try:
        parameters = _parameters(name, function)
        hints = _hints(routine, parameters)
    except (ValueError, TypeError, NameError, SyntaxError, AttributeError) as error:
        raise ToolDefinitionError(f"the signature of {name} cannot be read: {error}") from error
    docstring = _docstring(routine)
    documented = parameters_in(docstring)
    fields: list[tuple[Parameter, str | None]] = []
    definitions: dict[str, Any] = {}
    for parameter in parameters:
        hint = hints[parameter.name]
        field = None if _takes_context(hint) else f"argument_{len(fields)}"
        fields.append((parameter, field))
        if field:
            definitions[field] = _definition(parameter, hint, documented.get(parameter.name))
    arguments, schema = _model(name, definitions)
    text = description_in(docstring) if description is None else description
    return FunctionSchema(name, text, schema, tuple(fields), arguments)


def _routine(function: Any) -> Any:
    """Return the function below partials; an object with `__call__` stays as it is."""
    routine = function
    while isinstance(routine, functools.partial):
        routine = cast("functools.partial[Any]", routine).func
    if not callable(routine) or inspect.isclass(routine):
        raise ToolDefinitionError(f"{_shown(function)} is no function")
    if inspect.isasyncgenfunction(routine):
        raise ToolDefinitionError(f"{_shown(function)} yields; a tool returns, once")
    return routine


def _shown(value: object) -> str:
    return quote(getattr(value, "__qualname__", None) or repr(value))


def _docstring(routine: Any) -> str | None:
    """Return the docstring of a function, or of an object's `__call__`, or of the object."""
    call = None if hasattr(routine, "__name__") else type(routine).__call__
    return (call and call.__doc__) or routine.__doc__


def _parameters(name: str, function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters that a call fills."""
    signature = inspect.signature(function)
    bound: Collection[str] = function.keywords if isinstance(function, functools.partial) else ()
    parameters = [p for p in signature.parameters.values() if p.name not in bound]
    if parameters and parameters[0].name == "self" and "." in str(getattr(cast(Any, function), "__qualname__", "")):
        raise ToolDefinitionError(f"{name} is a method of no object; give the method of one")
    for parameter in parameters:
        if parameter.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            raise ToolDefinitionError(
                f"{name} takes {str(parameter).split(':')[0]}, and models need to know each parameter's name "
                "(a decorator keeps those of the function that it wraps with functools.wraps)"
            )
    return parameters


def _hints(routine: Any, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the parameters' annotations; those written as text are read in the function's module."""
    written = {p.name: Any if p.annotation is Parameter.empty else p.annotation for p in parameters}
    code = inspect.unwrap(routine if hasattr(routine, "__name__") else type(routine).__call__)
    holder = SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, globalns=getattr(code, "__globals__", {}), include_extras=True)


def _takes_context(hint: Any) -> bool:
    return hint is ToolContext or (get_origin(hint) in {Annotated, Union, UnionType} and ToolContext in get_args(hint))


def _definition(parameter: Parameter, hint: Any, documented: str | None) -> tuple[Any, Any]:
    """Return the pydantic field of a parameter.

    Its description is that of a `Field`, else the text in `Annotated[T, "…"]`, else that in the docstring.
    """
    plain, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    description = next((item for item in metadata if isinstance(item, str)), documented)
    annotation = cast(Any, Annotated)[(plain, Field(description=description), *metadata, Field(alias=parameter.name))]
    return annotation, ... if parameter.default is Parameter.empty else parameter.default


def _model(name: str, definitions: dict[str, Any]) -> tuple[type[BaseModel], JsonObject]:
    """Return the model that reads the arguments, with its JSON schema.

    Its fields have names of ours, for pydantic refuses some names of parameters.
    """
    config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
    try:
        model: type[BaseModel] = create_model("Arguments", __config__=config, **definitions)
        schema = model.model_json_schema(schema_generator=_Schemas)
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ToolDefinitionError(f"a parameter of {name} cannot be given as JSON: {reason}") from error
    del schema["title"]
    return model, schema


def _with_whole_numbers(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) < _WHOLE_FLOAT_LIMIT:
            return int(value)
        case dict():
            return {key: _with_whole_numbers(item) for key, item in cast("JsonObject", value).items()}
        case list():
            return [_with_whole_numbers(item) for item in cast("list[JsonValue]", value)]
        case _:
            return value


def _describe(violations: ValidationError) -> str:
    """Return the first few violations, each cut, in words for a model and without the values that it sent."""
    errors = violations.errors(include_url=False, include_input=False, include_context=False)
    shown = [_describe_one(error["loc"], error["type"], error["msg"]) for error in errors[:_MAX_VIOLATIONS]]
    more = [f"and {len(errors) - len(shown)} more"] if len(errors) > len(shown) else []
    return "; ".join([*shown, *more])


def _describe_one(location: Sequence[int | str], kind: str, message: str) -> str:
    path = ".".join(map(str, location))
    path = quote(path if len(path) <= _PATH_LIMIT else f"{path[: _PATH_LIMIT - 1]}…")
    match kind:
        case "missing":
            return f"{path} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"there is no parameter {path}"
        case _:
            text = f"{path}: {message[:1].lower()}{message[1:]}"
            return text if len(text) <= _VIOLATION_LIMIT else f"{text[: _VIOLATION_LIMIT - 1]}…"
