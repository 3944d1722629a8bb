"""What an agent is told: the messages of a turn, from the task and the turns before it (docs/engine.md, "Hand-off")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmstream.llm.base import ChatMessage


@dataclass(frozen=True, slots=True)
class Said:
    """What one turn left behind. `failure` is the code of a turn that failed, whose text is not handed on."""

    agent: str
    output: str
    failure: str | None = None
    _quoted: ChatMessage = field(init=False, repr=False, compare=False)
    """As the other agents are told of it."""

    def __post_init__(self) -> None:
        quoted = f"{self.agent}: {self.output}" if self.failure is None else f"{self.agent} failed: {self.failure}"
        object.__setattr__(self, "_quoted", {"role": "user", "content": quoted})

    def as_told(self, *, to: str) -> ChatMessage:
        """The message by which an agent hears of it."""
        if self.agent == to and self.failure is None:
            return {"role": "assistant", "content": self.output}
        return self._quoted


def prompt(
    *,
    agent: str,
    system_prompt: str | None,
    opening: Sequence[ChatMessage],
    said: Sequence[Said],
    rules: str | None = None,
) -> list[ChatMessage]:
    """The messages that `agent` receives: who it is, the task, then every turn before this one in flow order.

    Those that agents have in common are the same objects for all of them.
    """
    instructions = "\n\n".join(text for text in (rules, system_prompt) if text)
    system = [{"role": "system", "content": instructions}] if instructions else []
    # Who said nothing is not quoted: some providers refuse empty messages.
    told = (turn.as_told(to=agent) for turn in said if turn.output or turn.failure is not None)
    return [*system, *opening, *told]
