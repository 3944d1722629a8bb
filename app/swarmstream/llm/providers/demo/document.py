"""Small documents that fit a JSON schema, for a model that makes nothing up.

A schema is read from its root down and each part is given the simplest value that its keywords admit. Where there is a
choice (a branch of `anyOf`, a type, whether optional properties are there) the first is taken; the whole document is
then held against the schema, and as long as it does not fit, the last choice that has another option takes it.

The documents that are tried get smaller. Whatever takes longer the more of it a schema has (parts, keywords, options,
characters of patterns, constants, the check itself) is counted in steps before it is done, and all of it together ends
after `MAX_WORK`. The characters of a document are counted likewise, so that none is written that is too large.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote

from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.size import size_and_depth
from swarmstream.json_schema.validator import MAX_NESTING, compile_schema
from swarmstream.llm.providers.demo.number import Bounds, Numbers, bounds
from swarmstream.llm.providers.demo.pattern import UnknownPattern, text_like
from swarmstream.llm.providers.demo.work import MAX_WORK, NoValueError, Work

_TRIES: Final = 32
"""Documents of each size."""
_SIZES: Final = (3, 1, 0)
"""How many levels have their optional properties and an item in each list, in the order that is tried."""
_MAX_WORK_OF_A_TRY: Final = MAX_WORK // 4
_MAX_CHARACTERS: Final = 150_000
"""Of one document. Each is up to six bytes when it is written (`\\u00e9`)."""
_MAX_ITEMS: Final = 500
"""Of one list or object."""
_MAX_DEPTH: Final = 32
_MAX_TEXT: Final = 2000

# Steps, as measured: a few dozen nanoseconds each.
_A_PART: Final = 100
_A_KEYWORD: Final = 15
_AN_ENTRY: Final = 3
"""Of a list or a mapping, that is copied or passed over."""
_AN_OPTION: Final = 30
"""That is compared."""
_A_CONSTANT: Final = 10
"""For each part of it."""
_A_CHARACTER: Final = 40
"""Of a pattern, that is read."""
_A_TEXT: Final = 50
_BOUNDS: Final = 1500
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
_LARGEST: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
_SMALLEST: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_COUNTS: Final = {name for name in _LARGEST | _SMALLEST if "imum" not in name}
_MAPS: Final = {"properties", "patternProperties"}
_APPLICATORS: Final = ("$ref", "allOf", "anyOf", "oneOf", "if", "then", "else")

_Schema = dict[str, Any]


def document(schema: _Schema, work: Work | None = None) -> str | None:
    """JSON text of a document that fits; None where none was found. `work` counts what the search took."""
    try:
        check = compile_schema(schema)
    except SchemaError:
        return None
    work = work or Work()
    source = _Source(schema, work)
    for place, size in enumerate(_SIZES, 1):
        share = MAX_WORK * place // len(_SIZES)  # what larger documents leave is for the smaller ones
        choices = _Choices()
        for _ in range(_TRIES):
            choices.restart()
            work.allow(min(share, work.steps + _MAX_WORK_OF_A_TRY))
            try:
                value = _Maker(source, choices, size).value(schema, 0, 0)
                work.allow(share)
                does_fit, taken = check.fits(value, work.left)
                work.add(taken)  # which is too many only where nothing was checked
                if does_fit:
                    return json.dumps(value)
            except (NoValueError, ValueError, OverflowError):
                pass
            if not choices.advance():
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


class _Source:
    """The schema, with what has been found out about it: the same for every try."""

    def __init__(self, root: _Schema, work: Work) -> None:
        self.work = work
        self._root = root
        self._anchors: _Schema | None = None
        self._referred: _Schema = {}
        self._texts: dict[tuple[str, int], str | None] = {}
        self._numbers: dict[Bounds, Numbers] = {}

    def referred(self, reference: object) -> Any:
        """What a reference within the schema leads to: a JSON pointer (RFC 6901) or an anchor."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise NoValueError
        if reference not in self._referred:
            self.work.add(_A_PART + _AN_ENTRY * len(reference))
            self._referred[reference] = self._found(unquote(reference[1:]))
        return self._referred[reference]

    def text(self, pattern: str, more: int) -> str:
        """One that is like the pattern."""
        if (pattern, more) not in self._texts:
            self.work.add(_A_CHARACTER * len(pattern))
            try:
                self._texts[pattern, more] = text_like(pattern, more=more)
            except UnknownPattern:
                self._texts[pattern, more] = None
        text = self._texts[pattern, more]
        if text is None:
            raise NoValueError
        return text

    def numbers(self, schema: _Schema) -> Numbers:
        """Those that the schema admits."""
        within = bounds(schema)
        if within not in self._numbers:
            self.work.add(_BOUNDS)
            self._numbers[within] = Numbers(within)
        return self._numbers[within]

    def _found(self, fragment: str) -> Any:
        if fragment and not fragment.startswith("/"):
            if self._anchors is None:
                self._anchors = dict(_anchors(self._root, self.work))
            if fragment not in self._anchors:
                raise NoValueError
            return self._anchors[fragment]
        found: Any = self._root
        for step in fragment.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and int(step) < len(cast("list[Any]", found)):
                found = cast("list[Any]", found)[int(step)]
            elif isinstance(found, dict) and step in found:
                found = cast("_Schema", found)[step]
            else:
                raise NoValueError
        return found


