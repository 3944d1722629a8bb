"""The messages of a turn, from the task and the turns before it (docs/engine.md, "Hand-off")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmstream.llm.messages import ChatMessage


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """A turn as later turns read it. `failure` is the code of a turn that failed, whose output is not handed on."""

    agent: str
    output: str
    failure: str | None = None
    _quoted: ChatMessage = field(init=False, repr=False, compare=False)
    """The message for other agents."""

    def __post_init__(self) -> None:
        quoted = f"{self.agent}: {self.output}" if self.failure is None else f"{self.agent} failed: {self.failure}"
        object.__setattr__(self, "_quoted", {"role": "user", "content": quoted})

    def message_for(self, agent: str) -> ChatMessage:
        """Return the message for an agent: its own output as its answer, that of others as a quotation."""
        if self.agent == agent and self.failure is None:
            return {"role": "assistant", "content": self.output}
        return self._quoted


def prompt(
    *,
    agent: str,
    system_prompt: str | None,
    opening: Sequence[ChatMessage],
    transcript: Sequence[TranscriptEntry],
    rules: str | None = None,
) -> list[ChatMessage]:
    """Build the messages for `agent`: its instructions, the opening, then the transcript in flow order.

    Messages that agents have in common are the same objects for all of them.
    """
    instructions = "\n\n".join(text for text in (rules, system_prompt) if text)
    system = [{"role": "system", "content": instructions}] if instructions else []
    # A turn without output is not quoted: some providers refuse empty messages.
    quoted = (entry.message_for(agent) for entry in transcript if entry.output or entry.failure is not None)
    return [*system, *opening, *quoted]
