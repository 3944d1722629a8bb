"""The promises of the wire contract and the tests that show them: none stands without the other (docs/wire.md)."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "docs" / "wire.md"
_PROMISE = re.compile(r"\*\*(W-\d+)\b")


def promises() -> list[str]:
    """The numbers of all promises, in the contract's order."""
    return _PROMISE.findall(CONTRACT.read_text(encoding="utf-8"))


def marks(source: str) -> Iterator[tuple[str, str]]:
    """The promises that tests of a module are marked with, each with the name of its test."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.promise":
                    yield from ((ast.literal_eval(promise), node.name) for promise in mark.args)


def shown() -> dict[str, list[str]]:
    """The tests that show each promise, as `file::test`."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        source = file.read_text(encoding="utf-8")
        if "mark.promise" in source:
            for promise, test in marks(source):
                found.setdefault(promise, []).append(f"{file.relative_to(ROOT)}::{test}")
    return found


def test_every_promise_is_shown_by_a_test() -> None:
    without = set(promises()) - shown().keys()
    assert not without, "promises of docs/wire.md that no test is marked with"


def test_every_mark_names_a_promise() -> None:
    known = set(promises())
    unknown = {promise: tests for promise, tests in shown().items() if promise not in known}
    assert not unknown, "marks of what docs/wire.md does not promise"


def test_a_promise_has_a_number_of_its_own() -> None:
    numbers = promises()
    assert [number for number, times in Counter(numbers).items() if times > 1] == []
    assert len(numbers) >= 60


def test_marks_of_several_promises_are_all_found() -> None:
    source = '@pytest.mark.promise("W-1", "W-2")\n@pytest.mark.anyio\nasync def test_both() -> None: ...'
    assert list(marks(source)) == [("W-1", "test_both"), ("W-2", "test_both")]


@pytest.mark.parametrize("text", ["**W-1** Keys", "**W-1 Keys**: …", "in a cell | **W-1** `job_id` |"])
def test_a_promise_is_found_wherever_it_stands(text: str) -> None:
    assert _PROMISE.findall(text) == ["W-1"]
