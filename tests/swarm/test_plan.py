"""Payloads become plans, or are refused with the field that is wrong (docs/wire.md, section 2)."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from swarmstream.errors import (
    AppError,
    DuplicateAgent,
    FlowSyntaxError,
    InvalidRequest,
    LimitExceeded,
    NoCredentials,
    NoTask,
    UnknownAgent,
    UnknownModel,
    UnknownSwarmType,
    UnsupportedOption,
)
from swarmstream.llm.model_ref import ModelRegistry
from swarmstream.llm.registry import Registry
from swarmstream.swarm.compile import Compiled, compile_agent, compile_swarm
from swarmstream.swarm.limits import PlanLimits
from swarmstream.swarm.messages import Message
from swarmstream.swarm.payloads import AgentRequest, AgentSpec, SwarmRequest
from swarmstream.swarm.plan import Agent
from swarmstream.swarm.prompts import prompt as prompt_of
from tests.fakes.scripted_model import AnyModel

Loc = tuple[str | int, ...]

OPENAI = Registry(default_model="gpt-4.1-mini", environ={"OPENAI_API_KEY": "test"})
"""A registry with the real tables: gpt-4 writes at most 4,096 tokens, gpt-4.1-mini 32,768."""

OURS = ["SequentialWorkflow", "AgentRearrange", "ConcurrentWorkflow"]

LLM_ARGS = [
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
]

WITHOUT_EFFECT = [
    "use_cases",
    "tags",
    "capabilities",
    "category",
    "is_free",
    "price_usd",
]


def agents(*names: str) -> list[dict[str, Any]]:
    return [{"agent_name": name} for name in names]


def swarm_of(
    fields: dict[str, Any], *, models: ModelRegistry | None = None, limits: PlanLimits | None = None
) -> Compiled:
    """The plan of a swarm with these fields; without others it is two agents, one after another, with a task."""
    request = SwarmRequest.model_validate({"agents": agents("A", "B"), "task": "go", **fields})
    return compile_swarm(request, models or AnyModel(), limits or PlanLimits())


def agent_of(fields: dict[str, Any], *, models: ModelRegistry | None = None) -> Compiled:
    request = AgentRequest.model_validate({"agent_config": {"agent_name": "A"}, "task": "go", **fields})
    return compile_agent(request, models or AnyModel(), PlanLimits())


def one(spec: dict[str, Any], *, models: ModelRegistry | None = None, **fields: Any) -> Agent:
    """The agent that this spec becomes in a swarm."""
    compiled = swarm_of({"agents": [{"agent_name": "A", **spec}], **fields}, models=models)
    return compiled.plan.stages[0].agents[0]


def refused(error: type[AppError], fields: dict[str, Any], *, at: Loc, **options: Any) -> str:
    """What the swarm with these fields is refused with."""
    with pytest.raises(error) as caught:
        swarm_of(fields, **options)
    assert type(caught.value) is error
    assert caught.value.location == at
    return caught.value.detail


def agent_refused(error: type[AppError], fields: dict[str, Any], *, at: Loc, **options: Any) -> str:
    with pytest.raises(error) as caught:
        agent_of(fields, **options)
    assert type(caught.value) is error
    assert caught.value.location == at
    return caught.value.detail


def names(compiled: Compiled) -> list[list[str]]:
    return [[agent.name for agent in stage.agents] for stage in compiled.plan.stages]


def invalid_at(model: type[SwarmRequest | AgentRequest], payload: dict[str, Any]) -> list[Loc]:
    """Where a payload is of the wrong shape."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(payload)
    return [error["loc"] for error in caught.value.errors()]


# --- Kinds of swarms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "swarm_type", "stages"),
    [
        ({}, "SequentialWorkflow", [["A"], ["B"], ["C"]]),
        ({"swarm_type": "SequentialWorkflow"}, "SequentialWorkflow", [["A"], ["B"], ["C"]]),
        ({"swarm_type": "ConcurrentWorkflow"}, "ConcurrentWorkflow", [["A", "B", "C"]]),
        ({"rearrange_flow": "B, A -> C -> B"}, "AgentRearrange", [["B", "A"], ["C"], ["B"]]),
        ({"swarm_type": "AgentRearrange", "rearrange_flow": "C->A,B"}, "AgentRearrange", [["C"], ["A", "B"]]),
    ],
)
def test_each_kind_of_swarm_has_its_stages(fields: dict[str, Any], swarm_type: str, stages: list[list[str]]) -> None:
    compiled = swarm_of({"agents": agents("A", "B", "C"), **fields})
    assert compiled.swarm_type == swarm_type
    assert names(compiled) == stages
    assert compiled.plan.hears == ("previous_loop" if swarm_type == "ConcurrentWorkflow" else "everything")


