"""What agents cannot be given is refused before the first byte, with the field named, and no provider is asked."""

from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from tests.api.refusals import AGENT, SWARM, agent, check_problem, refusing_server, swarm
from tests.conftest import KEY, OTHER_KEY, client, serving
from tests.fakes.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio


def read_file(path: str) -> str:
    """An operator's own, named as one of the hosted API's."""
    return path


def think(about: str) -> str:
    """Another one of the operator's."""
    return about


def refund(order: int) -> str:
    """For one key only."""
    return f"refunded {order}"


PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "string"}}}


def function(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **fields}}


HOSTED = [
    *("create_plan", "think", "subtask_done", "complete_task", "respond_to_user", "create_file", "update_file"),
    *("read_file", "list_directory", "delete_file", "run_bash", "create_sub_agent", "assign_task"),
]

Case = tuple[dict[str, Any], int, str, list[str | int]]


def deep(depth: int) -> dict[str, Any]:
    """An agent that may hand off to one that may hand off to one …"""
    spec = agent(f"A{depth}")
    for number in range(depth - 1, -1, -1):
        spec = agent(f"A{number}", handoffs=[spec])
    return spec


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


CASES: dict[str, Case] = {
    "an unknown tool in a list": (
        {"selected_tools": ["calculator", "x"]},
        400,
        "unknown_tool",
        ["selected_tools", 1],
    ),
    "an unknown tool after one twice": (
        {"selected_tools": ["calculator", "calculator", "x"]},
        400,
        "unknown_tool",
        ["selected_tools", 2],
    ),
    "an unknown tool by itself": ({"selected_tools": "x"}, 400, "unknown_tool", ["selected_tools"]),
    "a tool of another key's": ({"selected_tools": ["refund"]}, 403, "tool_not_allowed", ["selected_tools", 0]),
    "a tool of another key's by itself": ({"selected_tools": "refund"}, 403, "tool_not_allowed", ["selected_tools"]),
    "a shell": ({"selected_tools": ["think", "run_bash"]}, 400, "unsupported_option", ["selected_tools", 1]),
    "a shell by itself": ({"selected_tools": "run_bash"}, 400, "unsupported_option", ["selected_tools"]),
    "all that the hosted API has": (
        {"selected_tools": HOSTED},
        400,
        "unsupported_option",
        ["selected_tools", HOSTED.index("run_bash")],
    ),
    "tools that are numbers": ({"selected_tools": [1]}, 422, "invalid_schema", ["selected_tools"]),
    "parameters that are no schema": (
        {"tools_list_dictionary": [function(parameters={"type": "object", "properties": {"x": {"type": "texty"}}})]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "parameters"],
    ),
    "parameters that refer elsewhere": (
        {"tools_list_dictionary": [function(parameters={"$ref": "https://example.com/schema.json"})]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "parameters"],
    ),
    "parameters that are no object": (
        {"tools_list_dictionary": [{"name": "f", "parameters": {"type": "string"}}]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "parameters"],
    ),
    "parameters that are a list": (
        {"tools_list_dictionary": [function(), function("g", parameters=["x"])]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 1, "function", "parameters"],
    ),
    "a tool without a name": (
        {"tools_list_dictionary": [{"type": "function", "function": {"parameters": PARAMETERS}}]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "name"],
    ),
    "a bare tool without a name": (
        {"tools_list_dictionary": [{"parameters": PARAMETERS}]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "name"],
    ),
    "a tool whose name cannot be one": (
        {"tools_list_dictionary": [function("get weather")]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "name"],
    ),
    "a tool whose name is too long": (
        {"tools_list_dictionary": [function("f" * 65)]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "name"],
    ),
    "a description that is no text": (
        {"tools_list_dictionary": [function(description=["x"])]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0, "function", "description"],
    ),
    "a tool of another type": (
        {"tools_list_dictionary": [{"type": "code_interpreter"}]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0],
    ),
    "a function that is none": (
        {"tools_list_dictionary": [{"type": "function", "function": "f"}]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 0],
    ),
    "a tool that is none": ({"tools_list_dictionary": ["f"]}, 422, "invalid_schema", ["tools_list_dictionary", 0]),
    "one name twice": (
        {"tools_list_dictionary": [function(), function()]},
        400,
        "invalid_tool",
        ["tools_list_dictionary", 1, "function", "name"],
    ),
    **{
        f"a tool named {name}": (
            {"tools_list_dictionary": [{"name": name, "parameters": PARAMETERS}], "selected_tools": "calculator"},
            400,
            "invalid_tool",
            ["tools_list_dictionary", 0, "name"],
        )
        for name in ("calculator", "create_plan", "subtask_done", "handoff")
    },
    "a tool under the old name of its field": (
        {"tools_dictionary": [{"name": "handoff"}]},
        400,
        "invalid_tool",
        ["tools_dictionary", 0, "name"],
    ),
    "a format that is no schema": (
        {"response_format": {"type": "objekt"}},
        400,
        "invalid_tool",
        ["response_format"],
    ),
    "a named format that is no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": 7}}}},
        400,
        "invalid_tool",
        ["response_format", "json_schema", "schema"],
    ),
    "a format without a schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
        400,
        "invalid_tool",
        ["response_format", "json_schema"],
    ),
    "a format with a name that cannot be one": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        400,
        "invalid_tool",
        ["response_format", "json_schema", "name"],
    ),
    "a format that is text": ({"response_format": "json"}, 422, "invalid_schema", ["response_format"]),
    "an autonomous agent with tools of the caller's": (
        {"max_loops": "auto", "tools_list_dictionary": [function()]},
        400,
        "unsupported_option",
        ["tools_list_dictionary"],
    ),
    "an autonomous agent that hands off": (
        {"max_loops": "auto", "handoffs": [agent("B")]},
        400,
        "unsupported_option",
        ["handoffs"],
    ),
    "another word for a number of loops": ({"max_loops": "many"}, 422, "invalid_schema", ["max_loops"]),
    "a handoff to itself": ({"handoffs": [agent("A")]}, 400, "invalid_request", ["handoffs", 0, "agent_name"]),
    "two receivers of one name": (
        {"handoffs": [agent("B"), agent("B")]},
        400,
        "invalid_request",
        ["handoffs", 1, "agent_name"],
    ),
    "what a receiver cannot have": (
        {"handoffs": [agent("B", handoffs=[agent("C", selected_tools=["x"])])]},
        400,
        "unknown_tool",
        ["handoffs", 0, "handoffs", 0, "selected_tools", 0],
    ),
    "too many receivers": (
        {"handoffs": [agent(f"B{number}") for number in range(33)]},
        400,
        "limit_exceeded",
        ["handoffs"],
    ),
    "receivers of receivers of receivers": (
        {"handoffs": [deep(8)]},
        400,
        "limit_exceeded",
        ["handoffs", 0] * 8 + ["handoffs"],
    ),
    "no MCP server allowed": (
        {"mcp_url": "https://example.com/mcp"},
        400,
        "mcp_host_not_allowed",
        ["mcp_url"],
    ),
    "an MCP server that is a program": (
        {"mcp_config": {"transport": "stdio", "url": "x"}},
        400,
        "unsupported_option",
        ["mcp_config", "transport"],
    ),
    "an MCP server that speaks sse": (
        {"mcp_configs": [{"url": "https://allowed.example/mcp", "transport": "sse"}]},
        400,
        "unsupported_option",
        ["mcp_configs", 0, "transport"],
    ),
    "an MCP server without a url": (
        {"mcp_configs": {"connections": [{"transport": "streamable_http"}]}},
        400,
        "invalid_request",
        ["mcp_configs", "connections", 0, "url"],
    ),
    "an MCP server that is nowhere": ({"mcp_url": "file:///etc/passwd"}, 400, "mcp_host_not_allowed", ["mcp_url"]),
    "many MCP servers": (
        {"mcp_configs": [{"url": "https://allowed.example/mcp"}] * 9},
        400,
        "limit_exceeded",
        ["mcp_configs"],
    ),
}


