#!/usr/bin/env python3
"""Runs a team on a server and loses nothing of it, whatever happens to the connection or to the server.

    scripts/examples/resuming_client.py "AI in healthcare" --url http://127.0.0.1:8000 --key dev-…

Cut off, it comes back with `Last-Event-ID` and goes on where it was. Each agent's text is printed once it is complete.
"""

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

TRY_AGAIN = {408, 429, 500, 502, 503, 504}
SILENCE_SECONDS = 45.0
"""The server sends a heartbeat every 15 seconds."""
LONGEST_PAUSE_SECONDS = 10.0


@dataclass
class Screen:
    """The text of each turn so far."""

    names: dict[int, str] = field(default_factory=dict[int, str])
    pieces: dict[int, list[tuple[int, str]]] = field(default_factory=dict[int, list[tuple[int, str]]])

    def show(self, number: int, event: str, data: dict[str, Any]) -> None:
        turn: int = data.get("turn", 0)
        match event:
            case "agent_start":
                self.names[turn], self.pieces[turn] = data["agent"], []
            case "turn_restart":  # the server crashed in the middle of this turn, and it is spoken again
                self.pieces[turn] = [piece for piece in self.pieces[turn] if piece[0] < data["discard_from"]]
                print(f"({data['agent']} begins again)", file=sys.stderr)
            case "chunk":
                self.pieces[turn].append((number, data["content"]))
            case "agent_end":
                print(f"{self.names[turn]}:\n{''.join(text for _, text in self.pieces[turn])}\n")
            case "error":
                print(f"{data['code']}: {data['error']}", file=sys.stderr)
            case "gap":
                print(f"(events {data['requested']} to {data['first_available'] - 1} are gone)", file=sys.stderr)
            case _:
                pass


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[str, str, str]]:
    """Yield number, name and data of each event; one that was cut off, without an empty line behind it, is left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id", ""), fields["event"], fields["data"]
            fields = {}


class Run:
    """A run on a server, followed to its end."""

    def __init__(self, http: httpx.AsyncClient, payload: dict[str, Any], pause_seconds: float) -> None:
        self._http = http
        self._payload = payload
        self._pause_seconds = self._first_pause_seconds = pause_seconds
        self._key = str(uuid.uuid4())
        """The idempotency key: a request that is sent again with it is the same run."""
        self._path = ""
        self._last = "0"
        self.screen = Screen()

    async def follow(self) -> str:
        """The run's status at its end, from the server."""
        while True:
            try:
                if status := await self._read():
                    return status
            except httpx.TransportError as error:
                print(f"(cut off after event {self._last}: {type(error).__name__})", file=sys.stderr)
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    async def _read(self) -> str | None:
        """Read until the connection ends; return the run's status, if that was its end."""
        async with self._request() as response:
            if response.status_code == 204:
                return "read before"
            if response.status_code in TRY_AGAIN:
                return None
            if response.is_error:
                await response.aread()
                raise SystemExit(f"{response.status_code}: {response.json()['detail']}")
            self._path = response.headers.get("location", self._path)
            async for number, event, text in events_of(response):
                data = json.loads(text)
                self._last = number or self._last
                self._pause_seconds = self._first_pause_seconds
                self.screen.show(int(self._last), event, data)
                if event == "end":
                    return data["status"]
        return None

    def _request(self) -> Any:
        if self._path:
            return self._http.stream("GET", self._path, headers={"Last-Event-ID": self._last})
        headers = {"Idempotency-Key": self._key}
        return self._http.stream("POST", "/v1/swarm/completions", json=self._payload, headers=headers)


async def main() -> int:
    parser = argparse.ArgumentParser(description="Run a team, and lose nothing of what it says.")
    parser.add_argument("task")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", required=True)
    parser.add_argument("--pause", type=float, default=0.5, metavar="SECONDS", help="before it comes back, at first")
    options = parser.parse_args()
    payload = {
        "task": options.task,
        "rearrange_flow": "Optimist, Pessimist -> Judge",
        "agents": [
            {"agent_name": "Optimist", "system_prompt": "Write three upbeat sentences about the topic."},
            {"agent_name": "Pessimist", "system_prompt": "Write three cautious sentences about the topic."},
            {"agent_name": "Judge", "system_prompt": "Weigh both views in one sentence."},
        ],
        "stream": True,
        "stream_options": {"include_output": False},
    }
    headers = {"x-api-key": options.key}
    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=SILENCE_SECONDS) as http:
        status = await Run(http, payload, options.pause).follow()
    print(status)
    return 0 if status == "success" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
