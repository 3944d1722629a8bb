"""JSON schemas of other people's making: what fits, what is said of what does not, what they cannot do to us."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import JsonValue

from swarmstream.json_schema.cost import Scale
from swarmstream.json_schema.validator import MAX_NESTING, MAX_SCHEMA_BYTES, SchemaError, compiled
from tests.conftest import ROOT

PERSON: JsonValue = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}
TREE: JsonValue = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "below": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/node",
}


def nested(value: Any, depth: int, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        value = wrap(value)
    return value


def doubling(keyword: str, levels: int) -> dict[str, Any]:
    """A schema of a few lines that asks for 2**levels steps."""
    ref = "#/$defs/d{}".format
    definitions: dict[str, Any] = {
        f"d{level}": {keyword: [{"$ref": ref(level + 1)}, {"$ref": ref(level + 1)}]} for level in range(levels)
    }
    return {"$defs": {**definitions, f"d{levels}": {"type": "integer"}}, "$ref": ref(0)}


def test_what_fits_has_no_complaint() -> None:
    assert compiled(PERSON).complaint({"name": "Ann", "age": 3.0, "kind": "a"}) is None
    assert compiled(TREE).complaint({"value": 1, "below": [{"value": 2}]}) is None
    assert compiled(True).complaint("anything") is None


def test_what_does_not_fit_is_told_with_its_place_and_without_the_value() -> None:
    complaint = compiled(PERSON).complaint({"name": "secret" * 100, "age": "secret", "kind": "secret"})
    assert complaint == (
        '"name": it does not match "^[A-Z]"; "age": it is not of type "integer"; "kind": it is not one of "a" or "b"'
    )
    assert compiled(PERSON).complaint({}) == '"name" is a required property'


def test_only_the_first_problems_are_told_and_none_at_length() -> None:
    complaint = compiled({"items": {"const": "x" * 5_000}}).complaint([1, 2, 3, 4, 5])
    assert complaint is not None
    assert complaint.endswith("; and 2 more")
    assert len(complaint) < 700
    deep = nested({"value": "x"}, 20, lambda below: {"value": 1, "below": [below]})
    assert str(compiled(TREE).complaint(deep)).endswith('…": it is not of type "integer"')


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (12, "is an object or a boolean"),
        ([], "is an object or a boolean"),
        ({"type": "strin"}, '"type": it is not valid under any of the schemas'),
        ({"properties": []}, '"properties": it is not of type "object"'),
        ({"$schema": "http://elsewhere/"}, "Unknown meta-schema"),
        ({"pattern": "("}, '"pattern": it is not a "regex"'),
        ({"pattern": "(?=a)b"}, '"pattern": it is not a "regex"'),
        ({"$ref": "#/$defs/nothing"}, '"#/$defs/nothing" refers to nothing'),
        ({"$ref": "#nothing"}, '"#nothing" refers to nothing'),
        ({"$ref": "http://10.0.0.1/x"}, "refers to something outside the schema"),
        ({"$ref": "file:///etc/passwd"}, "refers to something outside the schema"),
        ({"properties": {"a": {"$id": "http://x/", "$ref": "#/b"}}}, "$id can only stand at its top"),
        ({"$dynamicRef": "#a"}, "$dynamicRef is not supported"),
        ({"enum": ["\ud800"]}, "it is not JSON"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "it is larger than 256 kB"),
        (nested({}, MAX_NESTING + 1, lambda schema: {"not": schema}), "it is nested more than 128 deep"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "without end"),
        ({"properties": {"a": {"$ref": "#"}}, "unevaluatedProperties": False}, "in a schema that refers to itself"),
        (doubling("allOf", 40), "so often that a check would take too long"),
        (doubling("anyOf", 40), "so often that a check would take too long"),
        (doubling("prefixItems", 200), "refer to one another too deeply"),
    ],
)
def test_what_is_no_schema_that_we_can_use_is_refused_with_a_reason(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaError) as refused:
        compiled(schema)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a%b/c~": {"type": "null"}}, "properties": {"x": {"$ref": "#/$defs/a%25b~1c~0"}}},
        {"$defs": {"a": {"$anchor": "here", "type": "null"}}, "properties": {"x": {"$ref": "#here"}}},
        {"allOf": [{"type": "object"}], "properties": {"y": {"type": "null"}, "x": {"$ref": "#/properties/y"}}},
        {"properties": {"x": {"$ref": "#/anyOf/1"}}, "anyOf": [True, {"type": ["null", "object"]}]},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {"type": "null"}},
            "properties": {"x": {"$ref": "#/definitions/a"}},
        },
        {"$id": "http://example.com/s", "$defs": {"a": {"type": "null"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
        {"properties": {"x": {"type": "null"}, "$id": {"type": "string"}}},
    ],
)
def test_references_within_a_schema_are_followed(schema: Any) -> None:
    assert compiled(schema).complaint({"x": None}) is None
    assert str(compiled(schema).complaint({"x": 1})).startswith('"x": it is not of type')


def test_a_schema_that_is_changed_later_is_not_changed_for_us() -> None:
    schema: dict[str, JsonValue] = {"type": "object"}
    its = compiled(schema)
    schema["type"] = "string"
    assert its.complaint({}) is None


@pytest.mark.parametrize(
    "value", ["\ud800", {"a\ud800": 1}, float("nan"), 10**5_000], ids=["text", "key", "nan", "integer"]
)
def test_values_that_are_hardly_json_are_judged_without_an_exception(value: Any) -> None:
    assert compiled({"type": "array"}).complaint(value)


def test_a_pattern_takes_linear_time() -> None:
    assert compiled({"pattern": "^(a+)+$"}).complaint("a" * 100_000 + "b")


def test_the_programs_of_many_patterns_share_one_limit() -> None:
    large: JsonValue = {"pattern": "^.{1,1000}$"}
    assert compiled(large).complaint("x") is None
    with pytest.raises(SchemaError, match="regex"):
        compiled({"allOf": [{"pattern": f"^.{{1,1000}}{number}$"} for number in range(50)]})
    many = compiled({"allOf": [{"pattern": f"^[a-z]+({number})?$"} for number in range(50)]})
    assert many.complaint("abc") is None


def test_no_check_takes_more_steps_than_it_may() -> None:
    wide: Any = {"items": {"anyOf": [{"required": [f"k{number}"]} for number in range(1_000)]}}
    empty: list[JsonValue] = [{}]
    assert compiled(wide).complaint(empty * 10) == "it does not fit the schema"
    assert compiled(wide).complaint(empty * 10_000) == "it is too large to be held against this schema"
    numbers: list[JsonValue] = [1] * 100_000
    assert compiled({"items": {"type": "integer"}}).complaint(numbers) is None


def test_what_was_found_of_a_part_is_remembered_where_a_schema_comes_back_to_itself() -> None:
    ref: Any = {"$ref": "#/$defs/n"}
    twice: Any = {"properties": {"a": {"allOf": [ref, ref]}}, "additionalProperties": False}
    deep = nested({"b": 1}, 100, lambda value: {"a": value})
    assert compiled({"$defs": {"n": twice}, **ref}).complaint(deep) == "it does not fit the schema"
    either: Any = {"anyOf": [{"properties": {"a": ref}, "required": [name]} for name in "xyz"]}
    assert compiled({"$defs": {"n": either}, **ref}).complaint(deep) == "it does not fit the schema"


def test_the_weight_of_a_schema_counts_every_way_to_its_parts() -> None:
    for levels in (3, 6):
        assert Scale(doubling("allOf", levels)).weight() > 2**levels
        assert Scale(doubling("prefixItems", levels)).weight() < 10 * levels  # one way to each part
    assert Scale(PERSON).weight() < 70, "50 of them to compare numbers"


ATTACKS = """
import os
from swarmstream.json_schema.validator import SchemaError, compiled