@pytest.mark.promise("W-28")
@pytest.mark.parametrize("asked", ["MixtureOfAgents", "HierarchicalSwarm", "auto", "sequentialworkflow", " "])
def test_a_swarm_type_that_we_do_not_run_is_refused_with_those_that_we_do(asked: str) -> None:
    detail = refused(UnknownSwarmType, {"swarm_type": asked}, at=("swarm_type",))
    assert f'"{asked}"' in detail
    assert all(name in detail for name in OURS)


def test_a_long_swarm_type_is_quoted_in_part() -> None:
    assert len(refused(UnknownSwarmType, {"swarm_type": "x" * 5000}, at=("swarm_type",))) < 250


@pytest.mark.parametrize("given", [[], None])
def test_a_swarm_without_agents_is_refused(given: Any) -> None:
    refused(InvalidRequest, {"agents": given}, at=("agents",))
    with pytest.raises(InvalidRequest):
        compile_swarm(SwarmRequest(task="go"), AnyModel(), PlanLimits())


@pytest.mark.promise("W-23")
@pytest.mark.parametrize("twin", ["B", " B", "\tB\n"])
def test_two_agents_of_one_name_are_refused_at_the_second(twin: str) -> None:
    detail = refused(DuplicateAgent, {"agents": agents("A", "B", "C", twin)}, at=("agents", 3, "agent_name"))
    assert '"B"' in detail


@pytest.mark.parametrize(
    ("flow", "name", "column"),
    [("A -> Bx", "Bx", 6), ("A, b -> B", "b", 4), ("A -> B -> Nobody Here, A", "Nobody Here", 11)],
)
def test_a_flow_that_names_no_agent_is_refused_with_the_column(flow: str, name: str, column: int) -> None:
    detail = refused(UnknownAgent, {"rearrange_flow": flow}, at=("rearrange_flow",))
    assert f'"{name}"' in detail
    assert f"column {column})" in detail


def test_a_flow_that_cannot_be_read_is_refused_with_the_column() -> None:
    assert "(column 6)" in refused(FlowSyntaxError, {"rearrange_flow": "A -> -> B"}, at=("rearrange_flow",))


def test_a_rearrangement_without_a_flow_is_refused() -> None:
    refused(InvalidRequest, {"swarm_type": "AgentRearrange"}, at=("rearrange_flow",))
    refused(FlowSyntaxError, {"swarm_type": "AgentRearrange", "rearrange_flow": " "}, at=("rearrange_flow",))


def test_every_refusal_of_a_payload_is_the_clients_to_mend() -> None:
    refusals = [
        DuplicateAgent,
        FlowSyntaxError,
        InvalidRequest,
        LimitExceeded,
        NoCredentials,
        NoTask,
        UnknownAgent,
        UnknownModel,
        UnknownSwarmType,
        UnsupportedOption,
    ]
    assert {error.status for error in refusals} == {400}
    assert not any(error.retryable for error in refusals)
    assert len({error.code for error in refusals}) == len(refusals)


# --- The task -------------------------------------------------------------------------------------------------------

HI = {"role": "user", "content": "hi"}


@pytest.mark.promise("W-27")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"task": None, "tasks": None, "messages": None},
        {"task": ""},
        {"task": " \n\t"},
        {"tasks": []},
        {"messages": []},
        {"task": "", "tasks": [], "messages": []},
        {"img": "https://example.com/a.png"},
    ],
)
def test_a_swarm_with_nothing_to_do_is_refused(fields: dict[str, Any]) -> None:
    refused(NoTask, {"task": None, **fields}, at=("task",))


@pytest.mark.parametrize(("tasks", "index"), [([""], 0), (["one", " "], 1), (["one", "two", "\n", ""], 2)])
def test_an_empty_one_among_several_tasks_is_refused(tasks: list[str], index: int) -> None:
    refused(NoTask, {"task": None, "tasks": tasks}, at=("tasks", index))


def test_a_task_is_what_the_conversation_opens_with() -> None:
    plan = swarm_of({"task": " write\n"}).plan
    assert plan.openings == (({"role": "user", "content": " write\n"},),)
    assert plan.given_as == "task"


@pytest.mark.promise("W-27")
def test_task_wins_over_messages_and_tasks() -> None:
    compiled = swarm_of({"task": "go", "messages": [HI], "tasks": ["one"]})
    assert compiled.plan.openings == (({"role": "user", "content": "go"},),)
    assert compiled.plan.given_as == "task"
    assert compiled.warnings == ("messages ignored: task wins", "tasks ignored: task wins")
    assert swarm_of({"task": "go", "tasks": ["one"]}).plan.given_as == "task"


