"""The tables and figures of README and docs/ are those of the code."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import get_type_hints

import pytest
from pydantic import BaseModel

from swarmstream.api.catalog_shapes import (
    ModelDetail,
    ModelsAvailable,
    SwarmsAvailable,
    SwarmTypeDetail,
    ToolDetail,
    ToolsAvailable,
)
from swarmstream.api.openapi.frames import AGENT_FRAMES, SWARM_FRAMES
from swarmstream.api.runs import MAX_RUNS_LISTED
from swarmstream.api.stream_tokens import TOKEN_SECONDS
from swarmstream.engine.handoff import MAX_HANDOFFS_IN_A_ROW
from swarmstream.engine.planning import MAX_CALLS, MAX_CALLS_PER_SUBTASK, MAX_PLAN_TRIES
from swarmstream.engine.subtasks import MAX_SUBTASKS
from swarmstream.errors import AppError
from swarmstream.journal.idempotency import IDEMPOTENCY_KEY_SECONDS
from swarmstream.settings import API_KEYS_FILE_VARIABLE, ENV_PREFIX, KEY_VARIABLE, Settings
from swarmstream.swarm.payloads import AgentRequest, AgentSpec, RunSpec, StreamOptions, SwarmRequest
from swarmstream.swarm.swarm_types import SWARM_TYPES
from swarmstream.tools.base import DEFAULT_TIMEOUT_SECONDS, MAX_OUTPUT_BYTES
from swarmstream.tools.builtin.offered import BUILTIN_TOOLS
from swarmstream.wire.shapes.answers import AgentAnswer, QueuedRun, SwarmAnswer
from swarmstream.wire.shapes.runs import RunAnswer, RunList, StreamToken, SwarmLog, SwarmLogs
from tests.conftest import client, serving
from tests.docs.pages import EVERYTHING, PAGES, blocks, quoted, section, table

pytestmark = pytest.mark.anyio

AGENT = {"agent_name": "A"}


def _shown(default: object) -> str:
    if default in (None, (), {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert table("operations", "variable") == [
        [f"`{ENV_PREFIX}{name.upper()}`", _shown(field.default), field.description]
        for name, field in Settings.model_fields.items()
    ]


def test_no_other_variable_of_ours_is_mentioned() -> None:
    mentioned = set(re.findall(rf"{ENV_PREFIX}\w+", EVERYTHING))
    assert mentioned == {
        KEY_VARIABLE,
        API_KEYS_FILE_VARIABLE,
        *(f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields),
    }


@pytest.mark.promise("W-50")
def test_the_table_of_events_is_that_of_the_code() -> None:
    rows = {quoted(name)[0]: quoted(fields) for name, _, fields in table("streaming", "event")}
    assert rows.keys() == SWARM_FRAMES.keys()
    for name, fields in rows.items():
        assert fields
        assert set(fields) <= get_type_hints(SWARM_FRAMES[name]).keys()
    assert {"outputs", "complete"} <= get_type_hints(AGENT_FRAMES["end"]).keys()


def _kinds(kind: type[AppError]) -> Iterator[type[AppError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _kinds(subclass)


@pytest.mark.promise("W-59")
async def test_the_table_of_codes_is_that_of_the_code() -> None:
    documented = {
        code: (int(status), retryable)
        for codes, status, retryable, _ in table("errors", "code")
        for code in quoted(codes)
    }
    own: dict[str, tuple[int, str]] = {}
    for kind in _kinds(AppError):
        # A subclass that shares its parent's code is told apart in the row's words.
        if "code" in vars(kind):
            # So is the run's error of a refusal's code.
            own.setdefault(kind.code, (kind.status, "yes" if kind.retryable else "no"))
    async with serving() as url, client(url) as http:
        framework = [
            await http.post("/v1/swarm/completions", json={"agents": 1}),
            await http.get("/v1/swarm/completions"),
        ]
    for answer in framework:
        own.setdefault(answer.json()["code"], (answer.status_code, "no"))
    assert documented == own


def test_the_table_of_run_options_is_that_of_the_code() -> None:
    documented = {quoted(option)[0]: json.loads(quoted(default)[0]) for option, default, _ in table("swarms", "option")}
    assert documented.keys() == RunSpec.model_fields.keys() - {"img", "imgs", "history", "tools_enabled"}
    assert RunSpec.model_validate(documented) == RunSpec()


def test_the_table_of_swarm_types_is_that_of_the_code() -> None:
    assert [quoted(name)[0] for name, _ in table("swarms", "`swarm_type`")] == list(SWARM_TYPES)


# --- Claims ---------------------------------------------------------------------------------------------------------


async def test_parts_that_are_not_there_yet_have_no_route_and_are_refused_with_a_hint() -> None:
    text = section("migrating", "Not there yet")
    assert "No batches, no `/v1/chat/completions`, no rate limits." in text
    async with serving(default_model="demo/swarm") as url, client(url) as http:
        missing = [
            await http.post("/v1/chat/completions", json={}),
            await http.post("/v1/swarm/batch/completions", json=[]),
            await http.post("/v1/agent/batch/completions", json=[]),
        ]
        limits = (await http.get("/v1/rate/limits")).json()
    assert [answer.status_code for answer in missing] == [404] * 3
    assert all("is not a route of this server; POST /v1/" in answer.json()["detail"] for answer in missing)
    assert f"with {limits['limits']['maximum_requests_per_minute']} for each limit" in text


async def test_the_table_of_routes_is_that_of_the_code() -> None:
    documented = {quoted(route)[0] for route, _ in table("runs", "route")}
    async with serving() as url, client(url) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    own = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if "/runs" in path}
    assert documented == own | {"GET /v1/swarm/logs"}


async def test_the_bounds_of_lists_and_keys_are_those_of_the_code() -> None:
    text = PAGES["runs"]
    assert f"`?limit=` (20, at most {MAX_RUNS_LISTED})" in text
    assert f"A token lets its page connect for {TOKEN_SECONDS} s" in text
    assert f"until {TOKEN_SECONDS} s after the run's end" in text
    assert f"within {IDEMPOTENCY_KEY_SECONDS / 3600:g} hours" in text
    assert f"up to {Settings.model_fields['retain_bytes'].default >> 30} GiB" in text


async def test_the_documented_error_body_equals_the_answer_to_a_wrong_flow() -> None:
    [shown] = [json.loads(block) for block in blocks("errors", "json")]
    async with serving(default_model="demo/swarm") as url, client(url) as http:
        answer = await http.post(
            "/v1/swarm/completions", json={"task": "go", "rearrange_flow": "A,,B", "agents": [AGENT]}
        )
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {**shown, "request_id": answer.headers["x-request-id"]}


@pytest.mark.parametrize(
    ("page", "model", "field", "sentence"),
    [
        ("README", Settings, "port", "listens on http://127.0.0.1:{}"),
        ("models", Settings, "default_model", f"`{ENV_PREFIX}DEFAULT_MODEL`, which is `{{}}`"),
        ("streaming", Settings, "heartbeat_seconds", "After {:g} s of silence comes a comment"),
        ("operations", Settings, "heartbeat_seconds", "the heartbeat every {:g} s stays below"),
        ("streaming", Settings, "heartbeat_seconds", "there is a heartbeat every {:g}\n"),
        ("swarms", Settings, "disconnect_grace_seconds", "no new agent starts, and {:g} s later the run is cancelled"),
        ("runs", Settings, "disconnect_grace_seconds", "by default the run waits {:g} s for one to come back"),
        ("runs", Settings, "send_seconds", "A reader that takes nothing for {:g} s counts as gone"),
        ("runs", Settings, "retain_seconds", "Finished runs are kept for {:,g} s"),
        ("runs", Settings, "data_dir", "in the data directory, `{}` by default"),
        ("operations", Settings, "drain_seconds", "Runs get {:g} s to finish"),
        ("errors", Settings, "first_token_seconds", "{:g} s to the first token"),
        ("errors", Settings, "idle_seconds", "{:g} s of silence"),
        ("errors", Settings, "turn_seconds", "{:g} s for a turn with its retries"),
        ("errors", Settings, "run_seconds", "{:,g} s for a run"),
        ("swarms", AgentSpec, "max_tokens", "`max_tokens` ({})"),
        ("swarms", AgentSpec, "num_retries", "`num_retries` ({}, at most 5)"),
    ],
)
def test_defaults_in_sentences_are_those_of_the_code(
    page: str, model: type[BaseModel], field: str, sentence: str
) -> None:
    assert sentence.format(model.model_fields[field].default) in PAGES[page]


def test_bounds_in_sentences_are_those_of_the_code() -> None:
    bounds = f"At most {MAX_SUBTASKS} subtasks, {MAX_CALLS_PER_SUBTASK} calls for each, {MAX_CALLS} in all."
    assert bounds in PAGES["tools"]
    assert f"Without a plan after {MAX_PLAN_TRIES} tries" in PAGES["tools"]
    assert f"At most {MAX_HANDOFFS_IN_A_ROW} in a row." in PAGES["tools"]
    assert f"({DEFAULT_TIMEOUT_SECONDS:g} s unless `@tool` says otherwise)" in PAGES["tools"]
    assert f"Results are cut at {MAX_OUTPUT_BYTES // 1024} kB." in PAGES["tools"]
    assert f"**Built in**: {', '.join(f'`{name}`' for name in list(BUILTIN_TOOLS)[:-1])} and" in PAGES["tools"]


# --- The contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload", [AgentSpec, AgentRequest, SwarmRequest, StreamOptions], ids=lambda each: each.__name__
)
def test_the_contract_names_every_field_that_a_request_may_have(payload: type[BaseModel]) -> None:
    assert set(payload.model_fields) - set(quoted(section("wire", "2. Requests"))) == set()


@pytest.mark.parametrize(
    "answer", [AgentAnswer, SwarmAnswer, QueuedRun, SwarmLogs, SwarmLog], ids=lambda each: each.__name__
)
def test_the_contract_names_every_field_of_an_answer(answer: type) -> None:
    text = section("wire", "3. JSON answers")
    assert {name for name in get_type_hints(answer) if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize(
    "catalog",
    [SwarmsAvailable, SwarmTypeDetail, ModelsAvailable, ModelDetail, ToolsAvailable, ToolDetail],
    ids=lambda each: each.__name__,
)
def test_the_contract_names_every_field_of_a_catalog(catalog: type[BaseModel]) -> None:
    assert set(catalog.model_fields) - set(re.findall(r"\w+", section("wire", "3. JSON answers"))) == set()


@pytest.mark.promise("W-70")
@pytest.mark.parametrize("run", [RunAnswer, RunList, StreamToken], ids=lambda each: each.__name__)
def test_the_contract_names_every_field_of_a_run(run: type) -> None:
    assert set(get_type_hints(run)) - set(re.findall(r"\w+", section("wire", "5. Runs"))) == set()


@pytest.mark.parametrize("frames", [SWARM_FRAMES, AGENT_FRAMES], ids=["swarm", "agent"])
def test_the_contract_names_every_field_of_every_event(frames: Mapping[str, type]) -> None:
    of_all = {"t", *re.findall(r"\w+", section("wire", "3. JSON answers"))}
    text = {quoted(name)[0]: set(quoted(fields)) for name, _, fields in table("streaming", "event")}
    for line in section("wire", "4. The event stream").splitlines():
        if (beyond := re.match(r"- `(\w+)`", line)) and beyond[1] in frames:
            text.setdefault(beyond[1], set()).update(quoted(line))
    text.setdefault("usage", set()).update(of_all)
    missing = {name: set(get_type_hints(frame)) - text.get(name, set()) - {"t"} for name, frame in frames.items()}
    assert {name: fields for name, fields in missing.items() if fields} == {}
