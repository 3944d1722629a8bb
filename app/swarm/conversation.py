"""What an agent is told: the messages of a turn, from the task and the turns before it (ENGINE.md, "Hand-off")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

ChatMessage: TypeAlias = dict[str, Any]
"""One message in OpenAI's chat format."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one turn left behind. `failure` is the code of a turn that failed, whose text is not handed on."""

    agent: str
    output: str
    failure: str | None = None


def prompt(
    *, agent: str, system_prompt: str | None, opening: Sequence[ChatMessage], said: Sequence[Said]
) -> list[ChatMessage]:
    """The messages that `agent` receives: who it is, the task, then every turn before this one in flow order."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    # Who said nothing is not quoted: some providers refuse empty messages.
    told = (_retold(turn, to=agent) for turn in said if turn.output or turn.failure is not None)
    return [*system, *opening, *told]


def _retold(turn: Said, *, to: str) -> ChatMessage:
    if turn.failure is not None:
        return {"role": "user", "content": f"{turn.agent} failed: {turn.failure}"}
    if turn.agent == to:
        return {"role": "assistant", "content": turn.output}
    return {"role": "user", "content": f"{turn.agent}: {turn.output}"}