@pytest.mark.promise("W-27")
@pytest.mark.parametrize("task", [None, "", "  "])
def test_messages_win_over_tasks(task: str | None) -> None:
    compiled = swarm_of({"task": task, "messages": [HI, {"role": "assistant", "content": "ho"}], "tasks": ["one"]})
    assert compiled.plan.openings == (({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}),)
    assert compiled.plan.given_as == "task"
    assert compiled.warnings == ("tasks ignored: messages wins",)


def test_several_tasks_open_a_conversation_each() -> None:
    plan = swarm_of({"task": None, "tasks": ["one", "two"]}).plan
    assert plan.openings == (({"role": "user", "content": "one"},), ({"role": "user", "content": "two"},))
    assert plan.given_as == "tasks"
    assert swarm_of({"task": None, "tasks": ["one"]}).plan.given_as == "tasks"


@pytest.mark.parametrize("fields", [{}, {"task": ""}, {"task": " "}, {"task": None, "history": []}, {"history": {}}])
def test_an_agent_with_nothing_to_do_is_refused(fields: dict[str, Any]) -> None:
    agent_refused(NoTask, {"task": None, **fields}, at=("task",))


@pytest.mark.parametrize("as_given", ["list", "object"])
def test_an_agents_history_comes_before_its_task(as_given: str) -> None:
    messages: list[dict[str, Any]] = [HI, {"role": "assistant", "content": "ho"}]
    history = messages if as_given == "list" else {"second": messages[0], "first": messages[1]}
    (opening,) = agent_of({"history": history}).plan.openings
    assert [(message["role"], message["content"]) for message in opening] == [
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "go"),
    ]


@pytest.mark.promise("W-26")
@pytest.mark.parametrize("task", [None, " "])
def test_a_history_is_task_enough_for_an_agent(task: str | None) -> None:
    assert agent_of({"history": [HI], "task": task}).plan.openings == (({"role": "user", "content": "hi"},),)


def test_calls_of_tools_and_their_results_stay_in_the_history() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    history = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "42", "name": "f"},
    ]
    assert agent_of({"history": history}).plan.openings[0][:2] == (
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "42", "name": "f"},
    )


def test_only_what_belongs_to_a_message_is_handed_on() -> None:
    (opening,) = swarm_of({"task": None, "messages": [{**HI, "api_base": "https://evil.example"}]}).plan.openings
    assert opening == ({"role": "user", "content": "hi"},)


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_as_many_agents_as_the_limit_says_and_not_one_more() -> None:
    limits = PlanLimits(max_agents=2)
    assert names(swarm_of({"agents": agents("A", "B")}, limits=limits)) == [["A"], ["B"]]
    detail = refused(LimitExceeded, {"agents": agents("A", "B", "C")}, at=("agents",), limits=limits)
    assert "2 (SWARMSTREAM_MAX_AGENTS)" in detail


def test_as_many_stages_as_the_limit_says_and_not_one_more() -> None:
    limits = PlanLimits(max_stages=3)
    assert len(swarm_of({"rearrange_flow": "A -> B -> A"}, limits=limits).plan.stages) == 3
    refused(LimitExceeded, {"rearrange_flow": "A -> B -> A -> B"}, at=("rearrange_flow",), limits=limits)


@pytest.mark.parametrize(
    ("fields", "turns"),
    [
        ({"max_loops": 12}, 24),
        ({"max_loops": 3, "task": None, "tasks": ["one", "two"]}, 12),
        ({"rearrange_flow": "A, B -> A", "max_loops": 2}, 6),
        ({"swarm_type": "ConcurrentWorkflow", "max_loops": 2}, 4),
    ],
)
def test_as_many_turns_as_the_limit_says_and_not_one_more(fields: dict[str, Any], turns: int) -> None:
    assert swarm_of(fields, limits=PlanLimits(max_turns=turns)).plan.turns == turns
    detail = refused(LimitExceeded, fields, at=("max_loops",), limits=PlanLimits(max_turns=turns - 1))
    assert f"{turns} turns" in detail


# --- Options that we do not have ------------------------------------------------------------------------------------

AGENT_OPTIONS: list[tuple[str, Any]] = [
    ("response_format", {}),
    ("tools_list_dictionary", []),
    ("selected_tools", []),
    ("selected_tools", ""),
    ("mcp_url", ""),
    ("mcp_config", {}),
    ("mcp_configs", []),
    ("mcp_configs", {}),
    ("handoffs", []),
]


@pytest.mark.parametrize(("option", "empty"), AGENT_OPTIONS)
def test_an_option_of_an_agent_may_be_empty(option: str, empty: Any) -> None:
    for nothing in (empty, None):
        spec = {"agent_name": "B", option: nothing}
        assert swarm_of({"agents": [spec]}).warnings == ()
        assert agent_of({"agent_config": spec}).warnings == ()


