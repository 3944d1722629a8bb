"""The runs of the corpus: what is posted, and what the models say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarmstream.errors import ProviderAuth, ProviderError, ProviderRateLimited, UpstreamTruncated
from swarmstream.llm.base import Finished, Opened, Reasoning, TokenCount, ToolCallDelta
from tests.fakes.scripted_model import Line

AGENT = "/v1/agent/completions"
SWARM = "/v1/swarm/completions"

Lines = dict[str, Sequence[Line | list[Line]]]
Payload = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A run: its payload, its models' lines by agent, and the order in which they speak; `|` waits for ever."""

    path: str
    payload: Payload
    lines: Lines
    order: str = ""
    calls: int = 1
    """Model calls after which the run waits: then so many seconds pass, or its client cancels it."""
    passes: float = 0
    cancelled: bool = False


def _agent(name: str, **fields: Any) -> Payload:
    return {"agent_name": name, "model_name": f"demo/{name}", "system_prompt": f"You are {name}.", **fields}


def _alone(*lines: Line | list[Line], task: str | None = "go", **fields: Any) -> Kind:
    """A run of one agent; a field of the agent's stands under `agent`."""
    agent = {"num_retries": 0, **fields.pop("agent", {})}
    way = {name: fields.pop(name) for name in ("order", "calls", "passes", "cancelled") if name in fields}
    others: Lines = fields.pop("lines", {})
    payload = {"agent_config": _agent("A", **agent), "task": task, **fields}
    return Kind(AGENT, payload, {"A": list(lines), **others}, **way)


def _team(flow: str, lines: Lines, **fields: Any) -> Kind:
    names = dict.fromkeys(name.strip() for stage in flow.split("->") for name in stage.split(","))
    each = {"num_retries": 0, **fields.pop("each", {})}
    way = {name: fields.pop(name) for name in ("order", "calls", "passes", "cancelled") if name in fields}
    agents = [_agent(name, **each) for name in names]
    payload = {"task": "go", "rearrange_flow": flow, "swarm_type": "AgentRearrange", "agents": agents, **fields}
    return Kind(SWARM, payload, lines, **way)


def _call(name: str, arguments: str, *, call_id: str = "call-1", index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(index, call_id, name, arguments)


SCHEMA: Payload = {
    "type": "json_schema",
    "json_schema": {
        "name": "sum",
        "schema": {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]},
    },
}
CLIENT_TOOL: Payload = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}},
}
PLAN = '{"subtasks": [{"id": "1", "title": "One"}, {"id": "2", "title": "Two", "depends_on": ["1"]}]}'
ABC: Lines = {"A": ["a1 ", "a2"], "B": ["b1 ", "b2"], "C": ["c1 ", "c2"]}
UNICODE: list[Line] = ["日本", "\U0001f99c", "\u2028\u0085", "‏مرحبا", '"\\\n\t\x00', "\ud83d", "\ude00", "\ud83d", "x"]
LONG: list[Line] = [f"word{index} " for index in range(120)]