class _Maker:
    """One try."""

    def __init__(self, source: _Source, choices: _Choices, size: int) -> None:
        self._source = source
        self._work = source.work
        self._choices = choices
        self._size = size
        self._characters = 0
        """Of the document so far."""

    def value(self, schema: Any, depth: int, number: int) -> Any:
        """A value for this part; `number` tells the items of a list apart."""
        self._work.add(_A_PART)
        self._write(0)
        if schema is False or depth > _MAX_DEPTH:
            raise NoValueError
        schema = self._flat({} if schema is True else cast("_Schema", schema))
        if "const" in schema:
            return self._constant(schema["const"])
        if options := schema.get("enum"):
            return self._constant(options[(self._choices.among(len(options)) + number) % len(options)])
        types = _types(schema)
        match types[self._choices.among(len(types))]:
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
                return (self._choices.among(2) + number) % 2 == 0
            case _:
                return None

    def _write(self, characters: int) -> None:
        """A part of the document that has so many, beside quotes, commas and brackets."""
        self._characters += characters + 2
        if self._characters > _MAX_CHARACTERS:
            raise NoValueError

    def _constant(self, value: Any) -> Any:
        """A part of the document that is as the schema has it, once it is known to be small enough."""
        pending: list[Any] = [value]
        while pending:
            self._work.add(_A_CONSTANT)
            part = pending.pop()
            if isinstance(part, dict):
                part = cast("_Schema", part)
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

    def _flat(self, schema: _Schema) -> _Schema:
        """The schema with what it refers to, and one of its alternatives, put into it."""
        flat: _Schema = {}
        pending: list[Any] = [schema]
        while pending:
            self._work.add(_A_PART)
            part = pending.pop()
            if part is False:
                raise NoValueError
            if not isinstance(part, dict):
                continue
            part = cast("_Schema", part)
            self._work.add(_A_KEYWORD * len(part))
            entries = [cast("Sequence[Any]", value) for value in part.values() if isinstance(value, dict | list)]
            self._work.add(_AN_ENTRY * sum(map(len, entries)))
            _merge(flat, {name: value for name, value in part.items() if name not in _APPLICATORS}, self._work)
            if "$ref" in part:
                pending.append(self._source.referred(part["$ref"]))
            pending += part.get("allOf", ())
            pending += [self._alternative(part[name]) for name in ("anyOf", "oneOf") if part.get(name)]
            if "if" in part:
                others = ([part["if"], part.get("then", True)], [part.get("else", True)])
                pending += others[self._choices.among(2)]
        return flat

    def _alternative(self, options: Sequence[Any]) -> Any:
        """One of them, first those that are sure to end: what refers to something else may come back."""
        self._work.add(_AN_OPTION * len(options))
        ordered = sorted(options, key=_rank)
        return ordered[self._choices.among(len(ordered))]

    def _object(self, schema: _Schema, depth: int) -> _Schema:
        properties: _Schema = schema.get("properties", {})
        required: list[str] = schema.get("required", [])
        names = dict.fromkeys(required)
        if depth < self._size:
            names |= dict.fromkeys(name for name, of in properties.items() if of is not False)
        needed: _Schema = schema.get("dependentRequired", {})
        for name in [name for name in names if name in needed]:
            self._work.add(_AN_ENTRY * (1 + len(needed[name])))
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

    def _more_names(self, schema: _Schema, names: Collection[str], count: int) -> list[str]:
        """Names for properties that a schema wants and does not name."""
        if count > _MAX_ITEMS:
            raise NoValueError
        if count <= 0:
            return []
        pattern = next(iter(schema.get("patternProperties", ())), None)
        like: Any = schema.get("propertyNames", {"pattern": pattern} if pattern else {})
        flat = self._flat(cast("_Schema", like) if isinstance(like, dict) else {})
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

    def _array(self, schema: _Schema, depth: int) -> list[Any]:
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

    def _text(self, schema: _Schema, number: int) -> str:
        self._work.add(_A_TEXT)
        least, most = schema.get("minLength", 0), schema.get("maxLength", _MAX_TEXT)
        if least > _MAX_TEXT:
            raise NoValueError
        if "pattern" in schema:
            text = self._source.text(schema["pattern"], (0, 1, least)[self._choices.among(3)] + number)
            return text if schema["pattern"].endswith("$") else f"{text}{number or ''}".ljust(least, "o")
        word = ("demo", "text")[self._choices.among(2)]
        text = _FORMATS.get(str(schema.get("format")), word) + (str(number) if number else "")
        return text.ljust(least, "o")[-int(most) :] if most else ""

    def _number(self, schema: _Schema, number: int, *, is_whole: bool) -> int | float:
        self._work.add(_A_NUMBER)
        numbers = self._source.numbers(schema)
        fitting = numbers.some(number, is_whole=is_whole)
        if not fitting:
            raise NoValueError
        chosen = fitting[self._choices.among(len(fitting))] + number * numbers.step
        figure = int(chosen) if chosen.denominator == 1 else float(chosen)
        self._write(_length(figure))
        return figure


