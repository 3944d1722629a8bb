"""The port through which the steps of a turn call its model."""

from collections.abc import Sequence
from typing import Protocol

from swarmstream.engine.reply import PartialReply, Reply
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.swarm.response_format import AnswerFormat


class Caller(Protocol):
    """The model calls of one turn, one after another."""

    @property
    def reply(self) -> PartialReply:
        """The reply to the present request, or to the last one."""
        ...

    async def call(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[JsonObject] = (),
        answer_format: AnswerFormat | None = None,
    ) -> Reply:
        """Call the model; return when its reply is complete.

        Raises:
            ModelError: the call failed.
        """
        ...
