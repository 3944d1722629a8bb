"""A bound on the cost of a search, counted in steps before each piece of work is done."""

from typing import Final

MAX_WORK: Final = 1_500_000
"""Steps of one search. A step is a few dozen nanoseconds, as those of a check against a schema are."""


A_PART: Final = 100
"""Steps for a part of a schema, as measured."""
AN_ENTRY: Final = 3
"""Steps for an entry of a list or a mapping that is copied or passed over."""


class NoValueError(Exception):
    """The choices made so far lead to no value, or to none that is cheap enough."""


class Work:
    """A count of steps. Work that would go beyond its limit is neither done nor counted."""

    def __init__(self) -> None:
        self.steps = 0
        self._allowed = MAX_WORK

    def allow(self, steps: int) -> None:
        """Set the limit: steps from the search's beginning on, at most `MAX_WORK`."""
        self._allowed = min(steps, MAX_WORK)

    @property
    def left(self) -> int:
        return self._allowed - self.steps

    def add(self, steps: int) -> None:
        """Count steps that are about to be made.

        Raises:
            NoValueError: they would be too many.
        """
        if steps > self.left:
            raise NoValueError
        self.steps += steps
