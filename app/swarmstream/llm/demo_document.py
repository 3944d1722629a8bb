"""Small documents that fit a JSON schema, for a model that makes nothing up.

A schema is read from its root down and each part is given the simplest value that its keywords admit. Where there is a
choice (a branch of `anyOf`, a type, whether optional properties are there) the first is taken; the whole document is
then held against the schema, and as long as it does not fit, the last choice that has another option takes it. The
documents that are tried get smaller, and their number, size and cost are bounded.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, Final, cast
from urllib.parse import unquote

from swarmstream.json_schema.validator import MAX_STEPS, SchemaError, compiled
from swarmstream.llm.demo_pattern import UnknownPattern, text_like

_TRIES: Final = 32
"""Documents of each size."""
_SIZES: Final = (3, 1, 0)
"""How many levels have their optional properties and an item in each list, in the order that is tried."""
_MAX_PARTS: Final = 2000
"""Of a schema, that are looked at for one document."""
_MAX_PARTS_IN_ALL: Final = 10_000
_MAX_ITEMS: Final = 500
"""Of one list or object."""
_MAX_COMPARED: Final = 100_000
_MAX_DEPTH: Final = 32
_MAX_TEXT: Final = 2000

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
    "object": ("properties", "required", "additionalProperties", "minProperties", "patternProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_TYPES: Final = ("string", "object", "array", "integer", "number", "boolean", "null")
_LARGEST: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
_SMALLEST: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_COUNTS: Final = {name for name in _LARGEST | _SMALLEST if "imum" not in name}
_MAPS: Final = {"properties", "patternProperties"}
_APPLICATORS: Final = ("$ref", "allOf", "anyOf", "oneOf", "if", "then", "else")

_Schema = dict[str, Any]


class _NoValueError(Exception):
    """The choices made so far lead to none."""


def document(schema: _Schema) -> str | None:
    """JSON text of a document that fits; None where none was found."""
    try:
        check = compiled(schema)
    except SchemaError:
        return None
    anchors = dict(_anchors(schema))
    steps = parts = 0
    for size in _SIZES:
        choices = _Choices()
        for _ in range(_TRIES):
            choices.restart()
            maker = _Maker(schema, anchors, choices, size)
            try:
                value = maker.value(schema, 0, 0)
                text = json.dumps(value)
                text.encode()
            except (_NoValueError, ValueError, OverflowError):
                pass
            else:
                does_fit, taken = check.fits(value, MAX_STEPS - steps)
                if does_fit:
                    return text
                steps += taken
                if steps > MAX_STEPS:
                    return None
            parts += maker.parts
            if parts > _MAX_PARTS_IN_ALL or not choices.advance():
                break
    return None


class _Choices:
    """The options that a try takes, in the order in which it comes to them."""

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._counts: list[int] = []

    def restart(self) -> None:
        """A try begins: it takes what was settled for it, then first options."""
        self._counts = []

    def among(self, count: int) -> int:
        """Which of so many options."""
        place = len(self._counts)
        self._counts.append(count)
        if place == len(self._taken):
            self._taken.append(0)
        return self._taken[place]

    def advance(self) -> bool:
        """Settle another try; False when all have been made."""
        del self._taken[len(self._counts) :]
        while self._taken:
            if self._taken[-1] + 1 < self._counts[len(self._taken) - 1]:
                self._taken[-1] += 1
                return True
            self._taken.pop()
        return False


class _Maker:
    """One try."""

    def __init__(self, root: _Schema, anchors: Mapping[str, Any], choices: _Choices, size: int) -> None:
        self.parts = 0
        """Of the schema, that it has looked at."""
        self._root = root
        self._anchors = anchors
        self._choices = choices
        self._size = size

    def _look_at(self, parts: int) -> None:
        self.parts += parts
        if self.parts > _MAX_PARTS:
            raise _NoValueError

    def value(self, schema: Any, depth: int, number: int) -> Any:
        """A value for this part; `number` tells the items of a list apart."""
        self._look_at(1)
        if schema is False or depth > _MAX_DEPTH:
            raise _NoValueError
        schema = self._flat({} if schema is True else cast("_Schema", schema))
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return options[(self._choices.among(len(options)) + number) % len(options)]
        types = _types(schema)
        match types[self._choices.among(len(types))]:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._text(schema, number)
            case "integer":
                return self._number(schema, number, is_whole=True)
            case "number":
                return self._number(schema, number, is_whole=False)
            case "boolean":
                return (self._choices.among(2) + number) % 2 == 0
            case _:
                return None

    def _flat(self, schema: _Schema) -> _Schema:
        """The schema with what it refers to, and one of its alternatives, put into it."""
        flat: _Schema = {}
        pending: list[Any] = [schema]
        while pending:
            self._look_at(1)
            part = pending.pop()
            if part is False:
                raise _NoValueError
            if not isinstance(part, dict):
                continue
            part = cast("_Schema", part)
            self._look_at(sum(len(cast("_Schema", value)) for value in part.values() if isinstance(value, dict)))
            _merge(flat, {name: value for name, value in part.items() if name not in _APPLICATORS})
            if "$ref" in part:
                pending.append(self._referred(part["$ref"]))
            pending += part.get("allOf", ())
            pending += [self._alternative(part[name]) for name in ("anyOf", "oneOf") if part.get(name)]
            if "if" in part:
                others = ([part["if"], part.get("then", True)], [part.get("else", True)])
                pending += others[self._choices.among(2)]
        return flat

    def _alternative(self, options: Sequence[Any]) -> Any:
        """One of them, first those that are sure to end: what refers to something else may come back."""
        self._look_at(len(options))
        ordered = sorted(options, key=_rank)
        return ordered[self._choices.among(len(ordered))]

    def _referred(self, reference: object) -> Any:
        """What a reference within the schema leads to: a JSON pointer (RFC 6901) or an anchor."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _NoValueError
        fragment = unquote(reference[1:])
        if fragment and not fragment.startswith("/"):
            if fragment not in self._anchors:
                raise _NoValueError
            return self._anchors[fragment]
        found: Any = self._root
        for step in fragment.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and int(step) < len(cast("list[Any]", found)):
                found = cast("list[Any]", found)[int(step)]
            elif isinstance(found, dict) and step in found:
                found = cast("_Schema", found)[step]
            else:
                raise _NoValueError
        return found

    def _object(self, schema: _Schema, depth: int) -> _Schema:
        properties: _Schema = schema.get("properties", {})
        required: list[str] = schema.get("required", [])
        names = dict.fromkeys(required)
        if depth < self._size:
            names |= dict.fromkeys(name for name, of in properties.items() if of is not False)
        for name in list(names):
            names |= dict.fromkeys(schema.get("dependentRequired", {}).get(name, ()))
        least: int = schema.get("minProperties", 0)
        names |= dict.fromkeys([name for name in properties if name not in names][: max(0, least - len(names))])
        names |= dict.fromkeys(self._more_names(schema, names, least - len(names)))
        if len(names) > _MAX_ITEMS:
            raise _NoValueError
        names = list(names)[: max(schema.get("maxProperties", len(names)), len(required))]
        return {name: self.value(_property(schema, properties, name), depth + 1, 0) for name in names}

    def _more_names(self, schema: _Schema, names: Collection[str], count: int) -> list[str]:
        """Names for properties that a schema wants and does not name."""
        if count > _MAX_ITEMS:
            raise _NoValueError
        pattern = next(iter(schema.get("patternProperties", ())), None)
        like = schema.get("propertyNames", {"pattern": pattern} if pattern else {})
        made: list[str] = []
        for number in range(4 * max(0, count)):
            name = self._text(self._flat(cast("_Schema", like) if isinstance(like, dict) else {}), number)
            if len(made) < count and name not in names and name not in made:
                made.append(name)
        return made

    def _array(self, schema: _Schema, depth: int) -> list[Any]:
        before: list[Any] = schema.get("prefixItems", [])
        items: Any = schema.get("items", True)
        if isinstance(items, list):  # before draft 2020-12
            before, items = cast("list[Any]", items), schema.get("additionalItems", True)
        wanted_count = schema.get("minContains", 1) if "contains" in schema else 0
        if max(wanted_count, schema.get("minItems", 0)) > _MAX_ITEMS:
            raise _NoValueError
        wanted: list[Any] = [schema["contains"]] * wanted_count if wanted_count else []
        least = max(schema.get("minItems", 0), len(wanted), 1 if depth < self._size and items is not False else 0)
        least = max(least, len(before) if depth < self._size else 0)
        least = min(least, schema.get("maxItems", least))
        of: list[Any] = [*before, *[{"allOf": [items, want]} for want in wanted]][: max(least, len(wanted))]
        of += [items] * (least - len(of))
        is_set = schema.get("uniqueItems") is True
        return [self.value(each, depth + 1, number if is_set else 0) for number, each in enumerate(of)]

    def _text(self, schema: _Schema, number: int) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", _MAX_TEXT)
        if least > _MAX_TEXT:
            raise _NoValueError
        if options := schema.get("enum"):
            return str(options[number % len(options)])
        if "pattern" in schema:
            try:
                text = text_like(schema["pattern"], more=(0, 1, least)[self._choices.among(3)] + number)
            except UnknownPattern as error:
                raise _NoValueError from error
            return text if schema["pattern"].endswith("$") else f"{text}{number or ''}".ljust(least, "o")
        word = ("demo", "text")[self._choices.among(2)]
        text = _FORMATS.get(str(schema.get("format")), word) + (str(number) if number else "")
        return text.ljust(least, "o")[-int(most) :] if most else ""

    def _number(self, schema: _Schema, number: int, *, is_whole: bool) -> int | float:
        """The first few that come to mind, of those within the bounds."""
        low, high = _bounds(schema)
        step = _fraction(schema["multipleOf"]) if schema.get("multipleOf") else Fraction(1)
        starts = [Fraction(0), low, None if high is None else high - number * step]
        if low is not None and high is not None:
            starts.append((low + high) / 2)
        near = chain.from_iterable(_near(start, step) for start in starts if start is not None)
        exact = starts if "multipleOf" not in schema and not is_whole else []
        fitting = [each for each in chain(near, exact) if each is not None and _is_within(schema, each)]
        fitting = [each for each in dict.fromkeys(fitting) if not is_whole or each.denominator == 1]
        if not fitting:
            raise _NoValueError
        chosen = fitting[self._choices.among(min(len(fitting), 4))] + number * step
        return int(chosen) if chosen.denominator == 1 else float(chosen)


