"""A model without a provider: deterministic, paced like a real one, and open about being a demo."""

import re
from collections.abc import Iterator, Sequence

from anyio import sleep

from app.llm.base import Finished, Hear, ModelCall, Opened, TokenCount
from app.swarm.conversation import ChatMessage

_FIRST_TOKEN_SECONDS = 0.25
_TOKEN_SECONDS = 0.025
"""Forty tokens a second, as a mid-sized hosted model."""

_TOKEN = re.compile(r"\S+\s*|\s+")
_EXCERPT_WORDS = 12
_FAILED = re.compile(r".+ failed: [a-z_]+")
_SPEAKER = re.compile(r"([^:\n]{1,100}): (.+)", re.DOTALL)


class DemoModel:
    """Answers about the task it was given, from the messages alone, at no cost and without a network."""

    def __init__(self, *, first_token_seconds: float = _FIRST_TOKEN_SECONDS, token_seconds: float = _TOKEN_SECONDS):
        self._first_token_seconds = first_token_seconds
        self._token_seconds = token_seconds

    async def ready(self) -> None:
        pass

    async def stream(self, call: ModelCall, hear: Hear) -> None:
        hear((Opened(),))
        tokens = _TOKEN.findall(_answer(call.messages))
        spoken = tokens[: call.sampling.max_tokens_of(call.model)]
        await sleep(self._first_token_seconds)
        for token in spoken:
            hear((token,))
            await sleep(self._token_seconds)
        heard = sum(len(_TOKEN.findall(_text(message))) for message in call.messages)
        finished = Finished("stop" if len(spoken) == len(tokens) else "length")
        hear((finished, TokenCount(input_tokens=heard, output_tokens=len(spoken))))


def _answer(messages: Sequence[ChatMessage]) -> str:
    return " ".join(_sentences(messages))


def _sentences(messages: Sequence[ChatMessage]) -> Iterator[str]:
    """What there is to say: who is asked to speak, about what, and after whom."""
    system = next((_text(message) for message in messages if message["role"] == "system"), "")
    users = [_text(message) for message in messages if message["role"] == "user"]
    task, *earlier = users or [""]
    yield "This is swarmstream's built-in demo model, not a real LLM."
    if system:
        yield f'My instructions are "{_excerpt(system)}".'
    yield f'The task is "{_excerpt(task)}", and a real model would now think about it.'
    heard = [match for text in earlier if (match := _SPEAKER.fullmatch(text)) and not _FAILED.fullmatch(text)]
    for match in heard:
        yield f"I have read the {len(match[2].split())} words that {match[1]} wrote before me."
    if not heard:
        yield "Nobody has spoken to me before this, so I begin from the task alone."
    yield "Set a provider's key, for example OPENAI_API_KEY, and name one of its models to hear a real answer here."


def _text(message: ChatMessage) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def _excerpt(text: str) -> str:
    words = text.split()
    return " ".join(words[:_EXCERPT_WORDS]) + ("…" if len(words) > _EXCERPT_WORDS else "")
