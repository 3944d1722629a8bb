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
    """An agent's name as the flow has it. `column` counts characters from 1 and is the first one of the name."""

    name: str
    column: int


def parse_flow(flow: str) -> list[list[FlowName]]:
    """The stages of a flow, each with the names of the agents that run side by side, in written order.

    A name may come back in a later stage, not in its own.

    Raises:
        FlowSyntaxError: an empty name, or one that stands twice in a stage.
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
    """The names in order, with a None where an arrow ends a stage."""
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
