"""Fields that models refuse: left out of the next request, remembered, and named to the client."""

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from swarmstream.engine.omissions import MAX_MODELS, REMEMBERED_SECONDS, Omissions, RefusedFields
from swarmstream.errors import ProviderRejected
from swarmstream.events import TurnEnded, Usage
from swarmstream.journal.codec import pack, unpack
from swarmstream.llm.base import Sampling
from swarmstream.llm.http.status import status_error
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.traits import Traits
from tests.clients.sse import check_stream, events_of
from tests.conftest import client, serving
from tests.fakes.clock import DrivenClock
from tests.fakes.local_models import PROVIDER_KEY, local_models
from tests.fakes.upstream import Exchange, provider

pytestmark = [pytest.mark.anyio, pytest.mark.noisy]

ASKED: dict[str, Any] = {
    "temperature": 0.5,
    "reasoning_effort": "max",
    "llm_args": {"top_p": 0.9, "seed": 3, "stop": ["x"]},
}


def refusing(*fields: str, status: int = 400) -> Any:
    """A provider's script: it refuses a request that has one of these fields, and names it."""

    async def script(exchange: Exchange) -> None:
        for field in fields:
            if field in exchange.body:
                message = f"Unsupported parameter: '{field}' is not supported with this model. {PROVIDER_KEY}"
                await exchange.refuse(status, json.dumps({"error": {"message": message, "param": field}}).encode())
                return
        await exchange.open()
        await exchange.say("hello")
        await exchange.finish()

    return script


async def post(http: httpx.AsyncClient, **agent: Any) -> dict[str, Any]:
    spec = {"agent_name": "A", "model_name": "m", "num_retries": 0, **agent}
    response = await http.post("/v1/agent/completions", json={"agent_config": spec, "task": "go"})
    return response.json()


@pytest.mark.parametrize("lane", ["direct", "litellm"])
async def test_a_field_that_the_provider_refuses_by_name_is_left_out_with_a_warning(lane: str, tmp_path: Path) -> None:
    async with (
        provider(refusing("temperature", "seed")) as upstream,
        local_models(upstream, tmp_path, lane=lane) as url,
        client(url) as http,
    ):
        with anyio.fail_after(60):
            first = await post(http, **ASKED)
            again = await post(http, **ASKED)
            other = await post(http, llm_args={"top_p": 0.2})
        bodies = [exchange.body for exchange in upstream.exchanges]
    assert first["outputs"][0]["content"] == again["outputs"][0]["content"] == "hello"
    assert [{"temperature", "seed"} & set(body) for body in bodies] == [
        {"temperature", "seed"},
        {"seed"},
        set(),
        set(),
        set(),
    ]
    assert all(body["top_p"] and body["stop"] == ["x"] for body in bodies[:4]), "nothing else is left out"
    assert first["warnings"] == ['"m" refused temperature: it was not sent', '"m" refused seed: it was not sent']
    assert sorted(again["warnings"]) == [
        '"m" has lately refused seed: it was not sent',
        '"m" has lately refused temperature: it was not sent',
    ]
    assert other["warnings"] == []
    assert PROVIDER_KEY not in json.dumps([first, again])


async def test_a_refusal_by_litellm_itself_counts_like_a_providers(tmp_path: Path) -> None:
    aliases = tmp_path / "models.toml"
    async with provider(refusing()) as upstream:
        aliases.write_text(
            f'[m]\nmodel = "perplexity/local"\nlane = "litellm"\napi_base = "{upstream.base_url}"\napi_key_env = "K"\n'
        )
        async with serving(models_file=aliases, environ={"K": "k" * 20}, preload=True) as url, client(url) as http:
            with anyio.fail_after(60):
                answer = await post(http, llm_args={"seed": 3, "top_p": 0.9})
        [exchange] = upstream.exchanges
    assert answer["outputs"][0]["content"] == "hello"
    assert answer["warnings"] == ['"m" refused seed: it was not sent']
    assert exchange.body["top_p"] == 0.9


async def test_late_warnings_are_in_agent_end_and_in_every_replay_of_it(tmp_path: Path) -> None:
    agents = [{"agent_name": name, "model_name": "m", "temperature": 0.5} for name in "AB"]
    payload = {"task": "go", "agents": agents, "unheard_of": 1, "stream": True}
    async with (
        provider(refusing("temperature")) as upstream,
        local_models(upstream, tmp_path, data_dir=tmp_path / "runs") as url,
        client(url) as http,
    ):
        with anyio.fail_after(60):
            async with http.stream("POST", "/v1/swarm/completions", json=payload) as response:
                events = [event async for event in events_of(response)]
            path = f"/v1/runs/{events[0].data['job_id']}/stream"
            async with http.stream("GET", path) as response:
                replayed = [event async for event in events_of(response)]
    check_stream(events)
    ends = [event.data["warnings"] for event in events if event.event == "agent_end"]
    assert ends == [
        ['"m" refused temperature: it was not sent'],
        ['"m" has lately refused temperature: it was not sent'],
    ]
    assert events[0].data["warnings"] == ["unknown field unheard_of"]
    assert replayed == events


