"""A schema without references and alternatives: one option of each is merged into it."""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from swarmstream.json_schema.size import size_and_depth
from swarmstream.json_schema.validator import MAX_NESTING
from swarmstream.llm.providers.demo.document.choices import Choices
from swarmstream.llm.providers.demo.document.source import Schema, Source
from swarmstream.llm.providers.demo.document.work import A_PART, AN_ENTRY, NoValueError, Work

_A_KEYWORD: Final = 15
"""Steps for a keyword."""
_AN_OPTION: Final = 30
"""Steps for an option that is compared."""

_LARGEST: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
_SMALLEST: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_COUNTS: Final = {name for name in _LARGEST | _SMALLEST if "imum" not in name}
_MAPS: Final = {"properties", "patternProperties"}
_APPLICATORS: Final = ("$ref", "allOf", "anyOf", "oneOf", "if", "then", "else")


def flatten(schema: Schema, source: Source, choices: Choices) -> Schema:
    """Return the schema with its references, and one of its alternatives, put into it.

    Raises:
        NoValueError: no value fits.
    """
    flat: Schema = {}
    pending: list[Any] = [schema]
    while pending:
        source.work.add(A_PART)
        part = pending.pop()
        if part is False:
            raise NoValueError
        if not isinstance(part, dict):
            continue
        part = cast("Schema", part)
        source.work.add(_A_KEYWORD * len(part))
        entries = [cast("Sequence[Any]", value) for value in part.values() if isinstance(value, dict | list)]
        source.work.add(AN_ENTRY * sum(map(len, entries)))
        _merge(flat, {name: value for name, value in part.items() if name not in _APPLICATORS}, source.work)
        if "$ref" in part:
            pending.append(source.resolve(part["$ref"]))
        pending += part.get("allOf", ())
        pending += [_alternative(part[name], source, choices) for name in ("anyOf", "oneOf") if part.get(name)]
        if "if" in part:
            others = ([part["if"], part.get("then", True)], [part.get("else", True)])
            pending += others[choices.choose(2)]
    return flat


def _alternative(options: Sequence[Any], source: Source, choices: Choices) -> Any:
    """Choose an option, first those that are sure to end: a reference may lead back."""
    source.work.add(_AN_OPTION * len(options))
    ordered = sorted(options, key=_rank)
    return ordered[choices.choose(len(ordered))]


def _merge(flat: Schema, part: Schema, work: Work) -> None:
    """Merge the keywords of a schema into another one that applies to the same value."""
    for name, keyword in part.items():
        value: Any = int(keyword) if name in _COUNTS else keyword  # 2.0 is an integer, too
        if name not in flat:
            flat[name] = dict(value) if name in _MAPS else value
        elif name in _MAPS:
            ours: Schema = flat[name]
            ours.update({key: {"allOf": [ours[key], value[key]]} if key in ours else value[key] for key in value})
        elif name == "dependentRequired":
            work.add(AN_ENTRY * sum(1 + len(needed) for each in (flat[name], value) for needed in each.values()))
            flat[name] = {key: [*flat[name].get(key, ()), *value.get(key, ())] for key in {**flat[name], **value}}
        elif name == "required":
            work.add(AN_ENTRY * (len(flat[name]) + len(value)))
            flat[name] = list(dict.fromkeys([*flat[name], *value]))
        elif name == "enum":
            flat[name] = _common(flat[name], value, work)
        elif name == "type":
            flat[name] = [kind for kind in listed(flat[name]) if kind in listed(value)] or ["none"]
        elif name in ("items", "contains", "additionalProperties", "propertyNames"):
            flat[name] = {"allOf": [flat[name], value]}
        elif name in _LARGEST:
            flat[name] = max(flat[name], value)
        elif name in _SMALLEST:
            flat[name] = min(flat[name], value)


def _common(ours: Sequence[Any], theirs: Sequence[Any], work: Work) -> list[Any]:
    """Return the options that are in both lists."""
    known = {_identity(option, work) for option in theirs}
    common = [option for option in ours if _identity(option, work) in known]
    if not common:
        raise NoValueError
    return common


def _identity(option: Any, work: Work) -> object:
    """Return a key that is equal for equal options, and quick to compare."""
    size, _ = size_and_depth(option, size_limit=work.left // _AN_OPTION, depth_limit=MAX_NESTING)
    work.add(_AN_OPTION * size)
    is_scalar = not isinstance(option, list | dict)
    return (isinstance(option, bool), option) if is_scalar else json.dumps(option, sort_keys=True)


def listed(kinds: Any) -> list[str]:
    """Return the value of `type` as a list."""
    return cast("list[str]", kinds) if isinstance(kinds, list) else [kinds]


def _rank(option: Any) -> int:
    """Return the place of an alternative among others: scalars first, references last."""
    if not isinstance(option, dict):
        return 2
    kind = cast("Schema", option).get("type")
    if "$ref" in option:
        return 3
    return 1 if kind == "null" else 2 if kind in ("object", "array") else 0
