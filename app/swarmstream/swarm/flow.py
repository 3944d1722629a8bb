"""The flow grammar of `AgentRearrange` (docs/wire.md, section 2).

flow  = stage ("->" stage)*
stage = name ("," name)*
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from swarmstream.errors import FlowSyntaxError, quote

_SEPARATOR = re.compile(r"->|,")


@dataclass(frozen=True, slots=True)
class FlowName:
    """An agent's name in a flow. `column` is that of its first character, from 1."""

    name: str
    column: int


def parse_flow(flow: str) -> list[list[FlowName]]:
    """Parse a flow into stages, each with the names of the agents that run side by side, in written order.

    A name may come back in a later stage.

    Raises:
        FlowSyntaxError: a name is empty, or stands twice in a stage.
    """
    if not flow.strip():
        raise FlowSyntaxError("the flow is empty", column=1)
    stages: list[list[FlowName]] = [[]]
    siblings: set[str] = set()
    for item in _names_and_arrows(flow):
        if item is None:
            stages.append([])
            siblings = set()
            continue
        if item.name in siblings:
            raise FlowSyntaxError(f"{quote(item.name)} stands twice in one stage", column=item.column)
        siblings.add(item.name)
        stages[-1].append(item)
    return stages


def _names_and_arrows(flow: str) -> Iterator[FlowName | None]:
    """Yield the names in order, and None where an arrow ends a stage."""
    start = 0
    for separator in [*_SEPARATOR.finditer(flow), None]:
        end = separator.start() if separator else len(flow)
        written = flow[start:end]
        name = written.strip()
        if not name:
            before = f"before {quote(separator.group())}" if separator else "at the end of the flow"
            raise FlowSyntaxError(f"an agent's name is missing {before}", column=end + 1)
        yield FlowName(name, column=start + written.index(name) + 1)
        if separator:
            if separator.group() == "->":
                yield None
            start = separator.end()
