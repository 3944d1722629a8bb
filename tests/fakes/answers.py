"""Answers of a provider that call tools, and what it was told of them."""

import json
from typing import Any

from tests.fakes.upstream import Exchange, Script


def call(name: str, arguments: Any = "{}", *, index: int = 0, call_id: str | None = None) -> dict[str, Any]:
    """A whole tool call as a provider sends it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {"index": index, "id": call_id or f"call_{name}_{index}", "type": "function", "function": function}


async def calls(exchange: Exchange, *tool_calls: dict[str, Any], text: str = "") -> None:
    """An answer that says something and calls tools."""
    await exchange.open()
    if text:
        await exchange.say(text)
    await exchange.delta(tool_calls=list(tool_calls))
    await exchange.finish("tool_calls")


async def says(exchange: Exchange, *texts: str) -> None:
    await exchange.open()
    await exchange.say(*texts)
    await exchange.finish()


def calling(*tool_calls: dict[str, Any], text: str = "") -> Script:
    return lambda exchange: calls(exchange, *tool_calls, text=text)


def saying(*texts: str) -> Script:
    return lambda exchange: says(exchange, *texts)


def refusing(status: int) -> Script:
    return lambda exchange: exchange.refuse(status, b"{}")


def in_turn(*answers: Script) -> Script:
    """One answer after the other; the last one ever after."""
    waiting = list(answers)

    async def script(exchange: Exchange) -> None:
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(exchange)

    return script


def by_agent(**scripts: Script) -> Script:
    """Whatever the agent of that system prompt is to say."""

    async def script(exchange: Exchange) -> None:
        await scripts[exchange.system](exchange)

    return script


def results(exchange: Exchange) -> list[str]:
    """What the tools answered, as the model is told."""
    return [message["content"] for message in exchange.body["messages"] if message["role"] == "tool"]


def offered(exchange: Exchange) -> list[str]:
    return [tool["function"]["name"] for tool in exchange.body.get("tools", [])]
