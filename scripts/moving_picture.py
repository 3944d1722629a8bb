"""A run on the terminal as an animated SVG, on standard output; the same bytes each time.

The run is one of the engine's, with the demo model, on a clock that is driven; the panels are those that
`swarmstream run` draws, twelve times a second. A terminal's row that stays as it is from one picture to a later one
stands in the SVG once, shown for that time by CSS. Where motion is not wanted, the last picture stands still.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "app"), str(ROOT)]
# The user's settings would be settings of the run.
for name in [name for name in os.environ if name.startswith("SWARMSTREAM_")]:
    del os.environ[name]

from swarmstream import Agent, AgentRearrange  # noqa: E402
from swarmstream.terminal.drawing import characters_shown, live_area, snapshot, whole_panel  # noqa: E402
from swarmstream.terminal.panels import Panels  # noqa: E402
from swarmstream.terminal.totals import Totals  # noqa: E402
from tests.fakes.clock import DrivenClock  # noqa: E402

TEAM = "scripts/examples/team.json"
COLUMNS, ROWS = 96, 26
PICTURES_A_SECOND = 12
AT_REST_SECONDS = 4.0
"""How long the last picture is shown before the run begins again."""

CELL, LINE, MARGIN = 8.4, 18, 14
"""Pixels."""
BACKGROUND, FOREGROUND = "#16181d", "#d7dae0"

Row = tuple[tuple[str, str], ...]
"""A row of the terminal: texts with their CSS."""


async def frames_of_a_run() -> list[Mapping[str, Any]]:
    """Return all frames of the team's run."""
    clock = DrivenClock()

    class Team(AgentRearrange):
        _clock = clock

    payload = json.loads((ROOT / TEAM).read_text(encoding="utf-8"))
    agents = [Agent(model_name="demo/swarm", **agent) for agent in payload["agents"]]
    team = Team(agents=agents, flow=payload["rearrange_flow"], name=payload["name"])
    handle = team.start(payload["task"])
    frames: list[Mapping[str, Any]] = []

    async def read() -> None:
        frames.extend([frame async for frame in handle.stream_events()])
        tasks.cancel_scope.cancel()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            while True:
                await clock.advance(0.005)
    return frames


def pictures(frames: Sequence[Mapping[str, Any]]) -> Iterator[list[Row]]:
    """Yield the terminal's rows, a picture each twelfth of a second, to the end of the run."""
    console = Console(
        file=StringIO(), width=COLUMNS, height=ROWS, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    panels, totals = Panels(), Totals()
    above = _rows(Text(f"$ swarmstream run {TEAM} --model demo/swarm", style="bold"), console)
    waiting = list(frames)
    now_ms = 0.0
    while waiting:
        while waiting and waiting[0]["data"]["t"] <= now_ms:
            frame = waiting.pop(0)
            panels.observe(frame["event"], frame["data"])
            totals.observe(frame["event"], frame["data"])
            if frame["event"] == "metadata":
                above += _rows(Text(frame["data"]["swarm_name"], style="bold"), console)
        for panel in panels.take_ended_stages():
            above += _rows(whole_panel(panel, now_ms, verbose=False, width=COLUMNS), console)
        shown = [snapshot(panel, now_ms, characters=characters_shown(console), verbose=False) for panel in panels]
        live = _rows(live_area(shown, console), console) if shown else []
        yield (above + live)[-ROWS:]
        now_ms += 1000 / PICTURES_A_SECOND
    yield (above + _rows(Text(totals.line(), style="bold"), console))[-ROWS:]


def _rows(drawn: RenderableType, console: Console) -> list[Row]:
    return [_row(line) for line in console.render_lines(drawn, pad=False)]


def _row(line: Sequence[Segment]) -> Row:
    return tuple((segment.text, _css(segment.style)) for segment in Segment.simplify(line))


def _css(style: Style | None) -> str:
    if style is None:
        return ""
    rules: list[str] = []
    if style.color and not style.color.is_default:
        rules.append(f"fill:{style.color.get_truecolor(MONOKAI).hex}")
    if style.bold:
        rules.append("font-weight:bold")
    if style.italic:
        rules.append("font-style:italic")
    if style.dim:
        rules.append("opacity:.6")
    return ";".join(rules)


def svg(shown: Sequence[Sequence[Row]]) -> str:
    """Render the pictures, one after the other, over and over."""
    last = len(shown)
    seconds = last / PICTURES_A_SECOND + AT_REST_SECONDS
    spans: dict[tuple[int, int], list[str]] = {}
    for place in range(ROWS):
        for first, end, row in _stays([picture[place] if place < len(picture) else () for picture in shown]):
            if text := _text(row):
                y = MARGIN + LINE * place + LINE * 0.75
                spans.setdefault((first, end), []).append(f'<text x="{MARGIN}" y="{y:g}">{text}</text>')
    styles: list[str] = []
    groups: list[str] = []
    for (first, end), texts in sorted(spans.items()):
        if (first, end) == (0, last):
            groups.append(f"<g>{''.join(texts)}</g>")
            continue
        name = f"p{first}-{end}"
        begin, over = (f"{100 * at / PICTURES_A_SECOND / seconds:.3f}%" for at in (first, end))
        steps = ["0%{visibility:hidden}"] if first else []
        steps.append(f"{begin}{{visibility:visible}}")
        steps += [f"{over}{{visibility:hidden}}"] if end < last else []
        steps.append(f"100%{{visibility:{'hidden' if end < last else 'visible'}}}")
        styles.append(f"@keyframes {name}{{{''.join(steps)}}}#{name}{{animation-name:{name}}}")
        groups.append(f'<g id="{name}" class="{"m" if end < last else "m l"}">{"".join(texts)}</g>')
    width, height = round(COLUMNS * CELL + 2 * MARGIN), ROWS * LINE + 2 * MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            "<title>Two agents speak at once, and a third sums them up: swarmstream run</title>",
            "<style>",
            f"text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:{FOREGROUND};white-space:pre}}",
            f".m{{visibility:hidden;animation:{seconds:g}s step-end infinite}}",
            "@media (prefers-reduced-motion:reduce){.m{animation:none!important}.l{visibility:visible}}",
            *styles,
            "</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
            *groups,
            "</svg>\n",
        )
    )


def _stays(rows: Sequence[Row]) -> Iterator[tuple[int, int, Row]]:
    """Yield each time that a row stays the same: its first picture, the first that differs, and the row."""
    first = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or rows[at] != rows[first]:
            yield first, at, rows[first]
            first = at


def _text(row: Row) -> str:
    """Render a row's spans, each but blanks at its own cell, so that no font shifts a panel's border."""
    spans: list[str] = []
    cell = 0
    for text, css in row:
        bare = text.strip(" ")
        if bare:
            x = MARGIN + CELL * (cell + len(text) - len(text.lstrip(" ")))
            style = f' style="{css}"' if css else ""
            length = f' textLength="{CELL * len(bare):g}" lengthAdjust="spacingAndGlyphs"'
            spans.append(f'<tspan x="{x:g}"{length}{style}>{escape(bare)}</tspan>')
        cell += len(text)
    return "".join(spans)


if __name__ == "__main__":
    sys.stdout.buffer.write(svg(list(pictures(anyio.run(frames_of_a_run)))).encode())
