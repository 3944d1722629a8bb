"""Example requests of the OpenAPI document; a test posts each of them to the demo model."""

from typing import Any

_ORDER_TOOL = {
    "type": "function",
    "function": {
        "name": "find_orders",
        "description": "Find the orders of a customer.",
        "parameters": {
            "type": "object",
            "properties": {"customer": {"type": "string", "description": "Name or number."}},
            "required": ["customer"],
        },
    },
}
_VERDICT = {
    "type": "object",
    "properties": {"verdict": {"type": "string"}, "confidence": {"type": "number"}},
    "required": ["verdict", "confidence"],
    "additionalProperties": False,
}
_OPTIMIST = {"agent_name": "Optimist", "system_prompt": "Write three upbeat sentences about the topic."}
_PESSIMIST = {"agent_name": "Pessimist", "system_prompt": "Write three cautious sentences about the topic."}
_JUDGE = {"agent_name": "Judge", "system_prompt": "Weigh what the others wrote, in two sentences."}


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}


AGENT_EXAMPLES = {
    "one_agent": _example(
        "One agent",
        agent_config={"agent_name": "Biologist", "system_prompt": "Answer in two sentences."},
        task="Why do cats purr?",
    ),
    "stream": _example(
        "Streamed, each chunk with its new text only",
        agent_config={"agent_name": "Biologist", "system_prompt": "Answer in two sentences."},
        task="Why do cats purr?",
        stream=True,
        stream_options={"include_output": False},
    ),
    "conversation": _example(
        "A conversation that goes on",
        agent_config={"agent_name": "Biologist", "max_tokens": 500, "temperature": 0.3},
        history=[
            {"role": "user", "content": "Why do cats purr?"},
            {"role": "assistant", "content": "Mostly because they are content."},
            {"role": "user", "content": "And when else?"},
        ],
    ),
    "tools": _example(
        "A tool that the server runs",
        agent_config={"agent_name": "Calculator", "selected_tools": ["calculator"], "max_loops": 3},
        task="What is 17 + 25?",
        stream=True,
    ),
    "caller_tools": _example(
        "A tool that you run",
        agent_config={"agent_name": "Clerk", "tools_list_dictionary": [_ORDER_TOOL]},
        task="What did Ada order?",
    ),
    "structured_output": _example(
        "An answer that keeps to a JSON schema",
        agent_config={"agent_name": "Judge", "response_format": _VERDICT},
        task="Is a tomato a fruit?",
    ),
    "background": _example(
        "In the background, with a budget",
        agent_config={"agent_name": "Biologist"},
        task="Write an essay on why cats purr.",
        background=True,
        max_total_tokens=20_000,
        metadata={"ticket": 4711},
    ),
}
"""Examples of `POST /v1/agent/completions`."""

SWARM_EXAMPLES = {
    "sequence": _example(
        "One after another, each reading all before it",
        agents=[_OPTIMIST, _PESSIMIST, _JUDGE],
        task="AI in healthcare",
    ),
    "parallel": _example(
        "All at once",
        swarm_type="ConcurrentWorkflow",
        agents=[_OPTIMIST, _PESSIMIST],
        task="AI in healthcare",
    ),
    "flow": _example(
        "Two at once, then one who reads both, streamed",
        swarm_type="AgentRearrange",
        rearrange_flow="Optimist, Pessimist -> Judge",
        agents=[_OPTIMIST, _PESSIMIST, _JUDGE],
        task="AI in healthcare",
        stream=True,
        stream_options={"include_output": False},
    ),
    "tools": _example(
        "Tools for one of the team",
        agents=[{"agent_name": "Calculator", "selected_tools": ["calculator"], "max_loops": 3}, _JUDGE],
        task="What is 17 + 25?",
        stream=True,
    ),
    "structured_output": _example(
        "A last answer that keeps to a JSON schema",
        agents=[_OPTIMIST, {**_JUDGE, "response_format": _VERDICT}],
        task="Is a tomato a fruit?",
    ),
    "tasks": _example(
        "Several tasks, each in a fresh conversation",
        agents=[_OPTIMIST, _JUDGE],
        tasks=["AI in healthcare", "AI in schools"],
        on_error="continue",
    ),
    "background": _example(
        "In the background, with a time limit",
        name="essay",
        agents=[_OPTIMIST, _JUDGE],
        task="AI in healthcare",
        background=True,
        timeout=600,
    ),
}
"""Examples of `POST /v1/swarm/completions`."""
