"""The call of a turn that offers no tools: the model has to answer now (docs/engine.md, "One turn")."""

from collections.abc import Sequence

from swarmstream.engine.model_calls import ModelCalls
from swarmstream.errors import InvalidOutput
from swarmstream.llm.base import ChatMessage
from swarmstream.swarm.response_format import AnswerFormat

_NO_TOOLS = "No tool can be called any more. Answer now, in words."


async def last_word(
    speech: ModelCalls, messages: Sequence[ChatMessage], answer_format: AnswerFormat | None
) -> list[ChatMessage]:
    """Ask for the answer; a model that calls a tool instead is told once. The messages that were answered.

    Raises:
        InvalidOutput: it called one again, and said nothing.
        ModelError: a call failed.
    """
    asked = list(messages)
    reply = await speech.ask(asked, (), answer_format)
    if reply.tool_calls and not reply.text.strip():
        asked.append({"role": "user", "content": _NO_TOOLS})
        reply = await speech.ask(asked, (), answer_format)
        if reply.tool_calls and not reply.text.strip():
            raise InvalidOutput("the model called tools instead of answering, when none was offered any more")
    return asked
