"""What people send to the hosted API, or to ours by mistake, works or is told what to do (docs/wire.md, section 2).

The shapes of payloads, and what is refused for good, stand in `test_plan`.
"""

import json
from typing import Any

import pytest

from swarmstream.errors import InvalidRequest, InvalidTool, UnsupportedOption
from swarmstream.swarm.ignored_fields import HOSTED, REFUSED, SYNONYMS, WITHOUT_EFFECT
from swarmstream.swarm.payloads import EFFORTS, AgentRequest, AgentSpec, McpConfig, Payload, StreamOptions, SwarmRequest
from tests.api.compiled import ANSWERED, ASKED, IMAGES, TASK, agent, everyone, single, swarm, tools, warned
from tests.conftest import client, serving
from tests.fakes.scripted_model import ScriptedModel


@pytest.mark.promise("W-24")
@pytest.mark.parametrize("unnamed", [{}, {"agent_name": None}])
def test_an_agent_without_a_name_is_called_by_its_position_with_a_warning(unnamed: dict[str, Any]) -> None:
    compiled = swarm(agents=[unnamed, {"agent_name": "B"}, unnamed])
    assert everyone(compiled) == ["Agent 1", "B", "Agent 3"]
    assert compiled.warnings == ('no agent_name: agents.0 is called "Agent 1", agents.2 is called "Agent 3"',)
    alone = single(agent_config=unnamed)
    assert everyone(alone) == ["Agent 1"]
    assert alone.warnings == ('no agent_name: agent_config is called "Agent 1"',)


def test_a_made_name_is_unique() -> None:
    compiled = swarm(agents=[{}, {"agent_name": "Agent 1"}, {"agent_name": "Agent 4"}, {}, {}])
    assert everyone(compiled) == ["Agent 2", "Agent 1", "Agent 4", "Agent 5", "Agent 6"]


def test_agents_to_hand_off_to_get_names_behind_those_of_the_team() -> None:
    compiled = swarm(agents=[{"handoffs": [{}, {"handoffs": [{"agent_name": "Agent 3"}]}]}, {}])
    assert everyone(compiled) == [("Agent 1", ["Agent 4", ("Agent 5", ["Agent 3"])]), "Agent 2"]
    assert "agents.0.handoffs.0 is called" in compiled.warnings[0]
    assert everyone(single(agent_config={"handoffs": [{}]})) == [("Agent 1", ["Agent 2"])]


def test_a_flow_may_use_the_names_that_unnamed_agents_get() -> None:
    compiled = swarm(agents=[{}, {}], rearrange_flow="Agent 2 -> Agent 1")
    assert everyone(compiled) == ["Agent 2", "Agent 1"]


