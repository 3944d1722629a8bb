"""Makes the runs of the corpus, and reads them in every form in which a client can."""

import random
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.lowlevel import checkpoint

from swarmstream.llm.base import ModelCall, OnDeltas
from tests.conftest import client, serving
from tests.corpus.kinds import KINDS, Kind
from tests.fakes.clock import DrivenClock
from tests.fakes.scripted_model import ScriptedModel

LINE_SECONDS = 0.01
"""Between two lines of the models."""
NDJSON = {"Accept": "application/x-ndjson"}
_JOB_ID = re.compile(rb"(swarms|agent)-([0-9a-f]{32})")
_REQUEST_ID = re.compile(rb"req-[0-9a-f]{24}")


class Stage:
    """A model that is, in each run, another scripted one; a little time passes with each line."""

    def __init__(self, clock: DrivenClock) -> None:
        self._clock = clock
        self.model = ScriptedModel({})

    async def ready(self) -> None:
        pass

    async def stream(self, call: ModelCall, on_deltas: OnDeltas) -> None:
        def later(deltas: Any) -> None:
            self._clock.stall(LINE_SECONDS)
            on_deltas(deltas)

        await self.model.stream(call, later)


class Normal:
    """Numbers runs in the order in which they are first seen; ids of requests, and comments, do not count."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def __call__(self, body: bytes) -> bytes:
        body = _JOB_ID.sub(self._number, body.replace(b": ping\n", b""))
        return _REQUEST_ID.sub(b"req-" + b"0" * 24, body)

    def _number(self, found: re.Match[bytes]) -> bytes:
        number = self._numbers.setdefault(found[2], len(self._numbers) + 1)
        return b"%s-%032d" % (found[1], number)


@asynccontextmanager
async def _server(folder: Path, clock: DrivenClock, stage: Stage) -> AsyncGenerator[httpx.AsyncClient]:
    settings: dict[str, Any] = {"data_dir": folder, "retain_seconds": 1e9, "disconnect_grace_seconds": 0.0}
    async with (
        serving(clock=clock, models={"demo": stage}, max_calls=40, **settings) as url,
        client(url) as http,
    ):
        with anyio.fail_after(30):
            while (await http.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        yield http


async def record(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Run every kind, streamed and not, in a new data directory: the answers by name, and the runs' ids in order."""
    clock = DrivenClock()
    stage = Stage(clock)
    normal = Normal()
    answers: dict[str, bytes] = {}
    job_ids: list[str] = []
    async with _server(folder, clock, stage) as http:
        for name, kind in KINDS.items():
            for stream in (True, False):
                random.seed(name)
                stage.model = ScriptedModel(kind.lines, order=kind.order)
                with anyio.fail_after(60):
                    status, body = await _run(http, kind, stream, clock, stage.model)
                [run] = (await http.get("/v1/runs", params={"limit": 1})).json()["data"]
                job_id: str = run["job_id"]
                assert job_id not in job_ids
                job_ids.append(job_id)
                normal(job_id.encode())
                answers[f"{name}/{'streamed' if stream else 'json'}"] = b"%d\n%s" % (status, normal(body))
                clock.stall(1)
    return answers, job_ids


async def _run(
    http: httpx.AsyncClient, kind: Kind, stream: bool, clock: DrivenClock, model: ScriptedModel
) -> tuple[int, bytes]:
    answer: list[httpx.Response] = []

    async def post() -> None:
        answer.append(await http.post(kind.path, json={**kind.payload, "stream": stream}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post)
        if kind.passes or kind.cancelled:
            while len(model.calls) < kind.calls or model.steps_left > 1:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            for _ in range(200):
                await checkpoint()
            if kind.cancelled:
                running: list[Any] = []
                while not running:  # it is listed once it is written down
                    running = (await http.get("/v1/runs", params={"status": "running"})).json()["data"]
                await http.post(f"/v1/runs/{running[0]['job_id']}/cancel")
            else:
                await clock.advance(kind.passes)
    return answer[0].status_code, answer[0].content


async def read(folder: Path, job_ids: list[str]) -> dict[str, bytes]:
    """What a server says of the runs of a data directory, answer by answer."""
    clock = DrivenClock(unix=1_800_100_000.0)
    normal = Normal()
    answers: dict[str, bytes] = {}
    async with _server(folder, clock, Stage(clock)) as http:
        for number, job_id in enumerate(job_ids, 1):
            normal(job_id.encode())
            path = f"/v1/runs/{job_id}"
            run = await http.get(path)
            answers[f"{number}/run"] = normal(run.content)
            last = run.json()["last_event_id"]
            for cursor in (0, last // 2):
                for form, headers in (("sse", {}), ("ndjson", NDJSON)):
                    for output in (True, False):
                        query = {"starting_after": cursor, "include_output": output, "coalesce_ms": 0}
                        response = await http.get(f"{path}/stream", params=query, headers=headers)
                        answers[f"{number}/{form}/{cursor}/{output}"] = normal(response.content)
        more: dict[str, str] = {}
        while True:
            page = await http.get("/v1/runs", params={"limit": 100, "include": "output", **more})
            answers[f"list/{len(more)}"] = normal(page.content)
            if not page.json()["has_more"]:
                break
            more = {"after": page.json()["last_id"]}
        logs = (await http.get("/v1/swarm/logs")).content
        answers["logs"] = normal(re.sub(rb'"timestamp":"[^"]*"\}$', b"", logs))
    return answers