def _merge(flat: _Schema, part: _Schema, work: Work) -> None:
    """Put the keywords of a schema into another that holds for the same value."""
    for name, given in part.items():
        value: Any = int(given) if name in _COUNTS else given  # 2.0 is an integer, too
        if name not in flat:
            flat[name] = dict(value) if name in _MAPS else value
        elif name in _MAPS:
            ours: _Schema = flat[name]
            ours.update({key: {"allOf": [ours[key], value[key]]} if key in ours else value[key] for key in value})
        elif name == "dependentRequired":
            work.add(_AN_ENTRY * sum(1 + len(needed) for each in (flat[name], value) for needed in each.values()))
            flat[name] = {key: [*flat[name].get(key, ()), *value.get(key, ())] for key in {**flat[name], **value}}
        elif name == "required":
            work.add(_AN_ENTRY * (len(flat[name]) + len(value)))
            flat[name] = list(dict.fromkeys([*flat[name], *value]))
        elif name == "enum":
            flat[name] = _common(flat[name], value, work)
        elif name == "type":
            flat[name] = [kind for kind in _listed(flat[name]) if kind in _listed(value)] or ["none"]
        elif name in ("items", "contains", "additionalProperties", "propertyNames"):
            flat[name] = {"allOf": [flat[name], value]}
        elif name in _LARGEST:
            flat[name] = max(flat[name], value)
        elif name in _SMALLEST:
            flat[name] = min(flat[name], value)


def _common(ours: Sequence[Any], theirs: Sequence[Any], work: Work) -> list[Any]:
    """The options of both."""
    known = {_identity(option, work) for option in theirs}
    common = [option for option in ours if _identity(option, work) in known]
    if not common:
        raise NoValueError
    return common


def _identity(option: Any, work: Work) -> object:
    """Equal for options that are, and quick to compare."""
    size, _ = size_and_depth(option, size_limit=work.left // _AN_OPTION, depth_limit=MAX_NESTING)
    work.add(_AN_OPTION * size)
    is_scalar = not isinstance(option, list | dict)
    return (isinstance(option, bool), option) if is_scalar else json.dumps(option, sort_keys=True)


def _length(value: object) -> int:
    """Characters of a figure or a text, about; 0 of what has parts."""
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


def _types(schema: _Schema) -> list[str]:
    """The types that a value may have, the likeliest first."""
    if "type" in schema:
        named = [kind for kind in _listed(schema["type"]) if kind in _TYPES]
        if not named:
            raise NoValueError
        return sorted(named, key=lambda kind: kind == "null")
    hinted = [kind for kind, keywords in _HINTS.items() if not keywords.isdisjoint(schema)]
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


def _anchors(schema: Any, work: Work) -> Iterator[tuple[str, Any]]:
    """The parts of the schema that have an anchor."""
    pending: list[Any] = [schema]
    for part in pending:
        work.add(_AN_ENTRY)
        if isinstance(part, dict):
            part = cast("_Schema", part)
            if isinstance(part.get("$anchor"), str):
                yield part["$anchor"], part
            pending += part.values()
        elif isinstance(part, list):
            pending += cast("list[Any]", part)
