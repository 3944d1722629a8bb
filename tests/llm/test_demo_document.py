"""The documents that the demo model makes where an answer is held to a JSON schema."""

import json
import re
import sys
import tracemalloc
from types import FrameType
from typing import Any

import anyio
import pytest

from swarmstream.errors import InvalidOutput
from swarmstream.json_schema.validator import compile_schema
from swarmstream.llm.base import Delta, ModelCall, Sampling
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.demo.document.find import find_document
from swarmstream.llm.providers.demo.document.number import Numbers, bounds
from swarmstream.llm.providers.demo.document.pattern import UnknownPattern, text_like
from swarmstream.llm.providers.demo.document.work import MAX_WORK, NoValueError, Work
from swarmstream.llm.providers.demo.model import DemoModel
from tests.conftest import client, serving

LINKED = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "next": {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]},
        "more": {"type": "array", "items": {"$ref": "#/$defs/link"}},
    },
    "required": ["day", "next", "more"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, tuple[dict[str, Any], object]] = {
    "an object": ({"properties": {"sum": {"type": "integer"}}, "required": ["sum"]}, {"sum": 0}),
    "anything": ({}, "demo"),
    "a constant": ({"const": {"x": [1, None]}}, {"x": [1, None]}),
    "an enum": ({"enum": [None, 3]}, None),
    "several types": ({"type": ["null", "string"], "maxLength": 2}, "mo"),
    "a short text": ({"type": "string", "maxLength": 0}, ""),
    "a long text": ({"type": "string", "minLength": 6}, "demooo"),
    "a format": ({"type": "string", "format": "email"}, "demo@example.com"),
    "a pattern": ({"type": "string", "pattern": r"^[A-Z]{2}\d+$", "minLength": 5}, "AA000000"),
    "between two numbers": ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    "a multiple": ({"type": "integer", "minimum": 10, "maximum": 20, "multipleOf": 7}, 14),
    "hundredths": ({"type": "number", "multipleOf": 0.01, "minimum": 0.005}, 0.01),
    "draft 4": (
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True, "maximum": 4},
        4,
    ),
    "a set": ({"items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True}, ["a", "b", "c"]),
    "a set of objects": (
        {"items": {"properties": {"id": {"type": "integer"}}, "required": ["id"]}, "minItems": 2, "uniqueItems": True},
        [{"id": 0}, {"id": 1}],
    ),
    "a tuple": ({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2}, ["demo", 0]),
    "what a list contains": (
        {"contains": {"const": 5}, "minContains": 2, "items": {"type": "integer"}},
        [5, 5],
    ),
    "names of no list": ({"minProperties": 2, "additionalProperties": {"type": "integer"}}, {"demo": 0, "demo1": 0}),
    "names like a pattern": (
        {"minProperties": 2, "patternProperties": {"^x-": {"type": "null"}}, "additionalProperties": False},
        {"x-": None, "x-1": None},
    ),
    "needed together": (
        {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a"], "dependentRequired": {"a": ["b"]}},
        {"a": 1, "b": 2},
    ),
    "one of several": ({"anyOf": [{"not": {}}, {"type": "integer"}]}, 0),
    "exactly one": ({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 5}]}, 0),
    "all of them": (
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}}},
            ]
        },
        {"a": 5},
    ),
    "not that": ({"type": "string", "not": {"const": "demo"}}, "text"),
    "if and then": (
        {"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": False},
        {"a": "demo", "b": "demo"},
    ),
    "a recursion": (
        {"$ref": "#/$defs/link", "$defs": {"link": LINKED}},
        {"day": "2026-01-01", "next": None, "more": [{"day": "2026-01-01", "next": None, "more": []}]},
    ),
    "a list of equal patterns": (
        {"type": "array", "minItems": 400, "items": {"pattern": "^" + "(a)?" * 50 + "z$"}},
        ["z"] * 400,
    ),
    "many numbers": (
        {"type": "array", "minItems": 400, "items": {"type": "integer", "minimum": 3}, "uniqueItems": True},
        list(range(3, 403)),
    ),
    "names out of an enum": (
        {"minProperties": 2, "propertyNames": {"enum": [1, "a", "b", "c"]}, "additionalProperties": {"const": 1}},
        {"a": 1, "b": 1},
    ),
    "an option of both": ({"allOf": [{"enum": [1, [1], "a"]}, {"enum": [True, [1], "a"]}]}, [1]),
    "a large constant": ({"const": "x" * 15_000}, "x" * 15_000),
    "an anchor": ({"$ref": "#thing", "$defs": {"t": {"$anchor": "thing", "type": "boolean"}}}, True),
    "draft 7": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a b": {"type": "string", "minLength": 2.0}},
            "properties": {"x": {"$ref": "#/definitions/a%20b"}},
            "required": ["x"],
        },
        {"x": "demo"},
    ),
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_document_fits_its_schema(kind: str) -> None:
    schema, expected = SCHEMAS[kind]
    made = find_document(schema)
    assert made is not None
    value = json.loads(made)
    assert value == expected
    assert compile_schema(schema).violation(value) is None


