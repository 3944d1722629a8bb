"""Choice of a view for a stream."""

import os
from typing import TYPE_CHECKING, TextIO

from swarmstream.terminal.plain import PlainText

if TYPE_CHECKING:
    from swarmstream.terminal.live_view import LiveView


def view_for(
    stream: TextIO,
    *,
    live: bool = True,
    verbose: bool = False,
    title: str | None = None,
    notes: TextIO | None = None,
) -> "LiveView | PlainText":
    """Return panels for a terminal, plain text for files, pipes, and terminals that can only print (`TERM=dumb`).

    With `NO_COLOR` the panels have no colours. In files and pipes, the run's totals go to `notes` if that is given.
    """
    if not stream.isatty():
        return PlainText(stream, verbose=verbose, title=title, notes=notes)
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return PlainText(stream, verbose=verbose, title=title)
    # Rich takes a tenth of a second to import, and plain text does without.
    from rich.console import Console

    from swarmstream.terminal.live_view import LiveView

    console = Console(file=stream, force_terminal=True, highlight=False)
    return LiveView(console=console, live=live, verbose=verbose, title=title)
