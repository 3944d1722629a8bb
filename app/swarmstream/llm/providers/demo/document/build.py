"""An attempt at a document: the simplest value for each part of a schema."""

from collections.abc import Collection
from typing import Any, Final, cast

from swarmstream.llm.providers.demo.document.choices import Choices
from swarmstream.llm.providers.demo.document.flatten import flatten, listed
from swarmstream.llm.providers.demo.document.source import Schema, Source
from swarmstream.llm.providers.demo.document.work import A_PART, AN_ENTRY, NoValueError

_MAX_CHARACTERS: Final = 150_000
"""Of one document. Each is up to six bytes when it is written (`\\u00e9`)."""
_MAX_ITEMS: Final = 500
"""Of one list or object."""
_MAX_DEPTH: Final = 32
_MAX_TEXT: Final = 2000

_A_CONSTANT: Final = 10
"""Steps for each part of a constant."""
_A_TEXT: Final = 50
_A_NUMBER: Final = 400

_FORMATS: Final = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/demo",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/demo",
    "regex": "demo",
}
_HINTS: Final = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "patternProperties", "propertyNames"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"},
    "string": {"pattern", "minLength", "maxLength", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_TYPES: Final = ("string", "object", "array", "integer", "number", "boolean", "null")


class Builder:
    """An attempt at a document. `size` is the number of levels that have optional parts."""

    def __init__(self, source: Source, choices: Choices, size: int) -> None:
        self._source = source
        self._work = source.work
        self._choices = choices
        self._size = size
        self._characters = 0
        """Of the document so far."""

    def value(self, schema: Any, depth: int, number: int) -> Any:
        """Return a value for this part; `number` tells the items of a list apart.

        Raises:
            NoValueError: there is none with the present choices, or none that is cheap enough.
        """
        self._work.add(A_PART)
        self._write(0)
        if schema is False or depth > _MAX_DEPTH:
            raise NoValueError
        schema = flatten({} if schema is True else cast("Schema", schema), self._source, self._choices)
        if "const" in schema:
            return self._constant(schema["const"])
        if options := schema.get("enum"):
            return self._constant(options[(self._choices.choose(len(options)) + number) % len(options)])
        types = _types(schema)
        match types[self._choices.choose(len(types))]:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                text = self._text(schema, number)
                self._write(len(text))
                return text
            case "integer":
                return self._number(schema, number, is_whole=True)
            case "number":
                return self._number(schema, number, is_whole=False)
            case "boolean":
                return (self._choices.choose(2) + number) % 2 == 0
            case _:
                return None

    def _write(self, characters: int) -> None:
        """Count the characters of a part of the document, beside quotes, commas and brackets."""
        self._characters += characters + 2
        if self._characters > _MAX_CHARACTERS:
            raise NoValueError

    def _constant(self, value: Any) -> Any:
        """Return a value as the schema has it, once it is known to be small enough."""
        pending: list[Any] = [value]
        while pending:
            self._work.add(_A_CONSTANT)
            part = pending.pop()
            if isinstance(part, dict):
                part = cast("Schema", part)
                self._work.add(_A_CONSTANT * len(part))
                for name in part:
                    self._write(len(name))
                pending += part.values()
            elif isinstance(part, list):
                part = cast("list[Any]", part)
                self._work.add(_A_CONSTANT * len(part))
                pending += part
            self._write(_length(part))
        return value

    def _object(self, schema: Schema, depth: int) -> Schema:
        properties: Schema = schema.get("properties", {})
        required: list[str] = schema.get("required", [])
        names = dict.fromkeys(required)
        if depth < self._size:
            names |= dict.fromkeys(name for name, of in properties.items() if of is not False)
        needed: Schema = schema.get("dependentRequired", {})
        for name in [name for name in names if name in needed]:
            self._work.add(AN_ENTRY * (1 + len(needed[name])))
            names |= dict.fromkeys(needed[name])
        least: int = schema.get("minProperties", 0)
        names |= dict.fromkeys([name for name in properties if name not in names][: max(0, least - len(names))])
        names |= dict.fromkeys(self._more_names(schema, names, least - len(names)))
        if len(names) > _MAX_ITEMS:
            raise NoValueError
        names = list(names)[: max(schema.get("maxProperties", len(names)), len(required))]
        for name in names:
            self._write(len(name))
        return {name: self.value(_property(schema, properties, name), depth + 1, 0) for name in names}

    def _more_names(self, schema: Schema, names: Collection[str], count: int) -> list[str]:
        """Return names for properties that a schema requires by their number, not by name."""
        if count > _MAX_ITEMS:
            raise NoValueError
        if count <= 0:
            return []
        pattern = next(iter(schema.get("patternProperties", ())), None)
        like: Any = schema.get("propertyNames", {"pattern": pattern} if pattern else {})
        flat = flatten(cast("Schema", like) if isinstance(like, dict) else {}, self._source, self._choices)
        if "enum" in flat:
            return [option for option in flat["enum"] if isinstance(option, str) and option not in names][:count]
        made: dict[str, None] = {}
        for number in range(4 * count):
            name = self._text(flat, number)
            if name not in names:
                made[name] = None
            if len(made) == count:
                break
        return list(made)

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        before: list[Any] = schema.get("prefixItems", [])
        items: Any = schema.get("items", True)
        if isinstance(items, list):  # before draft 2020-12
            before, items = cast("list[Any]", items), schema.get("additionalItems", True)
        wanted_count = schema.get("minContains", 1) if "contains" in schema else 0
        if max(wanted_count, schema.get("minItems", 0)) > _MAX_ITEMS:
            raise NoValueError
        wanted: list[Any] = [schema["contains"]] * wanted_count if wanted_count else []
        least = max(schema.get("minItems", 0), len(wanted), 1 if depth < self._size and items is not False else 0)
        least = max(least, len(before) if depth < self._size else 0)
        least = min(least, schema.get("maxItems", least))
        of: list[Any] = [*before, *[{"allOf": [items, want]} for want in wanted]][: max(least, len(wanted))]
        of += [items] * (least - len(of))
        is_set = schema.get("uniqueItems") is True
        return [self.value(each, depth + 1, number if is_set else 0) for number, each in enumerate(of)]

    def _text(self, schema: Schema, number: int) -> str:
        self._work.add(_A_TEXT)
        least, most = schema.get("minLength", 0), schema.get("maxLength", _MAX_TEXT)
        if least > _MAX_TEXT:
            raise NoValueError
        if "pattern" in schema:
            text = self._source.text(schema["pattern"], (0, 1, least)[self._choices.choose(3)] + number)
            return text if schema["pattern"].endswith("$") else f"{text}{number or ''}".ljust(least, "o")
        base = ("demo", "text")[self._choices.choose(2)]
        text = _FORMATS.get(str(schema.get("format")), base) + (str(number) if number else "")
        return text.ljust(least, "o")[-int(most) :] if most else ""

    def _number(self, schema: Schema, number: int, *, is_whole: bool) -> int | float:
        self._work.add(_A_NUMBER)
        numbers = self._source.numbers(schema)
        fitting = numbers.some(number, is_whole=is_whole)
        if not fitting:
            raise NoValueError
        chosen = fitting[self._choices.choose(len(fitting))] + number * numbers.step
        figure = int(chosen) if chosen.denominator == 1 else float(chosen)
        self._write(_length(figure))
        return figure


def _length(value: object) -> int:
    """Return about how many characters a scalar takes; 0 for a list or an object."""
    match value:
        case str():
            return len(value)
        case int():
            return 5 + value.bit_length() // 3
        case float():
            return 25
        case None:
            return 4
        case _:
            return 0


def _types(schema: Schema) -> list[str]:
    """Return the types that a value may have, the likeliest first."""
    if "type" in schema:
        named = [kind for kind in listed(schema["type"]) if kind in _TYPES]
        if not named:
            raise NoValueError
        return sorted(named, key=lambda kind: kind == "null")
    hinted = [kind for kind, keywords in _HINTS.items() if not keywords.isdisjoint(schema)]
    return list(dict.fromkeys([*hinted, *_TYPES]))


def _property(schema: Schema, properties: Schema, name: str) -> Any:
    if name in properties:
        return properties[name]
    patterns: Schema = schema.get("patternProperties", {})
    return next(iter(patterns.values())) if patterns else schema.get("additionalProperties", True)
