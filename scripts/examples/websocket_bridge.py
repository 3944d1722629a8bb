#!/usr/bin/env python3
"""A WebSocket for web pages: each message that comes in is a task, each token goes out as it is said.

    .venv/bin/python scripts/examples/websocket_bridge.py --port 8765
    .venv/bin/python -m websockets ws://127.0.0.1:8765

Each answer is a run of events as JSON, one a message, from `metadata` to `end`. A client that leaves ends its run.
"""

import argparse
import asyncio
import contextlib
import json

from websockets.asyncio.server import ServerConnection, serve

from swarmstream import Agent, RunFailure


async def answer(websocket: ServerConnection, model: str) -> None:
    agent = Agent(agent_name="Assistant", model_name=model, print_on=False)
    async for task in websocket:
        async with contextlib.aclosing(agent.arun_stream(str(task), with_events=True)) as events:
            try:
                async for event in events:
                    await websocket.send(json.dumps(event))
            except RunFailure as failure:
                print(f"{failure.code}: {failure}")  # the client has had its `error` event


async def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an agent over a WebSocket.")
    parser.add_argument("--model", default="demo/swarm")
    parser.add_argument("--port", type=int, default=8765, help="0 lets the system choose")
    options = parser.parse_args()
    async with serve(lambda websocket: answer(websocket, options.model), "127.0.0.1", options.port) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
