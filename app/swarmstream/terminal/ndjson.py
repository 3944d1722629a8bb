"""A run as JSON lines, for programs."""

import json
from collections.abc import Mapping
from typing import Any, Self, TextIO


class JsonLines:
    """Writes each frame as one line, `{"id", "event", "data"}`, in ASCII; flushed, so that readers have it at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def show(self, frame: Mapping[str, Any]) -> None:
        """Write a frame.

        Raises:
            OSError: the stream is closed at the other end.
        """
        line = {"id": frame.get("id"), "event": frame["event"], "data": frame["data"]}
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._stream.flush()

    def __exit__(self, *_: object) -> None:
        pass
