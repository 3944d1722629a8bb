"""The live view of a run: a panel for each turn, drawn by a thread of its own so that no frame waits for the terminal.

Rich is imported with this module; import it where something is drawn.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from swarmstream.terminal import phrases
from swarmstream.terminal.drawing import characters_shown, live_area, snapshot, whole_panel
from swarmstream.terminal.panels import Panel, Panels
from swarmstream.terminal.sanitize import one_line
from swarmstream.terminal.totals import Totals

_REDRAW_SECONDS = 1 / 12
_CLOCK_SECONDS = 1.0
"""Between two drawings of a silent run, whose seconds are shown."""


class LiveView:
    """Draws a run within a `with` block: turns that go on in a live area, those that have ended above it, for good.

    With `live=False`, or where the console is no terminal, each turn is drawn when it has ended. Leaving the block
    gives the terminal back, whatever happened; a turn that has not ended is then drawn as far as it came.
    """

    def __init__(
        self, *, console: Console | None = None, live: bool = True, verbose: bool = False, title: str | None = None
    ) -> None:
        self._console = console or Console(highlight=False)
        self._verbose = verbose
        self._heading = title
        self._headed = False
        self._panels = Panels()
        self._totals = Totals()
        self._pending: list[RenderableType] = []
        """Lines to be printed above the live area."""
        self._frame_at = time.monotonic()
        self._area: Live | None = None
        if live and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._area = Live(
                Group(), console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
            )
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._leaving = threading.Event()
        self._drawing = threading.Thread(target=self._draw_until_left, name="live view", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        if self._area is not None:
            self._area.start()
            self._drawing.start()
        return self

    def show(self, frame: Mapping[str, Any]) -> None:
        """Take a frame, to be drawn within a twelfth of a second.

        Raises:
            OSError: the terminal is gone.
        """
        if self._failure is not None:
            raise self._failure
        event, data = frame["event"], frame["data"]
        with self._lock:
            self._totals.observe(event, data)
            self._panels.observe(event, data)
            self._frame_at = time.monotonic()
            if event == "metadata":
                self._describe(data)
            elif event == "error" and "turn" not in data:
                self._pending.append(Text(f"Error: {phrases.failure(data)}", style="red"))
            ended = [] if self._area is not None else self._panels.take_ended()
        if self._area is not None:
            self._changed.set()
        else:
            self._print(ended)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._area is not None:
            try:
                self._leaving.set()
                self._changed.set()
                self._drawing.join()
            finally:
                self._area.stop()
        if self._failure is not None:
            if error is None:
                raise self._failure
            return
        if not self._totals.begun or isinstance(error, OSError):
            return
        self._print(self._panels.take_all())
        self._console.print(Text(self._totals.line(), style="bold"))

    def _describe(self, metadata: Mapping[str, Any]) -> None:
        name = metadata.get("swarm_name") or metadata.get("name")
        heading = self._heading or (one_line(name, phrases.NAME_LENGTH) if name else None)
        if heading:
            self._pending.append(Text(heading, style="bold"))
        for warning in metadata.get("warnings") or ():
            self._pending.append(Text(f"Warning: {one_line(warning, phrases.NAME_LENGTH * 2)}", style="yellow"))

    def _draw_until_left(self) -> None:
        try:
            while not self._leaving.is_set():
                self._changed.wait(_CLOCK_SECONDS)
                self._changed.clear()
                self._draw()
                self._leaving.wait(_REDRAW_SECONDS)
        except BaseException as failure:  # ends the thread; `show` and `__exit__` raise it in the caller's
            self._failure = failure

    def _draw(self) -> None:
        assert self._area is not None
        characters = characters_shown(self._console)
        with self._lock:
            ended = self._panels.take_ended_stages()
            now_ms = self._now_ms()
            snapshots = [
                snapshot(panel, now_ms, characters=characters, verbose=self._verbose) for panel in self._panels
            ]
        self._area.update(live_area(snapshots, self._console) if snapshots else Group())
        self._print(ended)
        self._area.refresh()

    def _print(self, ended: list[Panel]) -> None:
        """Print pending lines and ended panels, above the live area if there is one."""
        with self._lock:
            lines, self._pending = self._pending, []
        width = self._console.width
        drawn = [whole_panel(panel, self._now_ms(), verbose=self._verbose, width=width) for panel in ended]
        if lines or drawn:
            self._console.print(Group(*lines, *drawn))

    def _now_ms(self) -> float:
        """Return the time on the run's clock: the last frame's, and the time since that came."""
        return self._panels.t_ms + (time.monotonic() - self._frame_at) * 1000