def _merge(flat: _Schema, part: _Schema) -> None:
    """Put the keywords of a schema into another that holds for the same value."""
    for name, given in part.items():
        value: Any = int(given) if name in _COUNTS else given  # 2.0 is an integer, too
        if name not in flat:
            flat[name] = dict(value) if name in _MAPS else value
        elif name in _MAPS:
            ours: _Schema = flat[name]
            ours.update({key: {"allOf": [ours[key], value[key]]} if key in ours else value[key] for key in value})
        elif name == "dependentRequired":
            flat[name] = {key: [*flat[name].get(key, ()), *value.get(key, ())] for key in {**flat[name], **value}}
        elif name == "required":
            flat[name] = [*flat[name], *value]
        elif name == "enum":
            if len(flat[name]) * len(value) > _MAX_COMPARED:
                raise _NoValueError
            flat[name] = [option for option in flat[name] if option in value]
            if not flat[name]:
                raise _NoValueError
        elif name == "type":
            flat[name] = [kind for kind in _listed(flat[name]) if kind in _listed(value)] or ["none"]
        elif name in ("items", "contains", "additionalProperties", "propertyNames"):
            flat[name] = {"allOf": [flat[name], value]}
        elif name in _LARGEST:
            flat[name] = max(flat[name], value)
        elif name in _SMALLEST:
            flat[name] = min(flat[name], value)


