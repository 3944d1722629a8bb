"""Panels as rich draws them: whole for the record, their ends for the live area."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel as Frame
from rich.table import Table
from rich.text import Text

from swarmstream.terminal.panels import Kind, Panel, State
from swarmstream.terminal.phrases import number, tokens, usd

_MIN_COLUMN = 36
"""Cells; a narrower terminal stacks its panels."""
_MIN_LINES = 2
_BORDERS = 2
_PADDING = 4
"""Cells left and right of a panel's text, its borders included."""
_CORNERS = 6
"""Cells of a frame's lowest line that are not for words: two corners, a line and a space at each side."""
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
    """A panel at one moment: what of it the live area may show."""

    agent: str
    state: State
    facts: list[str]
    tail: list[tuple[Kind, str]]


def glimpse(panel: Panel, now_ms: float, *, characters: int, verbose: bool) -> PanelSnapshot:
    return PanelSnapshot(panel.agent, panel.state, facts(panel, now_ms), panel.tail(characters, verbose=verbose))


def facts(panel: Panel, now_ms: float) -> list[str]:
    """`speaking · 41 tokens/s · 3 s`, in the end `done · 120 tokens · 38 tokens/s · $0.0012 · 3.1 s`: item by item."""
    speed = panel.tokens_a_second
    parts = [f"calling {panel.tool}" if panel.state == "calling" else panel.state]
    if panel.ended:
        used = panel.usage
        if used:
            parts.append(tokens(number(used, "total_tokens"), estimated=used.get("estimated") is True))
        if speed:
            parts.append(f"{speed:.0f} tokens/s")
        if used:
            parts.append(usd(number(used, "cost_usd"), priced=used.get("priced") is not False))
        parts.append(f"{panel.seconds:.1f} s")
    else:
        if speed and panel.state == "speaking":
            parts.append(f"{speed:.0f} tokens/s")
        parts.append(f"{max(0, now_ms - panel.began_ms) / 1000:.0f} s")
    return parts


def whole_panel(panel: Panel, now_ms: float, *, verbose: bool, width: int) -> Frame:
    """All that a turn said and did."""
    state = [*([] if panel.ended else ["unfinished"]), *facts(panel, now_ms)]
    return _framed(panel.agent, panel.state, state, _flowing(panel.record(verbose=verbose)), width=width)


def live_area(glimpses: Sequence[PanelSnapshot], console: Console) -> RenderableType:
    """The turns that go on, side by side, within the terminal's height; a line each where panels would not fit."""
    width, height = console.size
    height -= _CLEARANCE
    columns = max(1, min(len(glimpses), width // _MIN_COLUMN))
    rows = -(-len(glimpses) // columns)
    lines = height // max(1, rows) - _BORDERS
    if lines < _MIN_LINES:
        return _list(glimpses, width, max(1, height))
    column = width // columns
    inner = column - _PADDING
    grid = Table.grid(expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1)
    for first in range(0, len(glimpses), columns):
        row = glimpses[first : first + columns]
        texts = [_last_lines(its.tail, inner, lines, console) for its in row]
        high = max(_MIN_LINES, *(len(text) for text in texts)) + _BORDERS
        grid.add_row(
            *(
                _framed(its.agent, its.state, its.facts, Group(*text), width=column, height=high)
                for its, text in zip(row, texts, strict=True)
            )
        )
    return grid


def characters_shown(console: Console) -> int:
    """No turn shows more of its text than fills the terminal."""
    return console.size.width * console.size.height


def _framed(
    agent: str, state: State, facts: list[str], content: RenderableType, *, width: int, height: int | None = None
) -> Frame:
    # Texts and no strings: rich would read markup in those.
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
    """As many of the items as there is room for, none cut in its middle but the only one."""
    for count in range(len(facts), 0, -1):
        if cell_len(foot := _SEPARATOR.join(facts[:count])) <= cells:
            return foot
    return facts[0]


def _list(glimpses: Sequence[PanelSnapshot], width: int, height: int) -> RenderableType:
    """A line for each turn; those that have ended give way where there are too many."""
    shown = sorted(glimpses, key=lambda its: its.state in ("done", "failed", "cancelled"))
    lines: list[Text] = []
    for its in shown if len(shown) <= height else shown[: height - 1]:
        line = Text(no_wrap=True, overflow="ellipsis", end="")
        line.append(its.agent, style="bold").append(f"  {_SEPARATOR.join(its.facts)}  ", style=_COLOURS[its.state])
        last = " ".join("".join(text for _, text in its.tail)[-width:].split())
        line.append(last[-max(0, width - line.cell_len) :], style="dim")
        lines.append(line)
    if len(shown) > height:
        more = f"… and {len(shown) - height + 1} more"
        lines.append(Text(more, style="dim", no_wrap=True, overflow="ellipsis", end=""))
    return Group(*lines)


def _last_lines(tail: list[tuple[Kind, str]], width: int, lines: int, console: Console) -> list[Text]:
    return list(_flowing(tail).wrap(console, max(1, width), overflow="fold"))[-lines:]


def _flowing(passages: Sequence[tuple[Kind, str]]) -> Text:
    """Passages below each other."""
    flowing = Text(overflow="fold")
    for kind, text in passages:
        if flowing and not flowing.plain.endswith("\n"):
            flowing.append("\n")
        flowing.append(text, style=_STYLES[kind])
    flowing.rstrip()
    return flowing