TOO_HARD: list[dict[str, Any]] = [
    {"not": {}},
    {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"},
    {"type": "string", "minLength": 100_000},
    {"type": "array", "minItems": 100_000, "items": {"type": "integer"}},
    {"type": "object", "minProperties": 10**9},
    {"type": "string", "pattern": "(" * 400 + "a" + ")" * 400},
    {"type": "string", "pattern": "^((a{50}){50}){50}$"},
    {"allOf": [{"enum": list(range(1000))}, {"enum": list(range(1000, 2000))}]},
    {"anyOf": [{"type": "integer", "minimum": n, "maximum": n - 1} for n in range(2000)]},
    {"type": "object", "properties": {f"p{n}": {"not": {}} for n in range(900)}, "required": ["p899"]},
]


@pytest.mark.parametrize("schema", TOO_HARD)
def test_the_search_ends_where_no_document_is_found(schema: dict[str, Any]) -> None:
    assert find_document(schema) is None


COSTLY: dict[str, dict[str, Any]] = {
    "names like a long pattern": {
        "type": "object",
        "minProperties": 500,
        "propertyNames": {"pattern": "^" + "(a)?" * 240 + "z$"},
    },
    "lists of numbers between fractions": {
        "not": {"minItems": 1},
        "type": "array",
        "minItems": 490,
        "items": {"minimum": 1.00000000000001e-300, "maximum": 9.1e300, "multipleOf": 7.7e-300, "type": "number"},
    },
    "lists of large constants": {
        "type": "array",
        "minItems": 2,
        "items": {"type": "array", "minItems": 480, "items": {"const": "é" * 120_000}},
    },
    "lists of constants of many parts": {
        "type": "array",
        "minItems": 480,
        "items": {"const": {f"k{n}": None for n in range(2000)}},
    },
    "lists of what has many keywords": {
        "type": "array",
        "minItems": 490,
        "items": {f"x{n}": 1 for n in range(9000)},
    },
    "enums in common": {
        "not": {"minItems": 1},
        "type": "array",
        "minItems": 490,
        "items": {"allOf": [{"enum": [f"v{n}" for n in range(400)]}, {"enum": [f"v{399 - n}" for n in range(400)]}]},
    },
    "names that need others": {
        "not": {"minItems": 1},
        "type": "array",
        "minItems": 300,
        "items": {"type": "object", "required": ["a"], "dependentRequired": {"a": [f"b{n}" for n in range(499)]}},
    },
    "lists that nothing fits": {"not": {"minItems": 1}, "type": "array", "minItems": 490},
    "a check of many steps": {
        "not": {"minItems": 1},
        "type": "array",
        "minItems": 400,
        "items": {"allOf": [{"type": "integer", "minimum": -n} for n in range(150)]},
    },
    "numbers of many digits": {"type": "integer", "minimum": 7 * 10**4000, "multipleOf": 3 * 10**3999 + 1},
}

MAX_MEMORY_BYTES = 10_000_000


class TooManyCalls(BaseException):
    """More than one search may make."""


class Calls:
    """Counts the interpreter's calls, of functions written in Python and in C, and ends what makes too many."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        self.made += event in ("call", "c_call")
        if self.made > MAX_WORK:
            raise TooManyCalls


@pytest.mark.parametrize("kind", COSTLY)
def test_a_search_ends_when_its_work_is_done(kind: str) -> None:
    find_document({})  # what is imported late is not counted
    work, calls = Work(), Calls()
    sys.setprofile(calls)
    try:
        made = find_document(COSTLY[kind], work)
    finally:
        sys.setprofile(None)
    assert made is None
    assert calls.made <= work.steps <= MAX_WORK


@pytest.mark.parametrize("kind", ["lists of large constants", "lists of constants of many parts"])
def test_no_document_is_made_that_is_large(kind: str) -> None:
    find_document({})
    tracemalloc.start()
    try:
        made = find_document(COSTLY[kind])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made is None
    assert peak < MAX_MEMORY_BYTES


def test_work_beyond_the_allowance_is_neither_done_nor_counted() -> None:
    work = Work()
    work.allow(10 * MAX_WORK)
    assert work.left == MAX_WORK
    work.allow(5)
    work.add(5)
    with pytest.raises(NoValueError):
        work.add(1)
    assert (work.steps, work.left) == (5, 0)


@pytest.mark.parametrize(
    ("schema", "number", "is_whole", "expected"),
    [
        ({}, 0, True, [0, 1, -1, 2]),
        ({"minimum": 2.5, "maximum": 4}, 0, True, [3, 4]),
        ({"exclusiveMinimum": 3, "maximum": 5}, 0, False, [4, 5]),
        ({"minimum": 3, "exclusiveMinimum": True}, 0, True, [4, 5, 6]),
        ({"minimum": 1, "maximum": 1}, 0, True, [1]),
        ({"minimum": 1, "exclusiveMaximum": 1}, 0, False, []),
        ({"exclusiveMinimum": 0.25, "maximum": 0.75}, 0, False, ["3/4", "1/2"]),
        ({"maximum": -5}, 2, True, [-7, -6, -8, -5]),
        ({"multipleOf": 0.5, "minimum": 0.4, "maximum": 1}, 0, True, [1]),
        ({"multipleOf": 0.5, "minimum": 0.4, "maximum": 1}, 0, False, ["1/2", 1]),
    ],
)
def test_numbers_are_taken_from_within_the_bounds(
    schema: dict[str, Any], number: int, is_whole: bool, expected: list[object]
) -> None:
    found = Numbers(bounds(schema)).some(number, is_whole=is_whole)
    assert list(map(str, found)) == list(map(str, expected))


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{3}-\d{4}$",
        r"^(red|green)$",
        r"^\+?[0-9]{1,3}\s?\(?\d+\)?$",
        r"^#[0-9a-fA-F]{6}$",
        r"[^a-z]+x",
        r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
        r"^(?:a|b)*c?$",
        r"^(?P<year>\d{4})-\d{2}$",
        r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        r"^[-a]b$",
        r"^[]a]$",
        r"^\\\.\[\]$",
        r"(?i)X{2,3}?",
    ],
)
@pytest.mark.parametrize("more", [0, 3])
def test_a_text_is_like_its_pattern(pattern: str, more: int) -> None:
    assert re.search(pattern, text_like(pattern, more=more))


@pytest.mark.parametrize("pattern", [r"(?=a)", r"\1", r"(", r"a)", r"[a", r"*a", r"a{", r"a{x}", r"\p{L}", "a" * 1001])
def test_other_patterns_are_unknown(pattern: str) -> None:
    with pytest.raises(UnknownPattern):
        text_like(pattern)


@pytest.mark.anyio
async def test_the_demo_keeps_to_a_response_format_or_explains_that_it_cannot() -> None:
    async with serving() as url, client(url) as http:

        async def complete(response_format: dict[str, Any]) -> dict[str, Any]:
            agent = {"agent_name": "A", "model_name": "demo/swarm", "response_format": response_format}
            answer = await http.post("/v1/agent/completions", json={"agent_config": agent, "task": "go"})
            return answer.json()

        with anyio.fail_after(60):
            schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMAS["all of them"][0]}}
            assert json.loads((await complete(schema))["outputs"][0]["content"]) == {"a": 5}
            unstructured = json.loads((await complete({"type": "json_object"}))["outputs"][0]["content"])
            refused = await complete({"type": "string", "minLength": 100_000})
    assert "demo model" in unstructured["answer"]
    assert refused["code"] == "invalid_output"
    assert refused["detail"] == "A: the demo model found no small document that fits this schema; a real one may"


@pytest.mark.anyio
async def test_the_event_loop_does_not_search() -> None:
    schema = COSTLY["names like a long pattern"]
    sampling = Sampling(max_tokens=100, temperature=None, reasoning_effort=None, thinking_tokens=None, llm_args={})
    call = ModelCall(
        ModelRef("demo/swarm", "swarm", "demo"),
        [{"role": "user", "content": "go"}],
        sampling,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )
    deltas: list[Delta] = []
    calls = Calls()
    find_document({})  # what is imported late is not counted
    sys.setprofile(calls)  # of this thread alone
    try:
        with anyio.fail_after(60), pytest.raises(InvalidOutput):
            await DemoModel().stream(call, deltas.extend)
    finally:
        sys.setprofile(None)
    assert calls.made < 10_000
