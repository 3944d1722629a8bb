"""The options taken at the choices of a search, one attempt after another."""


class Choices:
    """The options that an attempt takes, in the order in which it comes to them."""

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._counts: list[int] = []

    def restart(self) -> None:
        """Begin an attempt: it takes the options that were settled for it, then first ones."""
        self._counts = []

    def choose(self, count: int) -> int:
        """Return the index of the option to take, out of `count`."""
        place = len(self._counts)
        self._counts.append(count)
        if place == len(self._taken):
            self._taken.append(0)
        return self._taken[place]

    def advance(self) -> bool:
        """Settle the next attempt; return False when all have been made."""
        del self._taken[len(self._counts) :]
        while self._taken:
            if self._taken[-1] + 1 < self._counts[len(self._taken) - 1]:
                self._taken[-1] += 1
                return True
            self._taken.pop()
        return False