def test_running_in_the_foreground_can_be_said_aloud() -> None:
    assert swarm_of({"background": False}).warnings == ()


@pytest.mark.promise("W-25")
@pytest.mark.parametrize("name", ["api_key", "api_base", "base_url", "model", "messages", "extra_headers", "Top_p"])
def test_llm_args_beyond_the_list_are_refused(name: str) -> None:
    detail = refused(
        UnsupportedOption,
        {"agents": [*agents("A"), {"agent_name": "B", "llm_args": {"seed": 1, name: "x"}}]},
        at=("agents", 1, "llm_args", name),
    )
    assert f'"{name}"' in detail
    assert all(allowed in detail for allowed in LLM_ARGS)


def test_llm_args_of_the_list_are_handed_on() -> None:
    wanted = {name: [name] for name in LLM_ARGS}
    assert one({"llm_args": wanted}).sampling.llm_args == wanted


# --- Models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "error", "field"),
    [
        ({"model_name": "nonsense"}, UnknownModel, ("model_name",)),
        ({"model_name": "claude-sonnet-4-5"}, NoCredentials, ("model_name",)),
        ({"fallbacks": ["gpt-4", "nonsense"]}, UnknownModel, ("fallbacks", 1)),
        ({"fallbacks": ["claude-sonnet-4-5"]}, NoCredentials, ("fallbacks", 0)),
    ],
)
def test_a_model_that_cannot_be_called_is_refused_where_it_is_named(
    spec: dict[str, Any], error: type[AppError], field: Loc
) -> None:
    spec = {"agent_name": "B", **spec}
    refused(error, {"agents": [*agents("A"), spec]}, at=("agents", 1, *field), models=OPENAI)
    agent_refused(error, {"agent_config": spec}, at=("agent_config", *field), models=OPENAI)


def test_a_default_model_that_cannot_be_called_is_refused_for_the_agent_that_needs_it() -> None:
    nothing = Registry(default_model="gpt-4.1-mini", environ={})
    detail = refused(
        NoCredentials,
        {"agents": [{"agent_name": "A", "model_name": "demo/swarm"}, {"agent_name": "B"}]},
        at=("agents", 1, "model_name"),
        models=nothing,
    )
    assert "OPENAI_API_KEY" in detail


def test_an_agents_models_are_its_own_or_the_default_then_its_fallbacks() -> None:
    def models(spec: dict[str, Any]) -> list[str]:
        return [model.name for model in one(spec).models]

    assert models({}) == ["default"]
    assert models({"model_name": "m"}) == ["m"]
    assert models({"fallbacks": ["x", "y"]}) == ["default", "x", "y"]


@pytest.mark.parametrize(
    ("spec", "max_tokens"),
    [
        ({"model_name": "gpt-4"}, 4096),
        ({"model_name": "gpt-4", "max_tokens": None}, 4096),
        ({"model_name": "gpt-4", "max_tokens": 8192}, 8192),
        ({"model_name": "gpt-4", "max_tokens": 5000}, 5000),
        ({"model_name": "gpt-4", "max_tokens": 1}, 1),
        ({"model_name": "gpt-4.1-mini"}, 8192),
        ({"model_name": "gpt-4.1-mini", "max_tokens": 32768}, 32768),
        ({"model_name": "openai/that-no-table-knows"}, 8192),
    ],
)
def test_max_tokens_is_lowered_to_what_the_model_can_only_where_it_is_not_given(
    spec: dict[str, Any], max_tokens: int
) -> None:
    agent = one(spec, models=OPENAI)
    assert agent.sampling.max_tokens_for(agent.models[0]) == max_tokens


# --- Agents ---------------------------------------------------------------------------------------------------------


def test_an_agent_that_says_nothing_of_itself_has_the_contracts_defaults() -> None:
    agent = one({})
    assert agent.system_prompt is None
    assert (agent.max_retries, agent.timeout_seconds) == (2, None)
    assert (agent.sampling.max_tokens_for(agent.models[0]), agent.sampling.temperature) == (8192, None)
    assert (agent.sampling.reasoning_effort, agent.sampling.thinking_tokens) == (None, None)
    assert agent.sampling.llm_args == {}
    assert swarm_of({}).plan.loops == 1


def test_what_an_agent_says_of_itself_reaches_its_plan() -> None:
    spec = {
        "temperature": 0,
        "max_tokens": 7,
        "reasoning_effort": "low",
        "thinking_tokens": 1024,
        "num_retries": 0,
        "timeout": 2.5,
    }
    agent = one(spec)
    assert agent.sampling.temperature == 0
    assert agent.sampling.max_tokens == 7
    assert (agent.sampling.reasoning_effort, agent.sampling.thinking_tokens) == ("low", 1024)
    assert (agent.max_retries, agent.timeout_seconds) == (0, 2.5)


