"""The same server as written in an afternoon: FastAPI, sse-starlette and litellm, put together as documented."""

import json
from collections.abc import AsyncIterator
from typing import Any

import litellm
from fastapi import FastAPI
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

app = FastAPI()


class Question(BaseModel):
    agent_name: str
    model_name: str
    task: str
    system_prompt: str = "You are a helpful assistant."
    max_tokens: int = 8192


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/agent/completions")
async def complete(question: Question) -> EventSourceResponse:
    return EventSourceResponse(events(question))


async def events(question: Question) -> AsyncIterator[dict[str, Any]]:
    answer: Any = await litellm.acompletion(
        model=question.model_name,
        messages=[
            {"role": "system", "content": question.system_prompt},
            {"role": "user", "content": question.task},
        ],
        max_tokens=question.max_tokens,
        stream=True,
    )
    async for chunk in answer:
        if content := chunk.choices[0].delta.content:
            yield {"event": "chunk", "data": json.dumps({"agent": question.agent_name, "content": content})}
    yield {"event": "end", "data": json.dumps({"agent": question.agent_name, "status": "success"})}
