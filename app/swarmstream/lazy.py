"""Imports at the first need. Some take seconds and a hundred megabytes, and the server can start without them."""

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
from anyio import to_thread

T = TypeVar("T")


class LazyImport(Generic[T]):
    """An import that happens in a thread, at the first `get`. Used in one event loop.

    `load` imports and returns it, by import statements, which type checkers understand.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._loaded: tuple[T] | None = None
        self._loading = anyio.Lock()

    async def get(self) -> T:
        """Return what is imported. If the caller is cancelled the import goes on, and the next call waits for it.

        Raises:
            ImportError: or any other error that the import raises; the next `get` tries again.
        """
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    self._loaded = (await to_thread.run_sync(self._load, abandon_on_cancel=True),)
        return self._loaded[0]