@pytest.mark.parametrize(
    ("rules", "prompt", "told"),
    [
        ("Be kind.", "You are A.", "Be kind.\n\nYou are A."),
        ("Be kind.", None, "Be kind."),
        ("Be kind.", "", "Be kind."),
        (None, "You are A.", "You are A."),
        ("", "You are A.", "You are A."),
        (None, None, None),
        ("", "", None),
    ],
)
def test_rules_come_before_every_system_prompt(rules: str | None, prompt: str | None, told: str | None) -> None:
    agent = one({"system_prompt": prompt}, rules=rules)
    messages = prompt_of(agent="A", rules=agent.rules, system_prompt=agent.system_prompt, opening=(), transcript=())
    assert messages == ([{"role": "system", "content": told}] if told else [])


def test_rules_are_one_text_for_all_agents() -> None:
    """A copy for each would make gigabytes of a request of a megabyte."""
    rules = "Be kind."
    compiled = swarm_of({"agents": [{"agent_name": "A", "handoffs": agents("C")}, *agents("B")], "rules": rules})
    first, second = (stage.agents[0] for stage in compiled.plan.stages)
    assert all(agent.rules is rules for agent in (first, second, *first.handoffs))


# --- Images ---------------------------------------------------------------------------------------------------------

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(60)).decode()

IMAGES = [
    ("https://example.com/a.png", "https://example.com/a.png"),
    ("HTTP://example.com/a", "HTTP://example.com/a"),
    (" https://example.com/a.png\n", "https://example.com/a.png"),
    (f"data:image/png;base64,{PNG}", f"data:image/png;base64,{PNG}"),
    (f"data:image/svg+xml;base64,{PNG}", f"data:image/svg+xml;base64,{PNG}"),
    (PNG, f"data:image/png;base64,{PNG}"),
    (JPEG, f"data:image/jpeg;base64,{JPEG}"),
    (f"{JPEG}\n", f"data:image/jpeg;base64,{JPEG}"),
]

NOT_IMAGES = [
    "/etc/passwd",
    "/srv/images/cat.png",
    "cat.png",
    "../../cat.png",
    "C:\\images\\cat.png",
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "gs://bucket/a.png",
    "javascript:alert(1)",
    "//example.com/a.png",
    "https://",
    "https:///etc/passwd",
    "https:// example.com",
    "data:text/html;base64,PGI+",
    f"data:image/png,{PNG}",
    f"data:application/pdf;base64,{PNG}",
    base64.b64encode(b"just some text, no image").decode(),
    "iVBORw0KG",
    f"{PNG}!",
    f"/tmp/x {PNG}",
    "   ",
    "日本",
]


@pytest.mark.parametrize(("given", "url"), IMAGES)
def test_an_image_goes_with_the_task(given: str, url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    told = {"role": "user", "content": [{"type": "text", "text": "go"}, image]}
    assert swarm_of({"img": given}).plan.openings == ((told,),)
    assert agent_of({"img": given}).plan.openings == ((told,),)
    both = agent_of({"img": given, "imgs": [given]}).plan.openings[0][0]
    assert both["content"] == [{"type": "text", "text": "go"}, image, image]


@pytest.mark.parametrize("given", NOT_IMAGES)
def test_what_is_no_image_is_refused_wherever_it_stands(given: str) -> None:
    good = "https://example.com/a.png"
    part = {"type": "image_url", "image_url": {"url": given}}
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, part]}
    assert "image" in refused(InvalidRequest, {"img": given}, at=("img",))
    agent_refused(InvalidRequest, {"img": given}, at=("img",))
    agent_refused(InvalidRequest, {"imgs": [good, given]}, at=("imgs", 1))
    agent_refused(InvalidRequest, {"history": [HI, message]}, at=("history", 1, "content", 1))
    refused(InvalidRequest, {"task": None, "messages": [message]}, at=("messages", 0, "content", 1))


def test_an_image_is_not_repeated_in_a_refusal() -> None:
    assert "secret" not in refused(InvalidRequest, {"img": "/home/secret/cat.png"}, at=("img",))


def test_no_image_is_asked_for_with_an_empty_string() -> None:
    opening = ({"role": "user", "content": "go"},)
    assert swarm_of({"img": ""}).plan.openings == (opening,)
    assert agent_of({"img": "", "imgs": ["", ""]}).plan.openings == (opening,)


def test_an_image_follows_messages_and_goes_with_each_of_several_tasks() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    messages = swarm_of({"task": None, "messages": [HI], "img": "https://example.com/a.png"}).plan.openings
    assert messages == (({"role": "user", "content": "hi"}, {"role": "user", "content": [image]}),)
    tasks = swarm_of({"task": None, "tasks": ["one", "two"], "img": "https://example.com/a.png"}).plan.openings
    assert [opening[0]["content"][1] for opening in tasks] == [image, image]