async def _check_all(cases: dict[str, Case], **settings: Any) -> None:
    """On both routes, streamed or not: the loc begins with where the agent stands."""
    tools = tuple(f"{__name__}:{name}" for name in ("read_file", "refund"))
    keys = {"refund": (SecretStr(OTHER_KEY),)}
    async with refusing_server(tools=tools, tool_keys=keys, **settings) as http:
        for name, (fields, status, code, location) in cases.items():
            spec = agent(**fields)
            routes: list[tuple[str, dict[str, Any], list[str | int]]] = [
                (AGENT, {"agent_config": spec, "task": "go", "stream": True}, ["agent_config"]),
                (SWARM, swarm(agents=[agent("Z"), spec]), ["agents", 1]),
            ]
            for path, payload, where in routes:
                answer = await http.post(path, json=payload)
                assert (answer.status_code, answer.json()["code"]) == (status, code), (name, answer.text)
                body = check_problem(answer, status, code)
                assert body["errors"][0]["loc"] == [*where, *location], (name, body["errors"])


async def test_every_refusal_names_its_code_and_its_field() -> None:
    await _check_all(CASES)


MCP: dict[str, Case] = {
    "a host that is not on the list": (
        {"mcp_config": {"url": "https://other.example/mcp"}},
        400,
        "mcp_host_not_allowed",
        ["mcp_config", "url"],
    ),
    **{
        f"a header such as {name!r}: {value!r}": (
            {"mcp_config": {"url": "https://allowed.example/mcp", "headers": {name: value}}},
            400,
            "invalid_request",
            ["mcp_config", "headers"],
        )
        for name, value in (
            ("x-key", "a\r\nx-other: b"),
            ("x-key\r\nx-other", "a"),
            ("Host", "internal"),
            ("Content-Length", "0"),
            ("x key", "a"),
            ("", "a"),
            ("x-key", "ключ"),
        )
    },
    "a token with a line break": (
        {"mcp_config": {"url": "https://allowed.example/mcp", "authorization_token": "a\nb"}},
        400,
        "invalid_request",
        ["mcp_config", "headers"],
    ),
}


