"""Descriptions of a run's events in one line each, as every view shows them."""

import json
from collections.abc import Mapping
from typing import Any, cast

from swarmstream.terminal.sanitize import one_line

NAME_LENGTH = 100
MAX_OUTPUT = 10_000
"""Characters that are shown of an answer that is no text."""
_LINE_LENGTH = 200
_TITLE_LENGTH = 80
_FIGURE_LENGTH = 12


def agent_of(data: Mapping[str, Any]) -> str:
    """The name of the agent that a frame is about."""
    return one_line(data.get("agent", "?"), NAME_LENGTH)


def tool_of(data: Mapping[str, Any]) -> str:
    """The name of the tool that a frame is about."""
    return one_line(data.get("tool", "?"), NAME_LENGTH)


def call_begun(data: Mapping[str, Any]) -> str:
    """`search(query="cats")`."""
    arguments: Any = data.get("arguments")
    if isinstance(arguments, dict):
        arguments = ", ".join(f"{name}={_json(value)}" for name, value in _fields(arguments).items())
    return f"{tool_of(data)}({one_line(arguments or '', _LINE_LENGTH)})"


def call_ended(data: Mapping[str, Any]) -> str:
    """`nine lives (0.3 s)`."""
    output = data.get("output", "")
    shown = one_line(output if isinstance(output, str) else _json(output), _LINE_LENGTH)
    failed = "failed: " if data.get("is_error") else ""
    return f"{failed}{shown} ({number(data, 'duration'):.1f} s)"


def client_tool_calls(data: Mapping[str, Any]) -> list[str]:
    """Describe the calls of client tools that a turn ended with, which are in OpenAI's shape."""
    lines: list[str] = []
    for call in data.get("tool_calls") or ():
        function = call.get("function", call)
        lines.append(call_begun({"tool": function.get("name", "?"), "arguments": _parsed(function.get("arguments"))}))
    return lines


def custom(data: Mapping[str, Any]) -> list[str]:
    """Describe what a tool or the autonomous loop wrote to the stream; a tool's progress has no line."""
    name, written = one_line(data.get("name", "?"), NAME_LENGTH), data.get("data")
    fields = _fields(written)
    match name:
        case "progress":
            return []
        case "plan" if isinstance(fields.get("subtasks"), list):
            return [
                f"plan {one_line(subtask.get('id', '?'), NAME_LENGTH)}: "
                f"{one_line(subtask.get('title', ''), _TITLE_LENGTH)}{_after(subtask)}"
                for subtask in fields["subtasks"]
            ]
        case "subtask_start":
            title = one_line(fields.get("title", ""), _TITLE_LENGTH)
            return [f"subtask {one_line(fields.get('id', '?'), NAME_LENGTH)}: {title}"]
        case "subtask_end":
            status = one_line(fields.get("status", "?"), NAME_LENGTH)
            return [f"subtask {one_line(fields.get('id', '?'), NAME_LENGTH)} {status}"]
        case _:
            return [f"{name}: {one_line(_json(written), _LINE_LENGTH)}"]


def progress(data: Mapping[str, Any]) -> str:
    """`search 3/10`."""
    fields = _fields(data.get("data"))
    total = "" if fields.get("total") is None else f"/{one_line(fields['total'], _FIGURE_LENGTH)}"
    return f"{tool_of(fields)} {one_line(fields.get('done', '?'), _FIGURE_LENGTH)}{total}"


def failure(data: Mapping[str, Any]) -> str:
    """`the provider refused our key (provider_auth)`."""
    return f"{one_line(data.get('error', '?'), 2 * _LINE_LENGTH)} ({one_line(data.get('code', '?'), NAME_LENGTH)})"


def restarted(data: Mapping[str, Any]) -> str:
    """`begins again (attempt 2); …`."""
    attempt = one_line(data.get("attempt", "?"), _FIGURE_LENGTH)
    return f"begins again (attempt {attempt}); what it said before does not count"


def tokens(count: float, *, estimated: bool = False) -> str:
    """`~1,234 tokens`."""
    return f"{'~' if estimated else ''}{count:,.0f} token{'' if count == 1 else 's'}"


def usd(cost: float, *, priced: bool = True) -> str:
    """`$0.0012`; `at least $0.0012` where some model has no price."""
    if not priced:
        return f"at least {usd(cost)}" if cost else "price unknown"
    return "$0" if not cost else f"${cost:.6f}" if cost < 0.01 else f"${cost:.4f}"


def number(data: Mapping[str, Any], name: str) -> float:
    """Return a figure of a frame; 0 where there is none."""
    value = data.get(name)
    return value if isinstance(value, int | float) else 0


def _after(subtask: Mapping[str, Any]) -> str:
    before = ", ".join(one_line(name, NAME_LENGTH) for name in subtask.get("depends_on") or ())
    return f" (after {before})" if before else ""


def _parsed(arguments: object) -> object:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def _fields(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
