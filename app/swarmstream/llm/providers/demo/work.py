"""A bound on what the search for a document may cost, counted before each piece of work is done."""

from typing import Final

MAX_WORK: Final = 1_500_000
"""Steps of one search. A step is a few dozen nanoseconds, as those of a check against a schema are."""


class NoValueError(Exception):
    """The choices made so far lead to none, or to none that is cheap enough."""


class Work:
    """Counts steps; what would go beyond what is allowed is neither done nor counted."""

    def __init__(self) -> None:
        self.steps = 0
        self._allowed = MAX_WORK

    def allow(self, steps: int) -> None:
        """So many from the search's beginning on, and no more than a search may take."""
        self._allowed = min(steps, MAX_WORK)

    @property
    def left(self) -> int:
        return self._allowed - self.steps

    def add(self, steps: int) -> None:
        """Something is about to be done that takes so many.

        Raises:
            NoValueError: that would be too many.
        """
        if steps > self.left:
            raise NoValueError
        self.steps += steps
