from swarmstream import Agent, SequentialWorkflow


def make_agent(name: str, system_prompt: str) -> Agent:
    return Agent(
        agent_name=name,
        system_prompt=system_prompt,
        model_name="gpt-4.1-mini",
        max_loops=1,
        persistent_memory=False,
        print_on=False,
    )


workflow = SequentialWorkflow(
    agents=[
        make_agent(
            "Researcher",
            "Research the topic and produce a concise factual brief.",
        ),
        make_agent(
            "Analyst",
            "Take the brief and produce sharp analytical insights.",
        ),
        make_agent(
            "Writer",
            "Take the analysis and produce a polished, reader-friendly summary.",
        ),
    ],
    autosave=False,
)

import asyncio


async def main():
    async for token in workflow.arun_stream(
        "the rise of solid-state batteries"
    ):
        print(token, end="", flush=True)


asyncio.run(main())
