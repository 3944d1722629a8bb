"""The demo model: it answers from the messages alone, and says what it is."""

from collections.abc import Sequence

import anyio
import pytest

from swarmstream.llm.base import Delta, Finished, ModelCall, Opened, Sampling, TokenCount, ToolCallDelta
from swarmstream.llm.messages import ChatMessage
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.demo.model import DemoModel
from swarmstream.tools.base import Tool
from swarmstream.tools.builtin.offered import calculator, clock

pytestmark = pytest.mark.anyio

TASK = {"role": "user", "content": "Compare tea with coffee"}


async def deltas(*messages: ChatMessage, max_tokens: int = 8192, tools: Sequence[Tool] = ()) -> list[Delta]:
    model = DemoModel(first_token_seconds=0, token_seconds=0)
    sampling = Sampling(
        max_tokens=max_tokens, temperature=None, reasoning_effort=None, thinking_tokens=None, llm_args={}
    )
    call = ModelCall(ModelRef("demo/swarm", "swarm", "demo"), messages, sampling, [tool.schema() for tool in tools])
    with anyio.fail_after(30):
        answer: list[Delta] = []
        await model.stream(call, answer.extend)
    return answer


def text_of(answer: list[Delta]) -> str:
    return "".join(delta for delta in answer if isinstance(delta, str))


async def test_the_same_messages_get_the_same_answer() -> None:
    assert await deltas(TASK) == await deltas(TASK)


async def test_the_answer_names_itself_a_demo_and_explains_how_to_get_a_real_one() -> None:
    text = text_of(await deltas(TASK))
    assert "demo model, not a real LLM" in text
    assert "OPENAI_API_KEY" in text


async def test_the_answer_mentions_the_task_and_the_instructions() -> None:
    text = text_of(await deltas({"role": "system", "content": "Be brief."}, TASK))
    assert 'The task is "Compare tea with coffee"' in text
    assert 'My instructions are "Be brief."' in text


async def test_a_long_task_is_quoted_by_its_first_twelve_words() -> None:
    tokens = [f"w{number}" for number in range(1, 14)]
    assert f'"{" ".join(tokens[:12])}…"' in text_of(await deltas({"role": "user", "content": " ".join(tokens)}))
    assert f'"{" ".join(tokens[:12])}"' in text_of(await deltas({"role": "user", "content": " ".join(tokens[:12])}))


async def test_the_text_of_a_task_with_an_image_is_mentioned() -> None:
    parts = [
        {"type": "text", "text": "Describe it"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    ]
    text = text_of(await deltas({"role": "user", "content": parts}))
    assert '"Describe it"' in text
    assert "example.com" not in text


async def test_the_answer_names_the_agents_that_it_has_read() -> None:
    text = text_of(await deltas(TASK, {"role": "user", "content": "Ann: tea it is"}))
    assert "the 3 words that Ann wrote before me" in text
    assert "begin from the task alone" not in text
    assert "begin from the task alone" in text_of(await deltas(TASK))


async def test_the_task_is_the_last_message_of_the_user() -> None:
    earlier = ({"role": "user", "content": "First"}, {"role": "assistant", "content": "ok"})
    assert 'The task is "Second"' in text_of(await deltas(*earlier, {"role": "user", "content": "Second"}))
    spoken = {"role": "user", "content": "Ann: tea it is"}
    assert 'The task is "First"' in text_of(await deltas(*earlier, spoken)), "others' words are no task"


async def test_without_any_message_it_answers_all_the_same() -> None:
    assert "demo model" in text_of(await deltas())


async def test_the_stream_opens_then_yields_text_then_finishes_with_its_figures() -> None:
    opened, *spoken, finished, count = await deltas({"role": "system", "content": "Be brief."}, TASK)
    assert opened == Opened()
    assert spoken
    assert all(isinstance(token, str) and token for token in spoken)
    assert finished == Finished("stop")
    assert count == TokenCount(input_tokens=6, output_tokens=len(spoken))


async def test_an_answer_longer_than_max_tokens_is_cut_with_finish_reason_length() -> None:
    whole = await deltas(TASK)
    _, *spoken, finished, count = await deltas(TASK, max_tokens=5)
    assert spoken == whole[1:6]
    assert finished == Finished("length")
    assert count == TokenCount(input_tokens=4, output_tokens=5)


async def test_an_answer_of_exactly_max_tokens_is_complete() -> None:
    whole = await deltas(TASK)
    assert await deltas(TASK, max_tokens=len(whole) - 3) == whole
    assert Finished("length") in await deltas(TASK, max_tokens=len(whole) - 4)


SUM = {"role": "user", "content": "What is 17 + 25, please?"}


async def test_it_calls_the_calculator_for_a_sum_and_answers_with_the_result() -> None:
    asked = await deltas(SUM, tools=[clock, calculator])
    [call] = [delta for delta in asked if isinstance(delta, ToolCallDelta)]
    assert (call.name, call.arguments) == ("calculator", '{"expression":"17 + 25"}')
    assert Finished("tool_calls") in asked
    calling = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    assistant = [{"role": "assistant", "content": "", "tool_calls": [calling]}]
    result = {"role": "tool", "tool_call_id": call.id, "content": "42"}
    assert "The calculator says 42." in text_of(await deltas(SUM, *assistant, result, tools=[clock, calculator]))


async def test_it_calls_nothing_that_is_not_offered_or_not_needed() -> None:
    for answer in (await deltas(SUM), await deltas(SUM, tools=[clock]), await deltas(TASK, tools=[calculator])):
        assert not any(isinstance(delta, ToolCallDelta) for delta in answer)
