"""A strict parser of our event streams: the WHATWG's, refusing what our contract forbids."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class ServerEvent:
    """One dispatched event."""

    id: int | None
    event: str
    data: dict[str, Any]


class Parser:
    """A parser that is fed bytes as they come, and returns events as soon as their blank line is there."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}
        self.comments = 0
        self.retry: int | None = None

    def feed(self, content: bytes) -> Iterable[ServerEvent]:
        assert content.isascii(), "frames are ASCII"
        assert b"\r" not in content, "lines end in LF"
        self._rest += content
        while b"\n" in self._rest:
            line, self._rest = self._rest.split(b"\n", 1)
            if line.startswith(b":"):
                self.comments += 1
            elif line:
                name, colon, value = line.decode().partition(": ")
                assert colon, f"one space follows each colon: {line!r}"
                assert name not in self._fields, f"one {name} a frame"
                self._fields[name] = value
            elif self._fields:
                yield self._dispatch()

    def _dispatch(self) -> ServerEvent:
        fields, self._fields = self._fields, {}
        if "retry" in fields:
            self.retry = int(fields.pop("retry"))
        assert list(fields) in (["id", "event", "data"], ["event", "data"]), fields
        return ServerEvent(int(fields["id"]) if "id" in fields else None, fields["event"], json.loads(fields["data"]))


async def events_of(response: httpx.Response) -> AsyncIterator[ServerEvent]:
    """Yield the events of an open answer, each as soon as it is there."""
    parser = Parser()
    async for content in response.aiter_bytes():
        for event in parser.feed(content):
            yield event


def check_stream(events: list[ServerEvent]) -> None:
    """Check the rules of every whole stream, whatever happened in it (docs/wire.md, section 4)."""
    names = [event.event for event in events]
    assert [event.id for event in events] == list(range(1, len(events) + 1)), "ids are gapless from 1"
    assert names[:2] == ["metadata", "start"]
    assert names.count("end") == 1
    assert names[-2:] == ["usage", "end"]
    assert names.count("usage") == 1
    speaking: dict[int, str] = {}
    calling: set[tuple[int, str]] = set()
    for event in events:
        turn: int = event.data.get("turn", 0)
        if event.event == "agent_start":
            speaking[turn] = ""
        elif event.event in ("chunk", "reasoning"):
            assert turn in speaking, "a chunk lies between its turn's start and end"
            if event.event == "chunk":
                speaking[turn] += event.data["content"]
                assert event.data.get("output", speaking[turn]) == speaking[turn]
        elif event.event in ("tool_start", "tool_end", "custom"):
            assert turn in speaking, "a tool is called within a turn"
            if event.event == "tool_start":
                calling.add((turn, event.data["tool_call_id"]))
            elif event.event == "tool_end":
                calling.remove((turn, event.data["tool_call_id"]))
        elif event.event == "agent_end":
            assert speaking.pop(turn).endswith(event.data["output"]), "the final answer was streamed"
    assert not calling, "every call of a tool is answered"
    assert not speaking, "every started turn ends"
