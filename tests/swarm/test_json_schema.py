"""JSON schemas of other people's making: what fits, what is said of what does not, what they cannot do to us."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import JsonValue

from swarmstream.json_schema.cost import cost_of_check
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.validator import MAX_NESTING, MAX_SCHEMA_BYTES, compile_schema
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


def test_a_value_that_fits_has_no_violation() -> None:
    assert compile_schema(PERSON).violation({"name": "Ann", "age": 3.0, "kind": "a"}) is None
    assert compile_schema(TREE).violation({"value": 1, "below": [{"value": 2}]}) is None
    assert compile_schema(True).violation("anything") is None


def test_a_violation_names_the_place_and_not_the_value() -> None:
    violation = compile_schema(PERSON).violation({"name": "secret" * 100, "age": "secret", "kind": "secret"})
    assert violation == (
        '"name": it does not match "^[A-Z]"; "age": it is not of type "integer"; "kind": it is not one of "a" or "b"'
    )
    assert compile_schema(PERSON).violation({}) == '"name" is a required property'


def test_only_the_first_violations_are_named_each_cut() -> None:
    violation = compile_schema({"items": {"const": "x" * 5_000}}).violation([1, 2, 3, 4, 5])
    assert violation is not None
    assert violation.endswith("; and 2 more")
    assert len(violation) < 700
    deep = nested({"value": "x"}, 20, lambda below: {"value": 1, "below": [below]})
    assert str(compile_schema(TREE).violation(deep)).endswith('…": it is not of type "integer"')


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
def test_an_unusable_schema_is_refused_with_a_reason(schema: Any, reason: str) -> None:
    with pytest.raises(SchemaError) as refused:
        compile_schema(schema)
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
    assert compile_schema(schema).violation({"x": None}) is None
    assert str(compile_schema(schema).violation({"x": 1})).startswith('"x": it is not of type')


def test_a_later_change_of_a_schema_has_no_effect() -> None:
    schema: dict[str, JsonValue] = {"type": "object"}
    compiled = compile_schema(schema)
    schema["type"] = "string"
    assert compiled.violation({}) is None


@pytest.mark.parametrize(
    "value", ["\ud800", {"a\ud800": 1}, float("nan"), 10**5_000], ids=["text", "key", "nan", "integer"]
)
def test_values_that_are_hardly_json_are_checked_without_an_exception(value: Any) -> None:
    assert compile_schema({"type": "array"}).violation(value)


def test_a_pattern_takes_linear_time() -> None:
    assert compile_schema({"pattern": "^(a+)+$"}).violation("a" * 100_000 + "b")


def test_the_programs_of_many_patterns_share_one_limit() -> None:
    large: JsonValue = {"pattern": "^.{1,1000}$"}
    assert compile_schema(large).violation("x") is None
    with pytest.raises(SchemaError, match="regex"):
        compile_schema({"allOf": [{"pattern": f"^.{{1,1000}}{number}$"} for number in range(50)]})
    many = compile_schema({"allOf": [{"pattern": f"^[a-z]+({number})?$"} for number in range(50)]})
    assert many.violation("abc") is None


def test_no_check_takes_more_steps_than_it_may() -> None:
    wide: Any = {"items": {"anyOf": [{"required": [f"k{number}"]} for number in range(1_000)]}}
    empty: list[JsonValue] = [{}]
    assert compile_schema(wide).violation(empty * 10) == "it does not fit the schema"
    assert compile_schema(wide).violation(empty * 10_000) == "it is too large to be held against this schema"
    numbers: list[JsonValue] = [1] * 100_000
    assert compile_schema({"items": {"type": "integer"}}).violation(numbers) is None


def test_a_schema_that_refers_to_itself_checks_each_part_once() -> None:
    ref: Any = {"$ref": "#/$defs/n"}
    twice: Any = {"properties": {"a": {"allOf": [ref, ref]}}, "additionalProperties": False}
    deep = nested({"b": 1}, 100, lambda value: {"a": value})
    assert compile_schema({"$defs": {"n": twice}, **ref}).violation(deep) == "it does not fit the schema"
    either: Any = {"anyOf": [{"properties": {"a": ref}, "required": [name]} for name in "xyz"]}
    assert compile_schema({"$defs": {"n": either}, **ref}).violation(deep) == "it does not fit the schema"


def test_the_cost_of_a_schema_counts_every_way_to_its_parts() -> None:
    for levels in (3, 6):
        assert cost_of_check(doubling("allOf", levels)) > 2**levels
        assert cost_of_check(doubling("prefixItems", levels)) < 10 * levels  # one way to each part
    assert cost_of_check(PERSON) < 70, "50 of them to compare numbers"


ATTACKS = """
import os
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.validator import compile_schema

def nested(value, wrap):
    for _ in range(200_000):
        value = wrap(value)
    kept.append(value)  # Python itself would overflow while it lets go of it
    return value

kept = []
chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5_000)}
comes_back = {"$defs": {"n": {"properties": {"a": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
for attack in (
    lambda: compile_schema({"type": "object"}).violation(nested({}, lambda value: {"a": value})),
    lambda: compile_schema({"enum": [1]}).violation(nested([], lambda value: [value])),
    lambda: compile_schema(comes_back).violation(nested({}, lambda value: {"a": value})),
    lambda: compile_schema(nested({}, lambda schema: {"properties": {"a": schema}})),
    lambda: compile_schema({"enum": [nested([], lambda value: [value])]}),
    lambda: compile_schema({"$defs": chain, "$ref": "#/$defs/d0"}),
):
    try:
        print(attack(), flush=True)
    except SchemaError as error:
        print(error, flush=True)
os._exit(0)
"""


def test_endless_nesting_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", ATTACKS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr[-500:])
    assert done.stdout.splitlines() == [
        *["it is nested more than 128 deep"] * 5,
        "its parts refer to one another too deeply",
    ]


@pytest.mark.parametrize("value", [{}, {"name": "A"}, {"name": "a"}, {"name": "A", "age": -1}, {"x": 1}, [], "A", None])
def test_our_verdict_is_that_of_another_library(value: Any) -> None:
    compiled: Any = PERSON
    validator: Any = Draft202012Validator(compiled)
    assert (compile_schema(PERSON).violation(value) is None) == validator.is_valid(value)