async def test_mcp_servers_are_refused_where_hosts_are_allowed_too() -> None:
    await _check_all(MCP, mcp_allowed_hosts=("allowed.example",))


async def test_a_secret_in_a_refused_header_is_not_repeated() -> None:
    config = {"url": "https://allowed.example/mcp", "headers": {"x-key": "secret\n"}, "authorization_token": "hush"}
    async with refusing_server(mcp_allowed_hosts=("allowed.example",)) as http:
        answer = await http.post(AGENT, json={"agent_config": agent(mcp_config=config), "task": "go"})
    assert answer.status_code == 400
    assert "secret" not in answer.text
    assert "hush" not in answer.text


ENABLED: dict[str, tuple[list[Any], int, str, list[str | int]]] = {
    "unknown": (["calculator", "x"], 400, "unknown_tool", ["tools_enabled", 1]),
    "of another key's": (["refund"], 403, "tool_not_allowed", ["tools_enabled", 0]),
    "a shell": (["run_bash"], 400, "unsupported_option", ["tools_enabled", 0]),
    "no text": ([1], 422, "invalid_schema", ["tools_enabled", 0]),
}


async def test_tools_enabled_is_refused_by_the_same_rules() -> None:
    keys = {"refund": (SecretStr(OTHER_KEY),)}
    async with refusing_server(tools=(f"{__name__}:refund",), tool_keys=keys) as http:
        for name, (enabled, status, code, location) in ENABLED.items():
            answer = await http.post(AGENT, json={"agent_config": agent(), "task": "go", "tools_enabled": enabled})
            body = check_problem(answer, status, code)
            assert body["errors"][0]["loc"] == location, name


