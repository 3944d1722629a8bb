"""A terminal whose screen tests can read."""

import io
import re
from typing import Any

from rich.console import Console

from swarmstream.terminal.live_view import LiveView


def drawn(
    *frames: dict[str, Any], width: int = 100, height: int = 30, live: bool = True, verbose: bool = False
) -> tuple[str, str]:
    """Return all that a terminal gets, and the text that stays once the live area is erased."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=height, color_system="standard")
    with LiveView(console=console, live=live, verbose=verbose) as view:
        for each in frames:
            view.show(each)
    return file.getvalue(), staying(file.getvalue())


def staying(sent: str) -> str:
    """Return the text on a terminal in the end, scrolled lines included; it knows rich's escape sequences."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", sent):
        if part == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            rows[row] = ""
        elif part == "\x1b[1A":
            row -= 1
            assert row >= 0
        elif not part.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    return "\n".join(rows)


def inside(readable: str) -> str:
    """Return the text of panels without borders, its lines joined."""
    return "".join(line.strip("│ ") for line in readable.splitlines() if line.startswith("│"))
