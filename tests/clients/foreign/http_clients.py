"""Python's plain HTTP and SSE clients: `requests`, `httpx-sse`, `sseclient-py`."""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import requests
import sseclient  # pyright: ignore[reportMissingTypeStubs]
from httpx_sse import connect_sse

from tests.clients.foreign.stage import (
    WAIT_SECONDS,
    ReceivedEvents,
    Report,
    Stage,
    between_frames,
    inside_a_frame,
    payload,
)

SWARM = "/v1/swarm/completions"


def _headers(stage: Stage, **others: str) -> dict[str, str]:
    return {"x-api-key": stage.key, **{name.replace("_", "-"): value for name, value in others.items()}}


@contextmanager
def _streamed(
    stage: Stage, url: str, body: dict[str, Any] | None = None, **headers: str
) -> Generator[requests.Response]:
    """What `requests` gets for a POST with this body, else for a GET."""
    method = "GET" if body is None else "POST"
    head = _headers(stage, **headers)
    with requests.request(method, url, json=body, headers=head, stream=True, timeout=WAIT_SECONDS) as response:
        assert response.status_code == 200, response.text
        yield response


def _by_lines(response: requests.Response, received: ReceivedEvents) -> None:
    """As the program of docs/streaming.md reads it."""
    event_id, name = "", ""
    for line in response.iter_lines(decode_unicode=True):
        if line.startswith("id: "):
            event_id = line.removeprefix("id: ")
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            received.add(event_id, name, json.loads(line.removeprefix("data: ")))
            if name == "end":
                return
    raise requests.ConnectionError("there was no end")


def try_requests(stage: Stage) -> Report:
    report = Report("requests")
    with report.trying("POST, read to the end"):
        received = ReceivedEvents()
        with _streamed(stage, stage.url + SWARM, payload("requests-whole")) as response:
            _by_lines(response, received)
        received.check()
    with report.trying("cut twice, GET with Last-Event-ID"):
        received = ReceivedEvents()
        with stage.cutting("requests-get", between_frames(9), inside_a_frame(30), resets=True) as url:
            with suppress(requests.RequestException), _streamed(stage, url + SWARM, payload("requests-get")) as first:
                _by_lines(first, received)
            path = first.headers["location"]
            while not received.is_over:
                with (
                    suppress(requests.RequestException),
                    _streamed(stage, url + path, Last_Event_ID=received.last) as response,
                ):
                    _by_lines(response, received)
        received.check()
        stage.check_calls("requests-get")
    with report.trying("cut twice, POST with Idempotency-Key and Last-Event-ID"):
        received = ReceivedEvents()
        with stage.cutting("requests-post", inside_a_frame(9), between_frames(30)) as url:
            while not received.is_over:
                cursor = {"Last_Event_ID": received.last} if received.ids else {}
                body = payload("requests-post")
                with (
                    suppress(requests.RequestException),
                    _streamed(stage, url + SWARM, body, Idempotency_Key="requests", **cursor) as response,
                ):
                    _by_lines(response, received)
        received.check()
        stage.check_calls("requests-post")
    return report


def try_httpx_sse(stage: Stage) -> Report:
    report = Report("httpx-sse")

    def read(http: httpx.Client, received: ReceivedEvents, method: str, url: str, **options: Any) -> httpx.Response:
        with connect_sse(http, method, url, **options) as source:
            with suppress(httpx.TransportError):
                for event in source.iter_sse():
                    received.add(event.id, event.event, event.json())
            return source.response

    with httpx.Client(headers=_headers(stage), timeout=WAIT_SECONDS, trust_env=False, verify=False) as http:
        with report.trying("POST, read to the end"):
            received = ReceivedEvents()
            read(http, received, "POST", stage.url + SWARM, json=payload("httpx-whole"))
            received.check()
        with report.trying("cut twice, GET with Last-Event-ID"):
            received = ReceivedEvents()
            with stage.cutting("httpx-get", inside_a_frame(9), between_frames(30), resets=True) as url:
                path = read(http, received, "POST", url + SWARM, json=payload("httpx-get")).headers["location"]
                while not received.is_over:
                    read(http, received, "GET", url + path, headers={"Last-Event-ID": received.last})
            received.check()
            stage.check_calls("httpx-get")
        with report.trying("cut, POST with Idempotency-Key and starting_after"):
            received = ReceivedEvents()
            with stage.cutting("httpx-post", inside_a_frame(30)) as url:
                while not received.is_over:
                    body = payload("httpx-post")
                    body["stream_options"]["starting_after"] = int(received.last) if received.ids else 0
                    read(http, received, "POST", url + SWARM, json=body, headers={"Idempotency-Key": "httpx"})
            received.check()
            stage.check_calls("httpx-post")
    return report


def try_sseclient(stage: Stage) -> Report:
    report = Report("sseclient-py")

    def read(response: requests.Response, received: ReceivedEvents) -> None:
        for event in sseclient.SSEClient(iter(response)).events():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            received.add(event.id, event.event, json.loads(event.data))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    with report.trying("POST, read to the end"):
        received = ReceivedEvents()
        with _streamed(stage, stage.url + SWARM, payload("sseclient-whole")) as response:
            read(response, received)
        received.check()
    with report.trying("cut, GET with Last-Event-ID"):
        received = ReceivedEvents()
        with stage.cutting("sseclient-get", inside_a_frame(9)) as url:
            with suppress(requests.RequestException), _streamed(stage, url + SWARM, payload("sseclient-get")) as first:
                read(first, received)
            with _streamed(stage, url + first.headers["location"], Last_Event_ID=received.last) as response:
                read(response, received)
        received.check()
        stage.check_calls("sseclient-get")
    return report
