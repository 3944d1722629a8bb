"""Frames as tests write them, and what plain text makes of them."""

import io
from typing import Any

from swarmstream.terminal.plain import PlainText

USAGE = {"total_tokens": 120, "output_tokens": 90, "cost_usd": 0.0123, "priced": True, "estimated": False}

HOSTILE = {
    "colour": ("a\x1b[31mb", "ab"),
    "title": ("a\x1b]0;owned\x07b", "ab"),
    "link": ("a\x1b]8;;http://x\x1b\\b", "ab"),
    "clear": ("a\x1b[2J\x1b[Hb", "ab"),
    "reset": ("a\x1bcb", "ab"),
    "charset": ("a\x1b(0b", "ab"),
    "eight bits": ("a\x9b31mb\x9d0;x\x9cc", "abc"),
    "nested": ("a\x1b[\x1b[31m31mb", "a[31mb"),
    "carriage return": ("all is well\rrm -rf\b\b", "all is wellrm -rf"),
    "reading direction": ("a\u202eb\u2066c", "abc"),
    "half a pair": ("a\ud800b", "a\ufffdb"),
    "markup": ("[bold]a[/] [/nonsense] [link=x]", "[bold]a[/] [/nonsense] [link=x]"),
    "wide": ("漢字 👩‍👩‍👧 é", "漢字 👩‍👩‍👧 é"),
}


def frame(event: str, t: int = 0, **data: Any) -> dict[str, Any]:
    return {"id": 1, "event": event, "data": {**data, "t": t}}


def begin(turn: int, *, agent: str = "", stage: int = 1, t: int = 0) -> dict[str, Any]:
    return frame("agent_start", t, agent=agent or f"A{turn}", turn=turn, stage=stage, loop=1, model="m", lane="direct")


def chunk(turn: int, content: str, *, agent: str = "", t: int = 0) -> dict[str, Any]:
    return frame("chunk", t, agent=agent or f"A{turn}", turn=turn, content=content)


def end(turn: int, *, agent: str = "", t: int = 0, status: str = "success", **data: Any) -> dict[str, Any]:
    data = {"output": "", "usage": USAGE, "duration": 3.0, **data}
    return frame("agent_end", t, agent=agent or f"A{turn}", turn=turn, status=status, **data)


def tool(event: str, turn: int, call: str = "c", **data: Any) -> dict[str, Any]:
    return frame(event, agent=f"A{turn}", turn=turn, tool_call_id=call, **data)


LAST = (
    frame("usage", total_tokens=1234, billing_info={"total_cost": 0.5}, priced=True, estimated=False),
    frame("end", job_id="j", status="success", execution_time=2.5, failed_agents=[]),
)


def written(*frames: dict[str, Any], verbose: bool = False) -> str:
    file = io.StringIO()
    with PlainText(file, verbose=verbose) as plain:
        for each in frames:
            plain.show(each)
    return file.getvalue()
