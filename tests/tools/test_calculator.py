"""The built-in calculator agrees with Python, at a bounded cost."""

import math
import warnings
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmstream.tools.builtin.arithmetic import MAX_BITS, calculate
from swarmstream.tools.builtin.offered import calculator
from swarmstream.tools.errors import ToolError
from tests.tools.functions import failure, value_or_failure

pytestmark = pytest.mark.anyio


PIECES = [*"0123456789.,+-*/%() _ej", "**", "//", "max(", "round(", "9**9", " if ", "é"]
OF_ONE = ["sqrt", "abs", "round", "log", "log10", "sin", "cos", "tan", "floor", "ceil"]
LITERALS = st.integers(0, 10**6).map(str) | st.floats(1e-3, 1e6).map(repr) | st.sampled_from(["pi", "e"])
FUNCTIONS: dict[str, Any] = {
    name: getattr(math, name)
    for name in ("sqrt", "log", "log10", "exp", "sin", "cos", "tan", "floor", "ceil", "pi", "e")
} | {"abs": abs, "round": round, "min": min, "max": max, "__builtins__": {}}
EXPRESSIONS = st.recursive(
    LITERALS | st.builds("{}**{}".format, LITERALS, st.integers(-3, 3)),
    lambda inner: (
        st.builds("{}{}{}".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%", " + "]), inner)
        | st.builds("({})".format, inner)
        | st.builds("{}{}".format, st.sampled_from("+-"), inner)
        | st.builds("{}({})".format, st.sampled_from(OF_ONE), inner)
        | st.builds("{}({},{})".format, st.sampled_from(["min", "max", "log"]), inner, inner)
        | st.builds("round({},{})".format, inner, st.integers(-9, 9))
    ),
    max_leaves=8,
)


def by_python(expression: str) -> str:
    try:
        value = eval(expression, dict(FUNCTIONS))
    except (ArithmeticError, ValueError):
        return "no value"
    return str(value) if math.isfinite(value) else "no value"


def by_us(expression: str) -> str:
    try:
        return calculator(expression)
    except ToolError:
        return "no value"


@given(EXPRESSIONS)
@settings(deadline=None, max_examples=150)
def test_the_calculator_has_the_values_that_python_has(expression: str) -> None:
    assert by_us(expression) == by_python(expression)


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
@settings(deadline=None, max_examples=200)
@example("9**9**9")
@example("2**2**100")
@example("2**-9**9**9")
@example("9999999999**9999999999")
@example("*".join(["9**999"] * 100))
@example("round(1, -10**9)")
@example("round(1, 0-9**300)")
@example("1e308*1e308 - 1e308*1e308")
@example("(-8)**0.5")
@example("10**400*1.5")
@example("(1).__class__")
@example("().__class__.__bases__[0]")
@example("__import__('os')")
@example("max(1, key=abs)")
@example("max(*1)")
@example("'a'*10**9")
@example("True")
@example("1if 1else 2")
@example("١+١")
@example("1\x00+1")
@example("\ud800")
@example("1" * 10_000)
@example("0x" + "f" * 998)
@example("(" * 500 + "1" + ")" * 499)
@example("-" * 999 + "1")
@example("max(" * 200 + "1 1")
@example("1" + "**1" * 300)
def test_every_expression_yields_a_value_or_a_tool_error(expression: str) -> None:
    assert abs(value_or_failure(calculate, expression)) < math.inf


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("9**9**9", "a number on the way is too large"),
        ("1e999", "a number on the way is too large"),
        ("1/0", "division by zero"),
        ("sqrt(-1)", "a function has no real value for that argument"),
        ("(-8)**0.5", "the expression has no real value"),
        ("(1).__class__", "only numbers, + - * / // % **, parentheses, constants and functions can be used"),
        ("True", "only numbers"),
        ("'a'", '"\'" cannot stand in an expression'),
        ("2^8", '"^" cannot stand in an expression; powers are written **'),
        ("open(1)", '"open" is no function; there are sqrt, abs, '),
        ("x + 1", '"x" is not known; there are pi, e'),
        ("1 +", "the expression cannot be read"),
        ("", "the expression is empty"),
        ("log()", "log takes 1 or 2 numbers, not 0"),
        ("1" * 1001, "the expression is longer than 1,000 characters"),
        ("(" * 51 + "1" + ")" * 51, "the expression is nested more than 50 deep"),
        ("-" * 51 + "1", "the expression is nested more than 50 deep"),
    ],
)
async def test_the_calculator_names_the_error(expression: str, error: str) -> None:
    assert (await failure(calculator, {"expression": expression})).startswith(error)


def test_integers_may_have_4096_bits_and_no_more() -> None:
    assert calculate("2**4095 + (2**4095 - 1)") == 2**MAX_BITS - 1
    assert by_us("2**4095 + 2**4095") == by_us("2**4096") == by_us("2**2048 * 2**2048") == "no value"


def test_expressions_that_python_s_parser_warns_of_never_reach_it() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for glued in ["1if 1else 2", "0x1for 2", "1.in(1)", "1jand 1", "x.5if 1", "1_0or 1", "1e5is 1", "0b1not 1"]:
            assert by_us(glued) == "no value"
    assert warned == []


def test_a_long_sum_is_not_nested() -> None:
    assert calculator("+".join(["1"] * 500)) == "500"
    assert calculator("(" * 50 + "1" + ")" * 50) == "1"
