"""A provider that keeps books, for servers that are killed: what it was asked, by which run, and what it charged."""

from dataclasses import dataclass, field
from typing import Any

from tests.fakes.answers import call
from tests.fakes.upstream import Exchange

DELTAS = 12


@dataclass
class Ledger:
    """Each request has a number, which its answer's first word tells: so a turn's text says who gave it."""

    asked: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """The numbers of the requests, by the agent: its system prompt names run and agent."""
    charged: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    _last: int = 0

    async def answer(self, exchange: Exchange) -> None:
        self._last += 1
        number = self._last
        caller = exchange.system.split()[0]
        self.asked.setdefault(caller, []).append(number)
        usage = self.charged[number] = (1000 + number, 1 + number % 7)
        name = caller.partition("/")[2]
        if name == "Failing":
            await exchange.refuse(400, b"{}")
            return
        await exchange.open()
        await exchange.say(f"#{number} ", *(f"{name}{delta} " for delta in range(DELTAS)))
        answered = any(message["role"] == "tool" for message in exchange.body["messages"])
        if name == "Caller" and not answered:
            await self._call_tool(exchange, call("calculator", {"expression": "1+1"}), usage)
        elif name.startswith("Passer"):
            await self._call_tool(exchange, call("handoff", {"agent": "Receiver", "message": f"from {name}"}), usage)
        else:
            await exchange.finish(usage=usage)

    async def _call_tool(self, exchange: Exchange, tool_call: dict[str, Any], usage: tuple[int, int]) -> None:
        await exchange.delta(tool_calls=[tool_call])
        await exchange.finish("tool_calls", usage=usage)


def teams(run: str) -> list[dict[str, Any]]:
    """One payload of each kind, whose agents tell the provider whose they are."""

    def agent(name: str, **fields: Any) -> dict[str, Any]:
        return {"agent_name": name, "system_prompt": f"{run}/{name}", "num_retries": 0, **fields}

    def passer(name: str) -> dict[str, Any]:
        return agent(name, handoffs=[agent("Receiver", description="knows")])

    return [
        {"rearrange_flow": "A, B -> C", "agents": [agent(name) for name in "ABC"]},
        {"rearrange_flow": "A -> B, C", "agents": [agent(name) for name in "ABC"], "max_loops": 2},
        {"rearrange_flow": "A -> B", "agents": [agent(name) for name in "AB"], "task": None, "tasks": ["t1", "t2"]},
        {"rearrange_flow": "Passer1, Passer2 -> Z", "agents": [passer("Passer1"), passer("Passer2"), agent("Z")]},
        {
            "rearrange_flow": "Caller, A -> Z",
            "agents": [agent("Caller", selected_tools=["calculator"], max_loops=3), agent("A"), agent("Z")],
        },
        {"rearrange_flow": "A -> Failing, B -> A", "agents": [agent("A"), agent("Failing"), agent("B")]},
    ]