async def test_agent_end_has_no_warnings_field_without_warnings(tmp_path: Path) -> None:
    agent = {"agent_name": "A", "model_name": "m"}
    async with provider(refusing()) as upstream, local_models(upstream, tmp_path) as url, client(url) as http:
        payload = {"agent_config": agent, "task": "go", "stream": True}
        async with http.stream("POST", "/v1/agent/completions", json=payload) as response:
            events = [event async for event in events_of(response)]
    [end] = [event.data for event in events if event.event == "agent_end"]
    assert "warnings" not in end


async def test_asking_again_without_a_field_counts_as_a_model_call_and_not_as_a_retry(tmp_path: Path) -> None:
    async with (
        provider(refusing("temperature", "top_p", "seed")) as upstream,
        local_models(upstream, tmp_path, max_calls=3) as url,
        client(url) as http,
    ):
        with anyio.fail_after(60):
            failed = await post(http, num_retries=0, **ASKED)
            assert failed["code"] == "limit_exceeded"
            assert len(upstream.exchanges) == 3
            answer = await post(http, num_retries=0, temperature=0.5, llm_args={"top_p": 0.9})
    assert answer["outputs"][0]["content"] == "hello"
    assert len(upstream.exchanges) == 6, "what was not proved to help was not remembered"


@pytest.mark.parametrize(
    ("fields", "status"), [(["stop"], 400), (["max_tokens"], 400), (["temperature"], 404), (["temperature"], 500)]
)
async def test_other_fields_and_other_refusals_are_not_retried(fields: list[str], status: int, tmp_path: Path) -> None:
    async with (
        provider(refusing(*fields, status=status)) as upstream,
        local_models(upstream, tmp_path) as url,
        client(url) as http,
    ):
        with anyio.fail_after(60):
            answer = await post(http, **ASKED)
    assert answer["code"] in ("provider_rejected", "provider_error")
    assert len(upstream.exchanges) == 1


