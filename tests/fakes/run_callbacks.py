"""Callbacks of a run that remember what a journal asked of it."""

import anyio


class RecordedCallbacks:
    """Sets an event for each kind of call."""

    def __init__(self) -> None:
        self.cancelled = anyio.Event()
        self.failed = anyio.Event()

    def cancel_requested(self) -> None:
        self.cancelled.set()

    def storage_failed(self) -> None:
        self.failed.set()
