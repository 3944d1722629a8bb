"""A run's totals in one line: status, tokens, cost, seconds."""

from collections.abc import Mapping
from typing import Any

from swarmstream.terminal.phrases import NAME_LENGTH, number, tokens, usd
from swarmstream.terminal.sanitize import one_line


class Totals:
    """Figures of the frames so far: the sum of ended turns, until the run's own `usage` comes."""

    def __init__(self) -> None:
        self.status: str | None = None
        """The run's status; None before its `end`."""
        self.begun = False
        self._tokens = 0.0
        self._cost_usd = 0.0
        self._priced = True
        self._estimated = False
        self._seconds = 0.0
        self._failed_agents: list[str] = []
        self._deltas: dict[int, int] = {}
        """Deltas of each turn that goes on: about its tokens."""

    def observe(self, event: str, data: Mapping[str, Any]) -> None:
        """Add a frame."""
        self.begun = True
        self._seconds = number(data, "t") / 1000
        match event:
            case "chunk" | "reasoning":
                turn = data.get("turn", 0)
                self._deltas[turn] = self._deltas.get(turn, 0) + 1
            case "agent_end":
                self._deltas.pop(data.get("turn", 0), None)
                used: Mapping[str, Any] = data.get("usage") or {}
                self._tokens += number(used, "total_tokens")
                self._cost_usd += number(used, "cost_usd")
                self._priced = self._priced and used.get("priced") is not False
                self._estimated = self._estimated or used.get("estimated") is True
            case "usage":
                self._deltas.clear()
                self._tokens = number(data, "total_tokens")
                self._cost_usd = number(data.get("billing_info") or data, "total_cost")
                self._priced = data.get("priced") is not False
                self._estimated = data.get("estimated") is True
            case "end":
                self.status = one_line(data.get("status", "?"), NAME_LENGTH)
                self._seconds = number(data, "execution_time")
                self._failed_agents = [one_line(name, NAME_LENGTH) for name in data.get("failed_agents") or ()]
            case _:
                pass

    def line(self) -> str:
        """`success · 1,234 tokens · $0.0012 · 12.3 s`; `unfinished` without an `end`."""
        failed = f" ({', '.join(self._failed_agents)})" if self._failed_agents else ""
        running = sum(self._deltas.values())
        return " · ".join(
            (
                (self.status or "unfinished") + failed,
                tokens(self._tokens + running, estimated=self._estimated or running > 0),
                usd(self._cost_usd, priced=self._priced),
                f"{self._seconds:.1f} s",
            )
        )
