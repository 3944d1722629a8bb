"""Numbers within the bounds that a JSON schema sets.

A bound is divided by the step (`multipleOf`) once. From then on a multiple of the step is known by how many times the
step it is, so that telling which of them fit compares integers.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import chain
from typing import Any, Final, TypeAlias

from swarmstream.llm.providers.demo.document.work import NoValueError

_KEYWORDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_MAX_BITS: Final = 1024
"""Of a bound: as large as a float may be. Arithmetic takes the longer the more there are."""
_ENOUGH: Final = 4

Bounds: TypeAlias = tuple[tuple[type, float] | None, ...]
"""The figures of a schema's keywords; with their types, as `True` (draft 4) equals 1."""


def bounds(schema: Mapping[str, Any]) -> Bounds:
    """Return the bounds that a schema sets."""
    values = [schema.get(name) for name in _KEYWORDS]
    return tuple((type(value), value) if isinstance(value, int | float) else None for value in values)


class Numbers:
    """Numbers within some bounds.

    Raises:
        NoValueError: a bound is larger than any float.
    """

    def __init__(self, within: Bounds) -> None:
        values = [each[1] if each else None for each in within]
        minimum, maximum, above, below, multiple = [_fraction(value) for value in values]
        low = max((each for each in (minimum, above) if each is not None), default=None)
        high = min((each for each in (maximum, below) if each is not None), default=None)
        # Exclusive by a figure of its own, or by a boolean beside the other (draft 4).
        self._excluded = {low if values[2] is True else above, high if values[3] is True else below} - {None}
        self._low, self._high = low, high
        self._is_stepped = bool(multiple)
        self.step = multiple or Fraction(1)
        self._middle = None if low is None or high is None else (low + high) / 2
        self._first = None if low is None else math.ceil(low / self.step)
        self._last = None if high is None else math.floor(high / self.step)
        self._high_up = None if high is None else math.ceil(high / self.step)
        self._middle_up = None if self._middle is None else math.ceil(self._middle / self.step)
        if self._first is not None and self._first * self.step in self._excluded:
            self._first += 1
        if self._last is not None and self._last * self.step in self._excluded:
            self._last -= 1

    def some(self, number: int, *, is_whole: bool) -> list[Fraction]:
        """Return a few of them; `number` times the step can be added to most."""
        last = None if self._high_up is None else self._high_up - number
        starts = (0, self._first, last, self._middle_up)
        near = (start + more for start in starts if start is not None for more in (0, 1, -1, 2))
        counts = dict.fromkeys(count for count in near if self._is_multiple_within(count, is_whole))
        found = [count * self.step for count in list(counts)[:_ENOUGH]]
        if len(found) < _ENOUGH and not is_whole and not self._is_stepped:
            end = None if self._high is None else self._high - number * self.step
            exact = (Fraction(0), self._low, end, self._middle)
            fitting = (each for each in exact if each is not None and self._is_within(each))
            found = list(dict.fromkeys(chain(found, fitting)))
        return found[:_ENOUGH]

    def _is_multiple_within(self, count: int, is_whole: bool) -> bool:
        if (self._first is not None and count < self._first) or (self._last is not None and count > self._last):
            return False
        return not is_whole or count % self.step.denominator == 0

    def _is_within(self, figure: Fraction) -> bool:
        if (self._low is not None and figure < self._low) or (self._high is not None and figure > self._high):
            return False
        return figure not in self._excluded


def _fraction(figure: float | None) -> Fraction | None:
    """Return the figure exactly as it is written: of a float, the shortest decimal for it."""
    if figure is None or isinstance(figure, bool):
        return None
    if isinstance(figure, float):
        return Fraction(str(figure))
    if figure.bit_length() > _MAX_BITS:
        raise NoValueError
    return Fraction(figure)
