import asyncio
import json
import websockets
from swarmstream import Agent

class WebSocketStreamer:
    def __init__(self, websocket):
        self.websocket = websocket

    async def send_token(self, token: str):
        """Send token to WebSocket client"""
        await self.websocket.send(json.dumps({
            "type": "token",
            "content": token,
        }))

async def handle_client(websocket):
    # Create agent
    agent = Agent(
        model_name="gpt-4o-mini",
        streaming_on=True,
        print_on=False,
    )

    # Create streamer
    streamer = WebSocketStreamer(websocket)

    # Stream to WebSocket
    response = await agent.arun(
        task="Generate analysis",
        streaming_callback=lambda token: asyncio.create_task(
            streamer.send_token(token)
        ),
    )

    # Send completion
    await websocket.send(json.dumps({
        "type": "complete",
        "content": response,
    }))

# Start WebSocket server
async def main():
    server = await websockets.serve(handle_client, "localhost", 0)
    print(server.sockets[0].getsockname()[:2], flush=True)
    await server.serve_forever()

asyncio.run(main())