def _types(schema: _Schema) -> list[str]:
    """The types that a value may have, the likeliest first."""
    if "type" in schema:
        named = [kind for kind in _listed(schema["type"]) if kind in _TYPES]
        if not named:
            raise _NoValueError
        return sorted(named, key=lambda kind: kind == "null")
    hinted = [kind for kind, keywords in _HINTS.items() if any(name in schema for name in keywords)]
    return list(dict.fromkeys([*hinted, *_TYPES]))


def _listed(kinds: Any) -> list[str]:
    return cast("list[str]", kinds) if isinstance(kinds, list) else [kinds]


def _rank(option: Any) -> int:
    """How soon an alternative is tried."""
    if not isinstance(option, dict):
        return 2
    kind = cast("_Schema", option).get("type")
    if "$ref" in option:
        return 3
    return 1 if kind == "null" else 2 if kind in ("object", "array") else 0


def _property(schema: _Schema, properties: _Schema, name: str) -> Any:
    if name in properties:
        return properties[name]
    patterns: _Schema = schema.get("patternProperties", {})
    return next(iter(patterns.values())) if patterns else schema.get("additionalProperties", True)


def _anchors(schema: Any) -> Iterator[tuple[str, Any]]:
    """The parts of the schema that have an anchor."""
    pending: list[Any] = [schema]
    for part in pending:
        if isinstance(part, dict):
            part = cast("_Schema", part)
            if isinstance(part.get("$anchor"), str):
                yield part["$anchor"], part
            pending += part.values()
        elif isinstance(part, list):
            pending += cast("list[Any]", part)


def _fraction(figure: Any) -> Fraction:
    """Exactly what is written: of a float, the shortest decimal that means it."""
    return Fraction(str(figure))


def _bounds(schema: _Schema) -> tuple[Fraction | None, Fraction | None]:
    """The least and the most that a number may be, exclusive or not."""
    lows = [_fraction(schema[name]) for name in ("minimum", "exclusiveMinimum") if _is_figure(schema.get(name))]
    highs = [_fraction(schema[name]) for name in ("maximum", "exclusiveMaximum") if _is_figure(schema.get(name))]
    return max(lows, default=None), min(highs, default=None)


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(start: Fraction, step: Fraction) -> Iterable[Fraction]:
    """Multiples of the step at and around a number."""
    count = math.ceil(start / step)
    return [(count + more) * step for more in (0, 1, -1, 2)]


def _is_within(schema: _Schema, figure: Fraction) -> bool:
    low, high = _bounds(schema)
    if (low is not None and figure < low) or (high is not None and figure > high):
        return False
    ends: list[Fraction | None] = []
    for bound, name in ((low, "exclusiveMinimum"), (high, "exclusiveMaximum")):
        end = schema.get(name)
        ends.append(bound if end is True else _fraction(end) if _is_figure(end) else None)  # True: draft 4
    return figure not in ends
