"""The rule by which owners share what there is only so much of: runs at once, threads for tools, reads.

Whoever comes first is served first, but the last quarter of the places goes only to owners that hold less than a
quarter: one that takes all it can get leaves room for another to begin. An owner by itself may have everything.
"""

from collections import Counter
from contextvars import ContextVar
from typing import NamedTuple

_PARTS = 4


class Owner(NamedTuple):
    """For whom something is done: an opaque name, and how many owners there are in all."""

    name: str = ""
    of: int = 1


current_owner: ContextVar[Owner] = ContextVar("owner", default=Owner())  # noqa: B039  # a tuple: nobody changes it
"""For whom this task, or the one that started it, does what it does."""


class Shares:
    """So many places, and who holds how many of them."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[str] = Counter()
        self._taken = 0

    @property
    def left(self) -> int:
        """How many places nobody holds; negative where more are held than there are."""
        return self._total - self._taken

    def held(self, name: str) -> int:
        """How many places the owner of this name holds."""
        return self._held[name]

    def take(self, owner: Owner) -> bool:
        """Take a place, where one is left for this owner; otherwise False."""
        is_last_quarter = self.left * _PARTS <= self._total
        if self.left <= 0 or (owner.of > 1 and is_last_quarter and self._held[owner.name] * _PARTS >= self._total):
            return False
        self.take_anyway(owner.name)
        return True

    def take_anyway(self, name: str) -> None:
        """Take a place for the owner of this name, though it be one more than there are."""
        self._held[name] += 1
        self._taken += 1

    def give_back(self, name: str) -> None:
        """Let go of one place of the owner of this name."""
        self._taken -= 1
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]
