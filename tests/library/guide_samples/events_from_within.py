"""The guide "Streaming events" (LlamaIndex Workflows) told with agents: what a step writes to the stream is a tool's,
the handler is the run's handle. Other than there, it has any number of readers."""

import asyncio
import sys

from swarmstream import Agent, Cancelled, Failed, SequentialWorkflow, TimedOut, ToolContext


async def measure(ctx: ToolContext, depth: int) -> str:
    """Measure how deep it is."""
    await ctx.write_event_to_stream("progress_note", {"msg": "measuring is happening"})
    return f"{depth} fathoms"


workflow = SequentialWorkflow(
    agents=[
        Agent(agent_name="One", system_prompt="one", tools=[measure], max_loops=2),
        Agent(agent_name="Two", system_prompt="two"),
    ],
    timeout=30,
)


async def listen(handle, who):
    async for event in handle.stream_events():
        data = event["data"]
        if event["event"] == "custom":
            print(f"{who}: {data['data']['msg']}", flush=True)
        elif event["event"] == "chunk":
            print(f"{who}: {data['content']}", flush=True)
        elif event["event"] == "end":
            print(f"{who}: {data['status']}", flush=True)


async def main(timeout):
    handle = workflow.start("Start the workflow.", timeout=timeout)
    listeners = [asyncio.create_task(listen(handle, who)) for who in ("left", "right")]
    try:
        if "cancel" in sys.argv:
            async for event in handle.stream_events():
                if event["event"] == "chunk":
                    handle.cancel()
        print("Final result", await handle)
    except TimedOut as end:
        print(f"timed out after {end.timeout} s: {', '.join(end.active_agents)}")
    except Cancelled:
        print("was cancelled")
    except Failed as end:
        print(f"{end.agent} failed after {end.attempts} attempts: {end.exception}")
    await asyncio.gather(*listeners)


if __name__ == "__main__":
    asyncio.run(main(timeout=0.2 if "hurry" in sys.argv else None))
