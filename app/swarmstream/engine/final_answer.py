"""The answer that ends a turn: calls without tools, and an answer that keeps to its format (docs/engine.md)."""

import logging
from collections.abc import Sequence

from swarmstream.engine.caller import Caller
from swarmstream.errors import InvalidOutput
from swarmstream.llm.messages import ChatMessage
from swarmstream.swarm.response_format import AnswerFormat

logger = logging.getLogger(__name__)

_NO_TOOLS = "No tool can be called any more. Answer now, in words."


async def answer_without_tools(
    calls: Caller, messages: Sequence[ChatMessage], answer_format: AnswerFormat | None
) -> list[ChatMessage]:
    """Ask for the answer, twice if the model calls a tool instead; return the messages that were answered.

    Raises:
        InvalidOutput: the model called a tool both times, without a text.
        ModelError: a call failed.
    """
    asked = list(messages)
    reply = await calls.call(asked, (), answer_format)
    if reply.tool_calls and not reply.text.strip():
        asked.append({"role": "user", "content": _NO_TOOLS})
        reply = await calls.call(asked, (), answer_format)
        if reply.tool_calls and not reply.text.strip():
            raise InvalidOutput("the model called tools instead of answering, when none was offered any more")
    return asked


async def keep_to_format(
    calls: Caller, messages: Sequence[ChatMessage], answer_format: AnswerFormat, *, agent: str
) -> None:
    """Have the answer to these messages written anew, once, if it does not keep to its format.

    Raises:
        InvalidOutput: the second one does not, either.
        ModelError: the call failed.
    """
    violation = answer_format.violation(calls.reply.text)
    if violation is None:
        return
    logger.info("agent %s: the answer does not fit its format, asking again", agent)
    wrong = [{"role": "assistant", "content": calls.reply.text}] if calls.reply.text else []
    correction = f"This answer cannot be used.\nWhat is wrong: {violation}.\n{answer_format.instructions()}"
    await calls.call([*messages, *wrong, {"role": "user", "content": correction}], (), answer_format)
    violation = answer_format.violation(calls.reply.text)
    if violation is not None:
        raise InvalidOutput(f"the model's answer does not keep to its format: {violation}")
