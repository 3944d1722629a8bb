"""Imports that wait for the first need: some take seconds and a hundred megabytes, and no start needs them."""

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
from anyio import to_thread

T = TypeVar("T")


class LazyImport(Generic[T]):
    """Something that is imported in a thread, by whoever needs it first. Used in one event loop.

    `load` imports and returns it: by import statements, which type checkers read, not by names in strings.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._loaded: tuple[T] | None = None
        self._loading = anyio.Lock()

    async def get(self) -> T:
        """Import it if nobody has. Whoever is cancelled need not wait: the import goes on, and the next one joins it.

        Raises:
            ImportError: and whatever else the import raises; the next `get` tries again.
        """
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    self._loaded = (await to_thread.run_sync(self._load, abandon_on_cancel=True),)
        return self._loaded[0]