async def test_ten_thousand_tools_are_refused_at_once() -> None:
    bodies: list[tuple[dict[str, Any], list[str]]] = [
        ({"tools_list_dictionary": [{"name": f"f{number}"} for number in range(10_000)]}, ["tools_list_dictionary"]),
        ({"selected_tools": [f"f{number}" for number in range(10_000)]}, ["selected_tools", "0"]),
        ({"handoffs": [agent(f"B{number}") for number in range(10_000)]}, ["handoffs"]),
        ({"mcp_configs": [{"url": "https://allowed.example"} for _ in range(10_000)]}, ["mcp_configs"]),
    ]
    async with refusing_server(mcp_allowed_hosts=("allowed.example",)) as http:
        for fields, location in bodies:
            with anyio.fail_after(30):
                answer = await http.post(AGENT, json={"agent_config": agent(**fields), "task": "go"})
            code = "unknown_tool" if "selected_tools" in fields else "limit_exceeded"
            body = check_problem(answer, 400, code)
            assert [str(part) for part in body["errors"][0]["loc"]] == ["agent_config", *location]


async def test_handoffs_hundreds_deep_are_refused() -> None:
    async with refusing_server(max_body_bytes=1 << 24) as http:
        for depth in (40, 200, 450):
            answer = await http.post(AGENT, json={"agent_config": deep(depth), "task": "go"})
            assert answer.status_code in (400, 422), (depth, answer.text)


async def test_an_operators_own_tool_may_have_a_name_that_the_hosted_api_knows() -> None:
    model = ScriptedModel({"A": ["a"]})
    settings: dict[str, Any] = {"tools": (f"{__name__}:read_file", f"{__name__}:think")}
    async with serving(models={"demo": model}, **settings) as url, client(url) as http:
        for selected in (["read_file", "think"], "all", "read_file", "think"):
            answer = await http.post(AGENT, json={"agent_config": agent(selected_tools=selected), "task": "go"})
            assert answer.status_code == 200, answer.text
    schemas: list[list[dict[str, Any]]] = [list(call.tools) for call in model.calls]
    offered = [[schema["function"]["name"] for schema in each] for each in schemas]
    assert offered == [
        ["read_file", "think"],
        ["calculator", "clock", "query_json", "read_file", "think"],
        ["read_file"],
        ["think"],
    ]


async def test_each_key_sees_the_tools_that_it_may_use() -> None:
    settings: dict[str, Any] = {
        "tools": (f"{__name__}:read_file", f"{__name__}:refund"),
        "tool_keys": {"refund": (SecretStr(OTHER_KEY),)},
    }
    model = ScriptedModel({"A": ["a"]})
    async with serving(models={"demo": model}, **settings) as url:
        seen: dict[str, dict[str, Any]] = {}
        for key in (KEY, OTHER_KEY):
            async with client(url, key=key) as http:
                seen[key] = (await http.get("/v1/tools/available")).json()
                payload = {"agent_config": agent(selected_tools="all"), "task": "go"}
                assert (await http.post(AGENT, json=payload)).status_code == 200
        async with client(url, key=None) as http:
            check_problem(await http.get("/v1/tools/available"), 401, "invalid_api_key")
    mine, theirs = seen[KEY], seen[OTHER_KEY]
    builtin = ["calculator", "clock", "query_json"]
    assert (mine["status"], mine["tools"]) == ("success", [*builtin, "read_file"])
    assert theirs["tools"] == [*builtin, "read_file", "refund"]
    assert theirs["details"][-1] == {
        "name": "refund",
        "description": "For one key only.",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "integer"}},
            "required": ["order"],
            "additionalProperties": False,
        },
    }
    assert [len(call.tools) for call in model.calls] == [4, 5], "as many are offered"
