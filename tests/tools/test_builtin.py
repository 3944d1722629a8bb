"""The built-in clock and the built-in JSON query."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmstream.tools.builtin.offered import clock, query_json
from tests.tools.functions import failure, value_or_failure

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("timezone", "name"), [("UTC", "UTC"), ("Asia/Kathmandu", "UTC+05:45")])
def test_the_clock_tells_the_time_with_its_offset(timezone: str, name: str) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    error = datetime.fromisoformat(clock(timezone))
    assert before <= error <= datetime.now().astimezone()
    assert error.tzname() == name


@pytest.mark.parametrize(
    "timezone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "America", "a\x00b", "x" * 9000]
)
async def test_an_unknown_time_zone_is_a_failure(timezone: str) -> None:
    assert "is no time zone that is known here" in await failure(clock, {"timezone": timezone})


DOCUMENT = {
    "": 0,
    "~1": "tilde",
    "a/b": 1,
    "m~n": 2,
    "orders": [{"id": 7, "tags": ["x"]}],
    "$ref": 3,
    "a": {"0": "zero"},
    "é": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DOCUMENT),
        ("$", DOCUMENT),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("/~01", "tilde"),
        ("/orders/0/id", 7),
        ("orders[0].tags[0]", "x"),
        ("orders.0.id", 7),
        ("$.orders[0].id", 7),
        ("$ref", 3),
        ("a.0", "zero"),
        ("é", None),
    ],
)
def test_a_query_finds_the_value_at_its_path(path: str, value: Any) -> None:
    assert json.loads(query_json(json.dumps(DOCUMENT), path)) == value


def test_the_answer_to_a_query_is_json_for_every_kind_of_value() -> None:
    assert query_json("[1e999]", "0") == '"Infinity"'


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nothing", 'there is no "nothing"; the object there has "", "~1", "a/b", "m~n", "orders" and 3 more'),
        ("/orders/1", 'there is no item "1"; the array there has 1 items, from 0'),
        ("/orders/-", 'there is no item "-"'),
        ("/orders/00", 'there is no item "00"'),
        ("/orders/٠", 'there is no item "٠"'),
        ("/orders/0/id/x", 'there is no "x"; the value there is neither an object nor an array'),
        ("/m~2n", "the path is no JSON Pointer: after ~ comes 0 or 1"),
        ("orders[", 'the path cannot be read: write "/orders/0/id" or "orders[0].id"'),
        ("orders..id", "the path cannot be read"),
        ("a." * 501, "the path is longer than 1,000 characters"),
    ],
)
async def test_a_query_names_the_error_in_its_path(path: str, error: str) -> None:
    assert (await failure(query_json, {"document": json.dumps(DOCUMENT), "path": path})).startswith(error)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("{", "the document is not valid JSON: EOF"),
        ("[" * 1000, "the document is not valid JSON: recursion limit exceeded"),
        ('"' + "ä" * 131_072 + '"', "the document is larger than 256 kB"),
    ],
)
async def test_a_query_names_the_error_in_its_document(document: str, error: str) -> None:
    assert (await failure(query_json, {"document": document, "path": ""})).startswith(error)


@given(st.text(), st.text(st.sampled_from("$.[]/~01a")))
@settings(deadline=None, max_examples=100)
@example("\ud800", "")
def test_every_query_yields_a_value_or_a_tool_error(document: str, path: str) -> None:
    for text in (document, '{"a":[[1,{"$":0}]]}'):
        json.loads(value_or_failure(query_json, text, path, failed="null"))