def test_an_agents_images_need_a_task() -> None:
    agent_refused(NoTask, {"task": None, "history": [HI], "img": "https://example.com/a.png"}, at=("task",))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "text", "text": "see"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ],
)
def test_parts_of_messages_are_handed_on_as_they_came(part: dict[str, Any]) -> None:
    message = {"role": "user", "content": [part]}
    assert agent_of({"history": [message]}).plan.openings[0][0] == message


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": "/etc/passwd"}},
        {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}},
        {"type": "document"},
        {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}},
        {"type": None},
        {"type": 1},
        {"type": ["text"]},
        {"type": "text", "text": 5},
        {"type": "text", "text": None},
        {"type": "text", "text": ["see"]},
        {},
        {"text": "see"},
        {"type": "image_url"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": None},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "image_url", "image_url": {"url": ["https://example.com/a.png"]}},
        {"type": "image_url", "image_url": ["https://example.com/a.png"]},
    ],
)
def test_parts_that_no_model_should_be_sent_are_refused(part: dict[str, Any]) -> None:
    history = [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]
    for model, field in ((AgentRequest, "history"), (SwarmRequest, "messages")):
        payload = {"agent_config": {"agent_name": "A"}, field: history}
        assert all(loc[:3] == (field, 0, "content") for loc in invalid_at(model, payload))


@pytest.mark.parametrize("image", ["/etc/passwd", "file:///etc/passwd", "", "ftp://example.com/a.png"])
def test_a_part_that_is_no_image_is_refused(image: str) -> None:
    history = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}]
    agent_refused(InvalidRequest, {"history": history}, at=("history", 0, "content", 0))
    refused(InvalidRequest, {"task": None, "messages": history}, at=("messages", 0, "content", 0))


