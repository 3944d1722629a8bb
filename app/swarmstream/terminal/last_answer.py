"""A run's last answer alone, for pipes and files."""

import json
from collections.abc import Mapping
from typing import Any, Self, TextIO

from swarmstream.terminal import phrases
from swarmstream.terminal.sanitize import clean, one_line
from swarmstream.terminal.totals import Totals


class LastAnswer:
    """Writes the last agent's answer once the run has ended; warnings, errors and totals go to `notes`."""

    def __init__(self, stream: TextIO, notes: TextIO) -> None:
        self._stream = stream
        self._notes = notes
        self._totals = Totals()

    def __enter__(self) -> Self:
        return self

    def show(self, frame: Mapping[str, Any]) -> None:
        """Write what a frame brings.

        Raises:
            OSError: the stream is closed at the other end.
        """
        event, data = frame["event"], frame["data"]
        self._totals.observe(event, data)
        if event == "metadata":
            for warning in data.get("warnings") or ():
                self._notes.write(f"[warning: {one_line(warning, 200)}]\n")
        elif event == "error":
            self._notes.write(f"[error: {phrases.failure(data)}]\n")
        elif event == "end":
            answers: list[dict[str, Any]] = data.get("outputs") or data.get("output") or [{}]
            answer: Any = answers[-1].get("content")
            if answer:
                text = clean(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))
                self._stream.write(text if text.endswith("\n") else f"{text}\n")
                self._stream.flush()
            self._notes.write(f"[{self._totals.line()}]\n")

    def __exit__(self, *_: object) -> None:
        pass
