"""Fair shares of a limited number of places among owners: runs at once, threads for tools, reads.

An owner is an API key. Places go to the first that asks, but the last quarter only to owners that hold less than a
quarter: however many one owner takes, another one can still begin. Where there is a single owner it may have every
place.
"""

from collections import Counter
from contextvars import ContextVar
from typing import NamedTuple

_PARTS = 4


class Owner(NamedTuple):
    """The owner of some work: an opaque name, and the number of all owners."""

    name: str = ""
    of: int = 1


current_owner: ContextVar[Owner] = ContextVar("owner", default=Owner())  # noqa: B039  # a tuple: nobody changes it
"""The owner of this task's work, or of the task that started it."""


class Shares:
    """A number of places, and how many of them each owner holds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[str] = Counter()
        self._taken = 0

    @property
    def left(self) -> int:
        """The number of free places; negative where more are held than there are."""
        return self._total - self._taken

    def held(self, name: str) -> int:
        """Return the number of places that the owner of this name holds."""
        return self._held[name]

    def take(self, owner: Owner) -> bool:
        """Take a place and return True, if one is left for this owner; else return False."""
        is_last_quarter = self.left * _PARTS <= self._total
        if self.left <= 0 or (owner.of > 1 and is_last_quarter and self._held[owner.name] * _PARTS >= self._total):
            return False
        self.take_anyway(owner.name)
        return True

    def take_anyway(self, name: str) -> None:
        """Take a place for the owner of this name, also where none is left."""
        self._held[name] += 1
        self._taken += 1

    def give_back(self, name: str) -> None:
        """Free one place of the owner of this name."""
        self._taken -= 1
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]