def test_an_image_part_may_be_the_bare_url() -> None:
    part = {"type": "image_url", "image_url": "https://example.com/a.png"}
    message = agent_of({"history": [{"role": "user", "content": [part]}]}).plan.openings[0][0]
    assert message["content"] == [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


def test_bare_base64_in_a_part_of_a_message_becomes_a_data_url() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG}}
    message = agent_of({"history": [{"role": "user", "content": [part]}]}).plan.openings[0][0]
    assert message["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PNG}"


# --- Warnings -------------------------------------------------------------------------------------------------------


def test_unknown_fields_are_named_with_their_path() -> None:
    compiled = swarm_of(
        {
            "tempo": 1,
            "agents": [*agents("A"), {"agent_name": "B", "modle_name": "m", "max_token": 1}],
            "stream_options": {"colour": "red"},
            "task": None,
            "messages": [{**HI, "mood": "good"}],
        }
    )
    assert set(compiled.warnings) == {
        "unknown field tempo",
        "unknown field agents.1.modle_name; did you mean model_name?",
        "unknown field agents.1.max_token; did you mean max_tokens?",
        "unknown field stream_options.colour",
        "unknown field messages.0.mood",
    }
    assert len(compiled.warnings) == 5


def test_unknown_fields_of_an_agents_payload_are_named_with_their_path() -> None:
    compiled = agent_of(
        {"tempo": 1, "agent_config": {"agent_name": "A", "modle_name": "m"}, "history": [{**HI, "x": 1}]}
    )
    assert set(compiled.warnings) == {
        "unknown field tempo",
        "unknown field agent_config.modle_name; did you mean model_name?",
        "unknown field history.0.x",
    }


@pytest.mark.promise("W-6")
def test_at_most_twenty_warnings_come_back() -> None:
    assert len(swarm_of({f"x{number}": 1 for number in range(20)}).warnings) == 20
    warnings = swarm_of({f"x{number}": 1 for number in range(21)}).warnings
    assert warnings == tuple(f"unknown field x{number}" for number in range(20))


@pytest.mark.promise("W-14")
def test_a_field_is_named_by_at_most_a_hundred_printable_characters() -> None:
    fits, long = "y" * 100, "z" * 101
    assert swarm_of({fits: 1}).warnings == (f"unknown field {fits}",)
    assert swarm_of({long: 1}).warnings == (f"unknown field {'z' * 99}…",)
    assert swarm_of({"a\nb": 1}).warnings == ("unknown field a b",)


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_a_field_that_is_accepted_without_effect_is_not_named(field: str) -> None:
    spec = {"agent_name": "A", field: "x"}
    assert swarm_of({"agents": [spec]}).warnings == ()
    assert agent_of({"agent_config": spec}).warnings == ()
    assert swarm_of({"agents": [spec]}).plan == swarm_of({"agents": agents("A")}).plan


def test_no_known_field_is_named() -> None:
    compiled = swarm_of(
        {
            "name": "n",
            "description": "d",
            "service_tier": "flex",
            "return_history": True,
            "stream": True,
            "on_disconnect": "continue",
            "on_error": "continue",
            "timeout": 10,
            "metadata": {"unknown": {"to": "us"}},
            "stream_options": {"include_output": False, "coalesce_ms": 10_000},
            "agents": [{"agent_name": "A", "role": "boss", "description": "d", "streaming_on": True}],
        }
    )
    assert compiled.warnings == ()


def test_agents_that_never_speak_are_named() -> None:
    assert swarm_of({"rearrange_flow": "A"}).warnings == ('agent "B" is not in the flow',)


def test_a_flow_that_nobody_follows_is_named() -> None:
    compiled = swarm_of({"swarm_type": "SequentialWorkflow", "rearrange_flow": "B -> A -> ???"})
    assert compiled.warnings == ("rearrange_flow ignored: SequentialWorkflow has no flow",)
    assert names(compiled) == [["A"], ["B"]]


# --- Shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.promise("W-3")
def test_nulls_mean_not_given() -> None:
    sparse: dict[str, Any] = {"agents": agents("A"), "task": "go"}
    full = {
        **dict.fromkeys(SwarmRequest.model_fields),
        "task": "go",
        "agents": [{**dict.fromkeys(AgentSpec.model_fields), "agent_name": "A"}],
        "stream_options": {"include_output": None, "coalesce_ms": None},
        "of_no_kind": None,
    }
    assert SwarmRequest.model_validate(full) == SwarmRequest.model_validate(sparse)
    assert swarm_of(full, models=OPENAI) == swarm_of(sparse, models=OPENAI)


def test_nulls_in_an_agents_payload_mean_not_given() -> None:
    sparse: dict[str, Any] = {"agent_config": {"agent_name": "A"}, "history": [HI]}
    full = {
        **dict.fromkeys(AgentRequest.model_fields),
        "agent_config": {**dict.fromkeys(AgentSpec.model_fields), "agent_name": "A"},
        "history": [{**dict.fromkeys(Message.model_fields), **HI}],
    }
    assert AgentRequest.model_validate(full) == AgentRequest.model_validate(sparse)


def test_a_null_is_not_given_also_where_the_field_is_required() -> None:
    assert invalid_at(AgentRequest, {"agent_config": None, "task": "go"}) == [("agent_config",)]


def each(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


WRONG_IN_A_SWARM: dict[str, list[Any]] = {
    "max_loops": [True, "1.5", 1.5, 0, "0", "auto", "", "9" * 5000],
    "stream": ["maybe", 2],
    "background": ["", []],
    "return_history": ["perhaps"],
    "task": [5, ["go"]],
    "tasks": ["go", [5], [None]],
    "messages": [
        {"0": "hi"},
        {"role": "user", "content": 5},
        "hi",
        ["hi"],
        [{"content": "hi"}],
        [{"role": "robot", "content": "hi"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": ["hi"]}],
    ],
    "agents": [{"agent_name": "A"}, ["A"], "A"],
    "timeout": [True, 0, "0", -1, float("inf"), float("nan"), "inf", "NaN", "1e999", "9" * 5000, "5 s"],
    "max_cost_usd": ["-1", 0, "1e999", True],
    "max_total_tokens": [1.5, 0, "1e9999", True],
    "metadata": [[], {"big": "x" * 4096}],
    "stream_options": [
        [],
        {"include_output": 7},
        {"coalesce_ms": -1},
        {"coalesce_ms": 10001},
        {"coalesce_ms": 1.5},
        {"coalesce_ms": False},
    ],
    "on_disconnect": ["stay", True],
    "on_error": ["ignore"],
    "swarm_type": [5],
    "rearrange_flow": [["A", "B"]],
    "rules": [["be kind"]],
    "img": [{"url": "https://example.com/a.png"}],
    "strict": ["perhaps"],
    "history": ["hi", ["hi"]],
    "imgs": ["https://example.com/a.png", [5]],
    "tools_enabled": ["search"],
    "service_tier": [1],
    "description": [1],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_IN_A_SWARM))
def test_a_swarms_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    locations = invalid_at(SwarmRequest, {"agents": agents("A"), "task": "go", field: value})
    assert {location[0] for location in locations} == {field}


WRONG_IN_AN_AGENT: dict[str, list[Any]] = {
    "agent_name": [5, ["A"]],
    "max_loops": [True, "0", "Auto", 1.5, 0],
    "max_tokens": [True, "many", 1.5, 0, -1],
    "temperature": ["hot", True, float("nan"), float("inf"), "nan", "1e999"],
    "top_p": ["all", True, "inf"],
    "llm_args": [[], "seed"],
    "reasoning_effort": [1, "x" * 101, "a\n"],
    "thinking_tokens": [0, "x"],
    "streaming_on": ["maybe", 2],
    "timeout": ["long", 0, False],
    "num_retries": [-1, 6, True, "6"],
    "fallbacks": ["gpt-4", [""], [5]],
    "model_name": [5, "", "m" * 201, "gpt\n4", "gpt\u20284"],
    "role": [5],
    "system_prompt": [5],
    "description": [["d"]],
    "selected_tools": [[5]],
    "tools_list_dictionary": [["f"]],
    "tools_dictionary": [["f"]],
    "response_format": ["json"],
    "mcp_url": [5],
    "handoffs": [["B"]],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_IN_AN_AGENT))
def test_an_agents_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    spec = {"agent_name": "B", field: value}
    in_swarm = invalid_at(SwarmRequest, {"agents": [*agents("A"), spec], "task": "go"})
    assert {location[:3] for location in in_swarm} == {("agents", 1, field)}
    alone = invalid_at(AgentRequest, {"agent_config": spec, "task": "go"})
    assert {location[:2] for location in alone} == {("agent_config", field)}


WRONG_BESIDE_AN_AGENT: dict[str, list[Any]] = {
    "history": ["hi", ["hi"], {"a": "hi"}],
    "imgs": ["https://example.com/a.png", [5]],
    "tools_enabled": ["search"],
    "task": [5],
    "stream": ["maybe"],
}


@pytest.mark.parametrize(("field", "value"), each(WRONG_BESIDE_AN_AGENT))
def test_an_agent_payloads_field_of_the_wrong_type_is_a_validation_error(field: str, value: Any) -> None:
    locations = invalid_at(AgentRequest, {"agent_config": {"agent_name": "A"}, "task": "go", field: value})
    assert {location[0] for location in locations} == {field}


OUTERMOST: dict[str, list[Any]] = {
    "timeout": [1],
    "temperature": [1, 0.0],
    "num_retries": [5],
    "max_tokens": [1],
    "model_name": ["m" * 200],
    "thinking_tokens": [1],
}


@pytest.mark.parametrize(("field", "value"), each(OUTERMOST))
def test_the_outermost_values_of_an_agents_fields_are_accepted(field: str, value: Any) -> None:
    assert getattr(AgentSpec.model_validate({"agent_name": "A", field: value}), field) == value


def test_metadata_is_not_nested_deeper_than_an_answer_can_hold_it() -> None:
    deep: dict[str, Any] = {}
    for _ in range(252):
        deep = {"k": deep}
    with pytest.raises(ValidationError, match="nested too deeply"):
        SwarmRequest.model_validate({"metadata": {"k": {"k": deep}}})


@pytest.mark.promise("W-31")
def test_metadata_is_measured_in_bytes_of_json() -> None:
    fits = {"k": "é" * ((4096 - len('{"k":""}')) // 2)}
    assert SwarmRequest.model_validate({"metadata": fits}).metadata == fits
    assert invalid_at(SwarmRequest, {"metadata": {"k": fits["k"] + "e"}}) == [("metadata",)]


# --- Names ----------------------------------------------------------------------------------------------------------

CONTROLS = ["\0", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("control", CONTROLS)
def test_names_hold_no_control_characters_and_no_line_separators(control: str) -> None:
    name = f"A{control}B"
    assert invalid_at(SwarmRequest, {"agents": agents(name), "task": "go"}) == [("agents", 0, "agent_name")]
    assert invalid_at(AgentRequest, {"agent_config": {"agent_name": name}}) == [("agent_config", "agent_name")]
    assert invalid_at(SwarmRequest, {"name": name}) == [("name",)]


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_names_have_at_most_a_hundred_characters(letter: str) -> None:
    assert AgentSpec(agent_name=letter * 100).agent_name == letter * 100
    assert SwarmRequest(name=letter * 100).name == letter * 100
    assert invalid_at(SwarmRequest, {"agents": agents(letter * 101)}) == [("agents", 0, "agent_name")]
    assert invalid_at(SwarmRequest, {"name": letter * 101}) == [("name",)]


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u00a0", "\u2028"])
def test_an_agent_has_a_name(name: str) -> None:
    assert invalid_at(SwarmRequest, {"agents": agents(name)}) == [("agents", 0, "agent_name")]


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\u00a0", "\u2003", "\u2028"])
def test_space_around_an_agents_name_is_no_part_of_it(space: str) -> None:
    name = f"{space}{'x' * 98} y{space}"
    compiled = swarm_of({"agents": agents(name, "B"), "rearrange_flow": f"B -> {name}"})
    assert names(compiled) == [["B"], ["x" * 98 + " y"]]