KINDS: dict[str, Kind] = {
    # one agent
    "plain": _alone("Hello, ", "world."),
    "described": _alone("x", agent={"description": "Knows.", "role": "boss", "temperature": 0.5, "max_tokens": 100}),
    "history-list": _alone("x", history=[{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]),
    "history-object": _alone("x", task=None, history={"a": {"role": "user", "content": "1"}}),
    "image": _alone("x", img="data:image/png;base64,iVBORw0KGgo="),
    "unicode": _alone(*UNICODE, task="日本"),
    "long": _alone(*LONG),
    "empty": _alone(),
    "reasoning": _alone(Opened(), Reasoning("hm"), Reasoning(", so"), "answer"),
    "length": _alone("cut", Finished("length"), TokenCount(7, 1, 3, 2)),
    "filtered": _alone("no", Finished("content_filter"), TokenCount(7, 1)),
    "estimated": _alone("some words", Finished("stop")),
    "metadata": _alone("x", metadata={"ü": [1, None, {"b": 0.5}]}),
    "misspelt": _alone("x", agent={"modle": "x"}, stram=True),
    "loops": _alone(["one"], ["two"], ["three"], agent={"max_loops": 3}),
    "without-output": _alone("a", "b", stream_options={"include_output": False}),
    "client-tool": _alone("Look: ", _call("look_up", "{}"), agent={"tools_list_dictionary": [CLIENT_TOOL]}),
    "two-client-tools": _alone(
        _call("look_up", '{"q": 1}'),
        _call("look_up", '{"q": 2}', call_id="call-2", index=1),
        agent={"tools_list_dictionary": [CLIENT_TOOL]},
    ),
    "calculator": _alone(
        ["Sum: ", _call("calculator", '{"expression": "17 + 25"}')], ["It is 42."], agent={"selected_tools": "all"}
    ),
    "calculator-misused": _alone(
        [_call("calculator", '{"expression": "1/0"}')],
        [_call("no_tool", "{}")],
        ["Well."],
        tools_enabled=["calculator"],
    ),
    "schema": _alone('{"sum": ', "42}", agent={"response_format": SCHEMA}),
    "schema-repaired": _alone(['{"sum": "x"}'], ['{"sum": 42}'], agent={"response_format": SCHEMA}),
    "schema-missed": _alone("nothing of the kind", agent={"response_format": SCHEMA}),
    "autonomous": _alone(
        [_call("create_plan", PLAN)],
        ["one ", _call("subtask_done", '{"result": "first"}')],
        [_call("think", '{"thought": "hm"}')],
        [_call("subtask_done", '{"result": "second"}')],
        ["In all: both."],
        agent={"max_loops": "auto"},
    ),
    "no-plan": _alone("I will not.", agent={"max_loops": "auto"}),
    "handoff": _alone(
        ["Ask B. ", _call("handoff", '{"agent": "B", "message": "please"}')],
        agent={"handoffs": [_agent("B", num_retries=0)]},
        lines={"B": ["B speaks."]},
    ),
    "refused": _alone(ProviderAuth("bad key")),
    "failed-in-the-middle": _alone("so ", "far", ProviderError("broke")),
    "truncated": _alone("so ", UpstreamTruncated("cut")),
    "retried": _alone([ProviderError("busy")], ["then fine"], agent={"num_retries": 2}, passes=20),
    "retried-in-vain": _alone(ProviderRateLimited("slow down"), agent={"num_retries": 1}, passes=60),
    "fallback": _alone(ProviderAuth("no"), agent={"fallbacks": ["demo/B"]}, lines={"B": ["from B"]}),
    "over-budget": _alone(["some text"], ["more"], ["more"], agent={"max_loops": 3}, max_total_tokens=15),
    "turn-timeout": _alone("said ", "never", agent={"timeout": 5}, order="A|", passes=5),
    "run-timeout": _alone("said ", "never", timeout=5, order="A|", passes=5),
    "cancelled": _alone("said ", "never", order="A|", cancelled=True),
    # several
    "sequential": Kind(
        SWARM, {"task": "go", "swarm_type": "SequentialWorkflow", "agents": [_agent(name) for name in "ABC"]}, ABC
    ),
    "concurrent": Kind(
        SWARM,
        {"task": "go", "swarm_type": "ConcurrentWorkflow", "agents": [_agent(name) for name in "ABC"], "name": "Trio"},
        ABC,
        order="ABCCBA",
    ),
    "stages": _team("A, B -> C", ABC, order="ABBACC", description="Two, then one.", service_tier="flex"),
    "again": _team("A -> B -> A", {"A": [["first"], ["second"]], "B": ["between"]}),
    "rounds": _team("A, B", {"A": [["a"], ["aa"]], "B": [["b"], ["bb"]]}, order="ABBA", max_loops=2),
    "tasks": _team("A -> B", ABC, task=None, tasks=["one", "two"]),
    "messages": _team("A", ABC, task=None, messages=[{"role": "user", "content": "hi"}], rules="Be brief."),
    "team-tools": _team(
        "A -> B",
        {"A": [[_call("calculator", '{"expression": "2**10"}')], ["1024"]], "B": ["so it is"]},
        each={"selected_tools": ["calculator"]},
    ),
    "team-client-tool": _team(
        "A -> B", {"A": [_call("look_up", "{}")], "B": ["b"]}, each={"tools_list_dictionary": [CLIENT_TOOL]}
    ),
    "fails": _team("A -> B -> C", {**ABC, "B": ["b ", ProviderError("no")]}),
    "goes-on": _team("A -> B -> C", {**ABC, "B": ["b ", ProviderError("no")]}, on_error="continue"),
    "fails-beside": _team("A, B -> C", {**ABC, "B": [ProviderAuth("no")]}, order="A"),
    "all-fail": _team("A -> B", {"A": [ProviderAuth("no")], "B": [ProviderAuth("no")]}, on_error="continue"),
    "team-budget": _team("A -> B -> C", ABC, max_total_tokens=20),
    "team-timeout": _team("A -> B", ABC, order="AAB|", calls=2, timeout=30, passes=30),
    "team-cancelled": _team("A -> B", ABC, order="AAB|", calls=2, cancelled=True),
}
