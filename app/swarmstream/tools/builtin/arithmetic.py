"""Arithmetic expressions, evaluated at a bounded cost."""

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from swarmstream.errors import quote
from swarmstream.tools.errors import ToolError

MAX_CHARACTERS: Final = 1_000
MAX_NESTING: Final = 50
MAX_BITS: Final = 4_096
"""Of an integer: the result, or any on the way to it."""
MAX_DIGITS: Final = 400
"""Of `round`: no float has more, and 10 to that power is computed."""

Number: TypeAlias = int | float

_ALPHABET = re.compile(r"[0-9A-Za-z_.,+\-*/%() ]*")
_GLUED = re.compile(r"(?:[\d.jJ]|0[xX][\da-fA-F_]*)(?:and|else|for|if|in|is|not|or)")
"""A keyword right behind a number: never arithmetic, and Python's parser warns of it on stderr."""
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e}


def calculate(expression: str) -> Number:
    """Return the value of an arithmetic expression, by Python's rules.

    The expression is walked, never compiled or run. The size of a result is estimated before an operation is carried
    out.

    Raises:
        ToolError: it cannot be read, has no real value, or is too large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression is longer than {MAX_CHARACTERS:,} characters")
    text = " ".join(expression.split())
    if not text:
        raise ToolError("the expression is empty")
    _check_alphabet(text)
    _check_nesting(text)
    try:
        return _value(_parsed(text), 0)
    except ZeroDivisionError as error:
        raise ToolError("division by zero") from error
    except OverflowError as error:
        raise _too_large() from error
    except ValueError as error:
        raise ToolError("a function has no real value for that argument") from error


def _check_alphabet(text: str) -> None:
    known = _ALPHABET.match(text)
    end = known.end() if known else 0
    if end < len(text):
        hint = "; powers are written **" if text[end] == "^" else ""
        raise ToolError(f"{quote(text[end])} cannot stand in an expression{hint}")


def _check_nesting(text: str) -> None:
    """Refuse deep parentheses before Python's parser meets them; they leave no trace in its tree."""
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth > MAX_NESTING:
            raise _nested_too_deeply()


def _parsed(text: str) -> ast.expr:
    try:
        if not _GLUED.search(text):
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    raise ToolError("the expression cannot be read: something is missing or stands where it cannot")


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_NESTING:
        raise _nested_too_deeply()
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name):
            if name not in _CONSTANTS:
                raise ToolError(f"{quote(name)} is not known; there are {_listed(_CONSTANTS)}")
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp():
            return _chain(node, depth)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _called(name, [_value(argument, depth + 1) for argument in arguments])
        case _:
            raise ToolError("only numbers, + - * / // % **, parentheses, constants and functions can be used")


def _chain(node: ast.BinOp, depth: int) -> Number:
    """Evaluate `a + b - c …` in a loop: its tree is as deep as it is long, though nothing is nested."""
    pending: list[ast.BinOp] = []
    left: ast.expr = node
    while isinstance(left, ast.BinOp):
        pending.append(left)
        left = left.left
    value = _value(left, depth + 1)
    for step in reversed(pending):
        operate = _OPERATORS.get(type(step.op))
        if operate is None:
            raise ToolError("the operators are + - * / // % **")
        value = _bounded(operate(value, _value(step.right, depth + 1)))
    return value


def _called(name: str, arguments: list[Number]) -> Number:
    if name not in _FUNCTIONS:
        raise ToolError(f"{quote(name)} is no function; there are {_listed(_FUNCTIONS)}")
    function, fewest, most = _FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        wanted = f"{fewest}" if fewest == most else f"{fewest} or more" if most > 2 else f"{fewest} or {most}"
        raise ToolError(f"{name} takes {wanted} numbers, not {len(arguments)}")
    return _bounded(function(*arguments))


def _product(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() - 1 > MAX_BITS:
        raise _too_large()
    return left * right


def _power(base: Number, exponent: Number) -> Number:
    grows = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > 0
    if grows and exponent * math.log2(abs(base)) > MAX_BITS:
        raise _too_large()
    return base**exponent


def _rounded(number: Number, digits: Number | None = None) -> Number:
    if digits is None:
        return round(number)
    if not isinstance(digits, int) or abs(digits) > MAX_DIGITS:
        raise ToolError(f"round takes a whole number of digits, at most {MAX_DIGITS}")
    return round(number, digits)


def _bounded(value: Any) -> Number:
    if isinstance(value, complex):
        raise ToolError("the expression has no real value")
    if value.bit_length() > MAX_BITS if isinstance(value, int) else not math.isfinite(value):
        raise _too_large()
    return value


def _too_large() -> ToolError:
    return ToolError(f"a number on the way is too large: integers have at most {MAX_BITS:,} bits, others 309 digits")


def _nested_too_deeply() -> ToolError:
    return ToolError(f"the expression is nested more than {MAX_NESTING} deep")


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(names)


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _product,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}

_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "sqrt": (math.sqrt, 1, 1),
    "abs": (abs, 1, 1),
    "round": (_rounded, 1, 2),
    "min": (lambda *numbers: min(numbers), 1, MAX_CHARACTERS),
    "max": (lambda *numbers: max(numbers), 1, MAX_CHARACTERS),
    "log": (math.log, 1, 2),
    "log10": (math.log10, 1, 1),
    "exp": (math.exp, 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "tan": (math.tan, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
}
