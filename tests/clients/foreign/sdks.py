"""Python's SDKs: the hosted API's `swarms-client`, and `openai`."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import openai
import swarms_client
from anyio import from_thread
from swarms_client import AsyncSwarmsClient, SwarmsClient

from tests.clients.foreign.stage import EVENTS, NAMES, TEXT, WAIT_SECONDS, WORDS, ReceivedEvents, Report, Stage, payload

ErrorT = TypeVar("ErrorT", bound=Exception)

ATTEMPT_SECONDS = 1.0
"""A client's timeout that is meant to be too short."""
_AGENT: Any = {"agent_name": "Judge", "system_prompt": "Judge"}
_ALONE = 2 + 1 + len(WORDS) + 1 + 2
"""Events of one agent's run."""


def _team(task: str, **fields: Any) -> Any:
    """As the SDK's arguments are named: it knows no `stream_options`."""
    fields_sent = payload(task, swarm_type="AgentRearrange", **fields)
    return {name: value for name, value in fields_sent.items() if name not in ("stream_options", "stream")}


def _by_lines(lines: Any) -> ReceivedEvents:
    received, fields = ReceivedEvents(), dict[str, str]()
    for line in lines:
        name, _, value = line.partition(": ")
        fields[name] = value
        if name == "data":
            received.add(fields["id"], fields["event"], json.loads(value))
    return received


def _refusal(call: Callable[[], object], error: type[ErrorT]) -> ErrorT:
    """What a call that must be refused raises."""
    try:
        call()
    except error as refusal:
        return refusal
    raise AssertionError("not refused")


def try_swarms_client(stage: Stage) -> Report:
    report = Report("swarms-client")
    options: Any = {"api_key": stage.key, "base_url": stage.url, "timeout": WAIT_SECONDS}
    with SwarmsClient(**options) as client:
        for what, call in (
            ("get_root", client.get_root),
            ("health.check", client.health.check),
            ("models.list_available", client.models.list_available),
            ("swarms.check_available", client.swarms.check_available),
            ("swarms.get_logs", client.swarms.get_logs),
        ):
            with report.trying(what):
                assert call() is not None
        with report.trying("agent.run"):
            answer: Any = client.agent.run(agent_config=_AGENT, task="swarms-agent", img=None, history=None)
            assert answer["outputs"][-1]["content"] == TEXT, answer
            stage.check_calls("swarms-agent", calls=1)
        with report.trying("swarms.run"):
            answer = client.swarms.run(**_team("swarms-team"))
            assert {entry["role"]: entry["content"] for entry in answer["output"]} == dict.fromkeys(NAMES, TEXT)
            stage.check_calls("swarms-team")
        with report.trying("swarms.run, streamed, iter_lines"):
            with client.swarms.with_streaming_response.run(**_team("swarms-stream"), stream=True) as response:
                _by_lines(response.iter_lines()).check()
            stage.check_calls("swarms-stream")
        with report.trying("its Stream over both routes"):
            for path, body, events in (
                ("/v1/agent/completions", {"agent_config": _AGENT, "task": "swarms-events-1", "stream": True}, _ALONE),
                ("/v1/swarm/completions", payload("swarms-events-2"), EVENTS),
            ):
                stream: Any = client.post(
                    path, cast_to=object, body=body, stream=True, stream_cls=swarms_client.Stream[object]
                )
                assert len(list(stream)) == events
        with report.trying("a wrong key, a wrong request"):
            stranger = client.copy(api_key="wrong")
            assert "key" in str(_refusal(stranger.swarms.get_logs, swarms_client.AuthenticationError).body)
            nobody = _refusal(lambda: client.swarms.run(agents=[], task="go"), swarms_client.BadRequestError)
            assert "agent" in str(nobody.body)
        with report.trying("client.rate.get_limits"):
            limits: Any = client.client.rate.get_limits()
            assert limits["tier"] == "unlimited"
        missing = swarms_client.NotFoundError
        batch: Any = {"agent_config": _AGENT, "task": "swarms-batch"}
        report.missing("agent.batch.run", lambda: client.agent.batch.run(body=[batch]), missing)
        report.missing("swarms.batch.run", lambda: client.swarms.batch.run(body=[_team("swarms-batch")]), missing)
        with report.trying(f"a timeout of {ATTEMPT_SECONDS:g} s on a longer run, with an Idempotency-Key: one run"):
            _try_timeout(stage, options)
        with report.trying("in the background, asked for until it has ended"):
            begun: Any = client.agent.run(
                agent_config=_AGENT, task="swarms-background", extra_body={"background": True}
            )
            _until_over(client, begun["job_id"])
    with report.trying("AsyncSwarmsClient"):
        from_thread.run(_try_async, options)
    return report


def _try_timeout(stage: Stage, options: Any) -> None:
    """The answer is held back until the client has given its first attempt up, and made another."""
    task = "swarms-timeout"
    with stage.cutting(task, is_enough=lambda proxy: proxy.posts >= 2) as url:
        impatient: Any = {**options, "base_url": url, "timeout": ATTEMPT_SECONDS, "max_retries": 10}
        with SwarmsClient(**impatient) as client:
            answer: Any = client.agent.run(agent_config=_AGENT, task=task, extra_headers={"Idempotency-Key": task})
    assert answer["outputs"][-1]["content"] == TEXT
    stage.check_calls(task, calls=1)


def _until_over(client: SwarmsClient, job_id: str) -> None:
    for _ in range(10_000):
        run: Any = client.get(f"/v1/runs/{job_id}", cast_to=object)
        if run["status"] != "running":
            assert (run["status"], run["output"][-1]["content"]) == ("success", TEXT), run
            return
    raise TimeoutError(f"the run {job_id} does not end")


async def _try_async(options: Any) -> None:
    async with AsyncSwarmsClient(**options) as client:
        with anyio.fail_after(WAIT_SECONDS):
            answer: Any = await client.agent.run(agent_config=_AGENT, task="swarms-async")
    assert answer["outputs"][-1]["content"] == TEXT


def try_openai(stage: Stage) -> Report:
    report = Report("openai")
    options: Any = {"base_url": f"{stage.url}/v1", "timeout": WAIT_SECONDS, "max_retries": 0}
    with openai.OpenAI(api_key=stage.key, **options) as client:
        with report.trying("models.list"):
            models = [model.id for model in client.models.list()]
            assert any(model.startswith("gpt-") for model in models), models
            assert len(set(models)) == len(models)
        with report.trying("models.retrieve"):
            assert client.models.retrieve("openai/gpt-4.1").id == "openai/gpt-4.1"
        report.missing(
            "chat.completions.create",
            lambda: client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "hi"}]),
            openai.NotFoundError,
        )
        with report.trying("post, streamed"):
            body = {"agent_config": _AGENT, "task": "openai-stream", "stream": True}
            stream: Any = client.post(
                "/agent/completions", cast_to=object, body=body, stream=True, stream_cls=openai.Stream[object]
            )
            text = "".join(event["content"] for event in stream if "content" in event)
            assert text == TEXT, text
            stage.check_calls("openai-stream", calls=1)
        with report.trying("a wrong key, a wrong request"):
            stranger = _refusal(client.copy(api_key="wrong").models.list, openai.AuthenticationError)
            assert stranger.code == "invalid_api_key"
            assert stranger.request_id
            empty: dict[str, Any] = {"agents": [], "task": "go"}
            nobody = _refusal(
                lambda: client.post("/swarm/completions", cast_to=object, body=empty), openai.BadRequestError
            )
            assert (nobody.code, nobody.type) == ("invalid_request", "invalid_request_error")
    return report
