"""Panels drawn with rich: whole for the record, their ends for the live area."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel as Frame
from rich.table import Table
from rich.text import Text

from swarmstream.terminal.panels import Panel, State
from swarmstream.terminal.phrases import number, tokens, usd
from swarmstream.terminal.segments import Kind

_MIN_COLUMN_CELLS = 36
"""A narrower terminal stacks its panels."""
_MIN_LINES = 2
_BORDERS = 2
_PADDING = 4
"""Cells left and right of a panel's text, its borders included."""
_CORNERS = 6
"""Cells of a frame's lowest line that are not for text: two corners, a line and a space at each side."""
_SEPARATOR = " · "
_CLEARANCE = 2
"""Lines below the live area: were it as high as the terminal, its top could not be taken back."""

_STYLES: dict[Kind, str] = {
    "text": "",
    "reasoning": "dim italic",
    "tool": "cyan",
    "note": "blue",
    "error": "red",
}
_COLOURS: dict[State, str] = {
    "thinking": "yellow",
    "speaking": "green",
    "calling": "cyan",
    "done": "bright_black",
    "failed": "red",
    "cancelled": "magenta",
}


@dataclass(frozen=True, slots=True)
class PanelSnapshot:
    """The part of a panel that the live area may show, at one moment."""

    agent: str
    state: State
    facts: list[str]
    tail: list[tuple[Kind, str]]


def snapshot(panel: Panel, now_ms: float, *, characters: int, verbose: bool) -> PanelSnapshot:
    """Take a snapshot with the last `characters` of the panel's text."""
    tail = panel.segments.tail(characters, verbose=verbose)
    return PanelSnapshot(panel.agent, panel.state, facts(panel, now_ms), tail)


def facts(panel: Panel, now_ms: float) -> list[str]:
    """Return the items of a panel's foot.

    They are `speaking · 41 tokens/s · 3 s`, in the end `done · 120 tokens · 38 tokens/s · $0.0012 · 3.1 s`.
    """
    speed = panel.tokens_per_second
    items = [f"calling {panel.tool}" if panel.state == "calling" else panel.state]
    if panel.ended:
        used = panel.usage
        if used:
            items.append(tokens(number(used, "total_tokens"), estimated=used.get("estimated") is True))
        if speed:
            items.append(f"{speed:.0f} tokens/s")
        if used:
            items.append(usd(number(used, "cost_usd"), priced=used.get("priced") is not False))
        items.append(f"{panel.seconds:.1f} s")
    else:
        if speed and panel.state == "speaking":
            items.append(f"{speed:.0f} tokens/s")
        items.append(f"{max(0, now_ms - panel.began_ms) / 1000:.0f} s")
    return items


def whole_panel(panel: Panel, now_ms: float, *, verbose: bool, width: int) -> Frame:
    """Draw all of a turn."""
    foot = [*([] if panel.ended else ["unfinished"]), *facts(panel, now_ms)]
    return _framed(panel.agent, panel.state, foot, _joined(panel.segments.texts(verbose=verbose)), width=width)


def live_area(snapshots: Sequence[PanelSnapshot], console: Console) -> RenderableType:
    """Draw the turns that go on side by side, within the terminal's height; a line each where panels would not fit."""
    width, height = console.size
    height -= _CLEARANCE
    columns = max(1, min(len(snapshots), width // _MIN_COLUMN_CELLS))
    rows = -(-len(snapshots) // columns)
    lines = height // max(1, rows) - _BORDERS
    if lines < _MIN_LINES:
        return _list(snapshots, width, max(1, height))
    column = width // columns
    inner = column - _PADDING
    grid = Table.grid(expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1)
    for first in range(0, len(snapshots), columns):
        row = snapshots[first : first + columns]
        texts = [_last_lines(shot.tail, inner, lines, console) for shot in row]
        high = max(_MIN_LINES, *(len(text) for text in texts)) + _BORDERS
        grid.add_row(
            *(
                _framed(shot.agent, shot.state, shot.facts, Group(*text), width=column, height=high)
                for shot, text in zip(row, texts, strict=True)
            )
        )
    return grid


def characters_shown(console: Console) -> int:
    """Return the most characters that a turn can show: those that fill the terminal."""
    return console.size.width * console.size.height


def _framed(
    agent: str, state: State, facts: list[str], content: RenderableType, *, width: int, height: int | None = None
) -> Frame:
    # `Text` objects, since rich reads markup in strings.
    return Frame(
        content,
        title=Text(agent, style="bold", no_wrap=True),
        title_align="left",
        subtitle=Text(_foot(facts, width - _CORNERS), no_wrap=True),
        subtitle_align="right",
        border_style=_COLOURS[state],
        box=box.ROUNDED,
        height=height,
    )


def _foot(facts: list[str], cells: int) -> str:
    """Join as many items as there is room for; only a single one may be cut."""
    for count in range(len(facts), 0, -1):
        if cell_len(foot := _SEPARATOR.join(facts[:count])) <= cells:
            return foot
    return facts[0]


def _list(snapshots: Sequence[PanelSnapshot], width: int, height: int) -> RenderableType:
    """Draw a line for each turn; those that have ended give way where there are too many."""
    shown = sorted(snapshots, key=lambda shot: shot.state in ("done", "failed", "cancelled"))
    lines: list[Text] = []
    for shot in shown if len(shown) <= height else shown[: height - 1]:
        line = Text(no_wrap=True, overflow="ellipsis", end="")
        line.append(shot.agent, style="bold").append(f"  {_SEPARATOR.join(shot.facts)}  ", style=_COLOURS[shot.state])
        last = " ".join("".join(text for _, text in shot.tail)[-width:].split())
        line.append(last[-max(0, width - line.cell_len) :], style="dim")
        lines.append(line)
    if len(shown) > height:
        more = f"… and {len(shown) - height + 1} more"
        lines.append(Text(more, style="dim", no_wrap=True, overflow="ellipsis", end=""))
    return Group(*lines)


def _last_lines(tail: list[tuple[Kind, str]], width: int, lines: int, console: Console) -> list[Text]:
    return list(_joined(tail).wrap(console, max(1, width), overflow="fold"))[-lines:]


def _joined(segments: Sequence[tuple[Kind, str]]) -> Text:
    """Join the texts of segments, each on a line of its own."""
    joined = Text(overflow="fold")
    for kind, text in segments:
        if joined and not joined.plain.endswith("\n"):
            joined.append("\n")
        joined.append(text, style=_STYLES[kind])
    joined.rstrip()
    return joined