@pytest.mark.anyio
async def test_the_sdks_body_for_an_agent_without_a_name_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Its type is `Required[Optional[str]]`."""
    caplog.set_level("INFO")
    payload = {"agent_config": {"agent_name": None, "model_name": "demo/A"}, "task": "go"}
    async with serving(models={"demo": ScriptedModel({"A": ["a"]})}) as url, client(url) as http:
        answer = (await http.post("/v1/agent/completions", json=payload)).json()
    assert (answer["name"], answer["outputs"][-1]["role"]) == ("Agent 1", "Agent 1")
    assert answer["warnings"] == ['no agent_name: agent_config is called "Agent 1"']
    assert caplog.text.count(" started: agent, 1 turn\n") == 1


@pytest.mark.parametrize("sent", [[ASKED, ANSWERED], {"a": ASKED, "b": ANSWERED}, {"role": ASKED, "content": ANSWERED}])
def test_messages_may_be_a_list_or_an_object(sent: Any) -> None:
    expected = [ASKED, ANSWERED]
    assert swarm(task=None, messages=sent).plan.openings == (tuple(expected),)
    assert swarm(history=sent).plan.openings == ((*expected, TASK),)
    assert single(history=sent).plan.openings == ((*expected, TASK),)


def test_one_message_need_not_stand_in_a_list() -> None:
    assert swarm(task=None, messages=ASKED).plan.openings == ((ASKED,),)
    assert single(task=None, history=ASKED).plan.openings == ((ASKED,),)


def test_a_swarms_history_comes_before_its_task_or_messages() -> None:
    history = [ASKED, ANSWERED]
    assert swarm(history=history, task=None).plan.openings == ((ASKED, ANSWERED),)
    assert swarm(history=history, task=None, messages=[TASK]).plan.openings == ((ASKED, ANSWERED, TASK),)
    assert swarm(history=history).warnings == ()


def test_tasks_begin_without_the_history_with_a_warning() -> None:
    """Conversations of their own that each began with it would be tasks × messages in memory."""
    compiled = swarm(history=[ASKED], task=None, tasks=["go", "go"])
    assert compiled.plan.openings == ((TASK,), (TASK,))
    assert compiled.warnings == ("history ignored: each of the tasks begins a fresh conversation",)


def test_a_swarm_takes_several_images() -> None:
    (((message,),),) = ((swarm(img=IMAGES[0], imgs=IMAGES[1:]).plan.openings),)
    assert [part["image_url"]["url"] for part in message["content"][1:]] == IMAGES


LAX: list[tuple[str, Any, Any]] = [
    *(("max_loops", "3", 3), ("max_loops", " 3 ", 3), ("max_loops", 3.0, 3), ("max_loops", "3.0", 3)),
    *(("max_loops", "auto", "auto"), ("max_tokens", "100", 100), ("num_retries", "0", 0)),
    *(("temperature", "0.5", 0.5), ("temperature", "1e-1", 0.1), ("timeout", "2.5", 2.5), ("thinking_tokens", "9", 9)),
    *(("top_p", "0.5", 0.5), ("streaming_on", "true", True), ("streaming_on", 1, True), ("streaming_on", "no", False)),
]


@pytest.mark.promise("W-4")
@pytest.mark.parametrize(("field", "sent", "meaning"), LAX)
def test_numbers_and_booleans_may_be_strings(field: str, sent: Any, meaning: Any) -> None:
    for spec in (
        AgentSpec.model_validate({field: sent}),
        AgentSpec.model_validate_json(json.dumps({field: sent})),
    ):
        value = getattr(spec, field)
        assert (value, type(value)) == (meaning, type(meaning))


def test_the_options_of_a_run_may_be_strings() -> None:
    sent = {"stream": "true", "background": "0", "strict": "yes", "timeout": "5", "max_loops": "2"}
    options = {"include_output": "false", "coalesce_ms": "50"}
    more = {"max_cost_usd": "0.5", "max_total_tokens": "9", "return_history": "1", "stream_options": options}
    request = SwarmRequest.model_validate({**sent, **more})
    assert (request.stream, request.background, request.strict, request.timeout, request.max_loops) == (
        *(True, False, True, 5.0, 2),
    )
    assert (request.max_cost_usd, request.max_total_tokens, request.return_history) == (0.5, 9, True)
    assert (request.stream_options.include_output, request.stream_options.coalesce_ms) == (False, 50)


@pytest.mark.promise("W-9")
@pytest.mark.parametrize("field", HOSTED)
def test_a_documented_field_without_a_function_here_is_named_with_the_reason(field: str) -> None:
    assert warned(**{field: "x"}) == (f"agents.0.{field} ignored: {HOSTED[field]}",)
    fields: dict[str, Any] = {field: {"a": 1}}
    assert single(**fields).warnings == (f"{field} ignored: {HOSTED[field]}",)
    assert len(f"agents.63.handoffs.31.{field} ignored: {HOSTED[field]}") <= 200


@pytest.mark.parametrize("nothing", [None, False, "", 0, [], {}])
def test_a_documented_field_that_asks_for_nothing_is_not_named(nothing: Any) -> None:
    fields: dict[str, Any] = dict.fromkeys((*HOSTED, *REFUSED), nothing)
    assert swarm(**fields, strict=True).warnings == single(**fields, strict=True).warnings == warned(**fields) == ()


@pytest.mark.promise("W-9")
@pytest.mark.parametrize("compiled", [swarm, single])
def test_a_run_for_another_day_is_refused(compiled: Any) -> None:
    with pytest.raises(UnsupportedOption, match="at once") as caught:
        compiled(schedule={"scheduled_time": "2027-01-01T00:00:00Z"})
    assert caught.value.location == ("schedule",)


def kinds() -> set[type[Payload]]:
    return {AgentSpec, AgentRequest, SwarmRequest, StreamOptions, McpConfig}


def test_the_tables_of_unknown_fields_list_only_unknown_fields_and_suggest_only_known_ones() -> None:
    fields = {field for kind in kinds() for field in kind.model_fields}
    assert not fields & {*HOSTED, *REFUSED, *WITHOUT_EFFECT}
    assert SYNONYMS.keys() == kinds()
    for kind, synonyms in SYNONYMS.items():
        assert not synonyms.keys() & kind.model_fields.keys()
        for synonym in synonyms.values():
            for path in synonym.split(" or "):
                first, _, rest = path.partition(".")
                assert first in kind.model_fields
                assert not rest or rest in AgentSpec.model_fields or first == "llm_args"


def test_the_old_name_of_a_callers_tools_is_taken() -> None:
    schema = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    old, new = agent(tools_dictionary=[schema]), agent(tools_list_dictionary=[schema])
    assert old.client_tools == new.client_tools == (schema,)
    assert warned(tools_dictionary=[schema], tools_list_dictionary=[]) == ()


def test_of_both_names_of_a_callers_tools_the_new_one_wins_with_a_warning() -> None:
    old, new = {"name": "f", "description": "d"}, {"name": "g", "description": "d"}
    spec: dict[str, Any] = {"tools_dictionary": [old], "tools_list_dictionary": [new]}
    (schema,) = agent(**spec).client_tools
    assert schema["function"] == {**new, "parameters": {"type": "object", "properties": {}}}
    assert warned(**spec) == (
        "agents.0.tools_dictionary ignored: it is the old name of tools_list_dictionary, which is given",
    )


def test_the_old_name_ends_a_plan_as_the_new_one_does() -> None:
    with pytest.raises(UnsupportedOption, match="tools_dictionary"):
        agent(max_loops="auto", tools_dictionary=[{"name": "f"}])


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_that_some_model_knows_is_passed_on(effort: str) -> None:
    assert agent(reasoning_effort=effort).sampling.reasoning_effort == effort
    assert warned(reasoning_effort=effort) == ()


def test_another_effort_is_passed_on_with_a_warning() -> None:
    assert agent(reasoning_effort="extreme").sampling.reasoning_effort == "extreme"
    assert warned(reasoning_effort="extreme") == (
        "agents.0.reasoning_effort is passed on, though it is none of none, minimal, low, medium, high, xhigh, max",
    )
    assert warned(reasoning_effort="") == ()
    assert agent(reasoning_effort="").sampling.reasoning_effort is None


def test_parameters_of_an_agent_may_stand_in_llm_args() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    args = {"temperature": 0.5, "max_tokens": "9", "reasoning_effort": "low", "thinking_tokens": 7, "seed": 1}
    inside = agent(llm_args={**args, "response_format": schema, "top_p": 0.5})
    seed = args.pop("seed")
    assert inside.sampling == agent(**args, top_p=0.5, llm_args={"seed": seed}).sampling
    assert inside.answer_format
    assert inside.answer_format.schema == schema
    assert (inside.sampling.temperature, inside.sampling.max_tokens) == (0.5, 9)
    assert inside.sampling.llm_args == {"seed": 1, "top_p": 0.5}


def test_an_agents_own_parameter_wins_over_llm_args_with_a_warning() -> None:
    spec: dict[str, Any] = {"temperature": 1, "top_p": 0.5, "llm_args": {"temperature": 0, "top_p": 1}}
    sampling = agent(**spec).sampling
    assert (sampling.temperature, sampling.llm_args) == (1, {"top_p": 0.5})
    assert warned(**spec) == (
        "agents.0.llm_args.temperature ignored: the agent's own temperature wins",
        "agents.0.llm_args.top_p ignored: the agent's own top_p wins",
    )


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", "hot"), ("max_tokens", 0), ("max_tokens", True), ("response_format", "json")]
)
def test_llm_args_have_the_bounds_of_the_agents_own_fields(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        agent(llm_args={name: value})
    assert caught.value.location == ("agent_config", "llm_args", name)


def test_a_refused_argument_suggests_the_field_that_may_be_meant() -> None:
    with pytest.raises(UnsupportedOption, match="did you mean max_tokens"):
        agent(llm_args={"max_completion_tokens": 5})


@pytest.mark.anyio
async def test_the_answer_names_a_temperature_from_llm_args() -> None:
    config = {"agent_name": "A", "model_name": "demo/A", "llm_args": {"temperature": 0.25}}
    model = ScriptedModel({"A": ["a"]})
    async with serving(models={"demo": model}) as url, client(url) as http:
        answer = await http.post("/v1/agent/completions", json={"agent_config": config, "task": "go"})
    assert answer.json()["temperature"] == 0.25
    assert model.calls[0].sampling.temperature == 0.25


PLANNING = ["create_plan", "think", "subtask_done", "complete_task", "respond_to_user"]
LEFT_OUT = [
    "create_file",
    "update_file",
    "read_file",
    "list_directory",
    "delete_file",
    "create_sub_agent",
    "assign_task",
]


def test_the_hosted_names_of_planning_run_without_a_word() -> None:
    assert warned(selected_tools=PLANNING) == warned(selected_tools=PLANNING, max_loops="auto") == ()


@pytest.mark.parametrize("max_loops", [1, "auto"])
def test_the_hosted_tools_for_files_and_agents_are_left_out_with_a_warning(max_loops: Any) -> None:
    spec: dict[str, Any] = {"selected_tools": [*PLANNING, *LEFT_OUT, "calculator"], "max_loops": max_loops}
    assert [tool.name for tool in agent(**spec).tools] == ["calculator"]
    (warning,) = warned(**spec)
    reason_text = "no files here, no agents that make agents"
    assert warning == f"agents.0.selected_tools without {', '.join(LEFT_OUT)}: {reason_text}"
    assert warned(selected_tools="create_file") == (f"agents.0.selected_tools without create_file: {reason_text}",)
    enabled = single(tools_enabled=["assign_task", "clock"])
    assert enabled.warnings == (f"tools_enabled without assign_task: {reason_text}",)


def test_an_operators_tool_of_such_a_name_is_not_left_out() -> None:
    compiled = single(access=tools(), agent_config={"selected_tools": ["read_file"], "agent_name": "A"})
    assert [tool.name for tool in compiled.plan.stages[0].agents[0].tools] == ["read_file"]
    assert compiled.warnings == ()


def test_only_the_shell_is_named_where_everything_was_selected() -> None:
    with pytest.raises(UnsupportedOption) as caught:
        agent(selected_tools=[*PLANNING, *LEFT_OUT, "run_bash"])
    assert '"run_bash"' in caught.value.detail
    assert not [name for name in LEFT_OUT if name in caught.value.detail]


def test_a_callers_tool_may_be_named_as_one_of_the_operators_that_the_agent_does_not_have() -> None:
    mine: dict[str, Any] = {"agent_name": "A", "tools_list_dictionary": [{"name": "read_file"}, {"name": "clock"}]}
    compiled = single(access=tools(), agent_config=mine)
    (only,) = compiled.plan.stages[0].agents
    assert (only.tools, len(only.client_tools)) == ((), 2)
    for fields in (
        {"agent_config": {**mine, "selected_tools": ["read_file"]}},
        {"agent_config": {**mine, "selected_tools": "all"}},
        {"agent_config": mine, "tools_enabled": ["read_file"]},
    ):
        with pytest.raises(InvalidTool, match="that the agent has"):
            single(access=tools(), **fields)


def test_a_client_tool_with_nothing_but_a_name_is_warned_about() -> None:
    sent = [{"name": "f"}, {"name": "g", "description": "Gets."}, {"function": {"name": "h", "parameters": None}}]
    assert warned(tools_list_dictionary=sent) == (
        "agents.0.tools_list_dictionary: models can only guess what these tools are for: f, h",
    )


def test_a_swarms_enabled_tools_are_for_each_of_its_agents() -> None:
    agents = [{"agent_name": "A", "selected_tools": ["clock"]}, {"agent_name": "B", "handoffs": [{"agent_name": "C"}]}]
    compiled = swarm(agents=agents, tools_enabled=["calculator", "clock", "think"])
    sent = {each.name: [tool.name for tool in each.tools] for stage in compiled.plan.stages for each in stage.agents}
    assert sent == {"A": ["clock", "calculator"], "B": ["calculator", "clock"]}
    assert compiled.plan.stages[1].agents[0].handoffs[0].tools == ()