def nested(value, wrap):
    for _ in range(200_000):
        value = wrap(value)
    kept.append(value)  # Python itself would overflow while it lets go of it
    return value

kept = []
chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5_000)}
comes_back = {"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
for attack in (
    lambda: compiled({"type": "object"}).complaint(nested({}, lambda value: {"a": value})),
    lambda: compiled({"enum": [1]}).complaint(nested([], lambda value: [value])),
    lambda: compiled(comes_back).complaint(nested({}, lambda value: {"a": value})),
    lambda: compiled(nested({}, lambda schema: {"properties": {"a": schema}})),
    lambda: compiled({"enum": [nested([], lambda value: [value])]}),
    lambda: compiled({"$defs": chain, "$ref": "#/$defs/d0"}),
):
    try:
        print(attack(), flush=True)
    except SchemaError as error:
        print(error, flush=True)
os._exit(0)
"""


def test_what_is_nested_without_end_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", ATTACKS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr[-500:])
    assert done.stdout.splitlines() == [
        *["it is nested more than 128 deep"] * 5,
        "its parts refer to one another too deeply",
    ]


@pytest.mark.parametrize("value", [{}, {"name": "A"}, {"name": "a"}, {"name": "A", "age": -1}, {"x": 1}, [], "A", None])
def test_our_verdict_is_that_of_another_library(value: Any) -> None:
    its: Any = PERSON
    validator: Any = Draft202012Validator(its)
    assert (compiled(PERSON).complaint(value) is None) == validator.is_valid(value)