async def test_a_field_that_is_not_in_the_request_is_not_left_out_again(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.refuse(400, b'{"error": {"message": "temperature and seed are not supported"}}')

    async with provider(script) as upstream, local_models(upstream, tmp_path) as url, client(url) as http:
        with anyio.fail_after(60):
            assert (await post(http))["code"] == "provider_rejected"
            assert len(upstream.exchanges) == 1
            assert (await post(http, temperature=0.5))["code"] == "provider_rejected"
            assert len(upstream.exchanges) == 3
            assert (await post(http, temperature=0.5))["code"] == "provider_rejected"
    assert len(upstream.exchanges) == 5, "nothing was remembered of what never worked"


# --- What is learnt -------------------------------------------------------------------------------------------------


def model(name: str = "m") -> ModelRef:
    return ModelRef(name, name, "direct")


def sampling(**set_fields: Any) -> Sampling:
    nothing: dict[str, Any] = dict.fromkeys(["temperature", "reasoning_effort", "thinking_tokens"])
    fields: dict[str, Any] = {"max_tokens": 1, "llm_args": {}, **nothing, **set_fields}
    return Sampling(**fields)


def refusal(*named: str, is_about_field: bool = True) -> ProviderRejected:
    error = ProviderRejected("no")
    error.named, error.is_about_field = named, is_about_field
    return error


def learnt(memory: RefusedFields, call_sampling: Sampling, *refusals: ProviderRejected) -> Omissions:
    """A turn whose call worked after these refusals."""
    turn = Omissions(call_sampling, memory)
    turn.begin()
    for each in refusals:
        assert turn.learn(model(), each)
    turn.confirm(model())
    return turn


def test_a_refused_value_is_left_out_for_that_value_alone() -> None:
    memory = RefusedFields(DrivenClock())
    learnt(memory, sampling(temperature=2.5), refusal("temperature", is_about_field=False))
    learnt(memory, sampling(reasoning_effort="max"), refusal("reasoning_effort"))
    for call_sampling, left in (
        (sampling(temperature=2.5), {"max_tokens"}),
        (sampling(temperature=0.5), {"max_tokens", "temperature"}),
        (sampling(reasoning_effort="max"), {"max_tokens"}),
        (sampling(reasoning_effort="high"), {"max_tokens", "reasoning_effort"}),
    ):
        assert set(call_sampling.fields(model(), Omissions(call_sampling, memory).of(model())).fields) == left


@pytest.mark.parametrize(
    "answer_body",
    [
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "`temperature` may only be set to 1 when thinking is enabled, not supported",
        "max_tokens must be greater than thinking.budget_tokens: unsupported",
    ],
)
def test_fields_that_are_refused_together_are_left_out_for_the_turn_only(answer_body: str) -> None:
    refused_together = status_error(400, None, answer_body)
    assert isinstance(refused_together, ProviderRejected)
    memory = RefusedFields(DrivenClock())
    call_sampling = sampling(temperature=0.5, thinking_tokens=3000)
    turn = learnt(memory, call_sampling, refused_together)
    assert turn.warnings, "the turn goes on without one of them"
    assert not memory.of(model())


def test_a_text_and_a_number_are_two_values() -> None:
    memory = RefusedFields(DrivenClock())
    learnt(memory, sampling(llm_args={"seed": "5"}), refusal("seed", is_about_field=False))
    call_sampling = sampling(llm_args={"seed": 5})
    assert call_sampling.fields(model(), Omissions(call_sampling, memory).of(model())).fields["seed"] == 5


def test_a_refused_budget_is_sent_as_an_effort_and_a_refused_effort_not_at_all() -> None:
    memory = RefusedFields(DrivenClock())
    call_sampling = sampling(thinking_tokens=3000)
    turn = learnt(memory, call_sampling, refusal("thinking"))
    assert call_sampling.fields(model(), turn.of(model())).fields == {"max_tokens": 1, "reasoning_effort": "medium"}
    assert turn.warnings == ('"m" refused thinking_tokens: reasoning_effort medium was sent instead',)
    turn = learnt(RefusedFields(DrivenClock()), call_sampling, refusal("thinking"), refusal("reasoning_effort"))
    assert turn.warnings[1] == '"m" refused reasoning_effort: it was not sent'
    assert call_sampling.fields(model(), turn.of(model())).fields == {"max_tokens": 1}


def test_refusals_are_remembered_for_an_hour_and_for_a_thousand_models() -> None:
    clock = DrivenClock()
    memory = RefusedFields(clock)
    memory.remember(model(), ["seed"])
    clock.stall(REMEMBERED_SECONDS - 1)
    assert memory.of(model()) == {"seed"}
    clock.stall(2)
    assert memory.of(model()) == set()
    for number in range(MAX_MODELS + 5):
        memory.remember(model(str(number)), ["seed"])
    assert len(memory) == MAX_MODELS
    assert not memory.of(model("4"))
    assert memory.of(model("5"))


def test_a_client_cannot_fill_the_memory_with_values_of_its_own() -> None:
    memory = RefusedFields(DrivenClock())
    memory.remember(model(), [f"reasoning_effort={'x' * 100}", *(f"temperature={number}" for number in range(100))])
    assert len(memory.of(model())) == 32
    assert all(len(mark) < 65 for mark in memory.of(model()))


def test_each_refused_field_costs_one_more_request() -> None:
    turn = Omissions(sampling(temperature=0.5), RefusedFields(DrivenClock()))
    assert turn.learn(model(), refusal("temperature"))
    assert not turn.learn(model(), refusal("temperature"))
    assert not turn.learn(model(), refusal("seed"))


def test_fields_that_the_model_table_leaves_out_are_not_warned_of_again() -> None:
    memory = RefusedFields(DrivenClock())
    memory.remember(model(), ["temperature"])
    known = ModelRef("m", "m", "direct", traits=Traits(refuses=frozenset(["temperature"])))
    turn = Omissions(sampling(temperature=0.5), memory)
    turn.of(known)
    assert turn.warnings == ()


def test_turns_stored_by_earlier_releases_have_no_warnings() -> None:
    """The bytes of a `TurnEnded` of the release before warnings."""
    now = TurnEnded(1, "A", 1, None, "m", "out", "success", "stop", Usage(), 0.5, warnings=("w",))
    assert unpack(pack([(1, 2, now)])) == [(1, 2, now)]
    old = msgspec.msgpack.decode(pack([(1, 2, now)]))
    del old[0][3]["warnings"]
    [(_, _, event)] = unpack(msgspec.msgpack.encode(old))
    assert isinstance(event, TurnEnded)
    assert event.warnings == ()
