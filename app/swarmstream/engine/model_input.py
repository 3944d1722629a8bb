"""The request of a model call, made of what the turn asks and what the model takes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from swarmstream.llm.base import ModelCall, Sampling
from swarmstream.llm.messages import ChatMessage, JsonObject
from swarmstream.llm.model_ref import ModelRef
from swarmstream.swarm.response_format import AnswerFormat


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The input of one call, for whichever model answers it."""

    messages: Sequence[ChatMessage] = ()
    tools: Sequence[JsonObject] = ()
    """The tools on offer, in OpenAI's format."""
    answer_format: AnswerFormat | None = None

    def request(self, model: ModelRef, sampling: Sampling, without: Collection[str]) -> ModelCall:
        """Return the request for this model, without the parameters in `without`.

        A model that takes no schemas is told the format of the answer in its system prompt.
        """
        if self.answer_format is None:
            return ModelCall(model, self.messages, sampling, self.tools, without=without)
        if model.takes_schemas:
            return ModelCall(model, self.messages, sampling, self.tools, self.answer_format.request, without)
        return ModelCall(model, _instructed(self.messages, self.answer_format), sampling, self.tools, without=without)


def _instructed(messages: Sequence[ChatMessage], answer_format: AnswerFormat) -> list[ChatMessage]:
    """Return the messages with the format at the end of the system prompt."""
    instructions = answer_format.instructions()
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{instructions}"}, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]
