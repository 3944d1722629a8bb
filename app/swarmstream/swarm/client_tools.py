"""The tools that the client runs, as a payload describes them."""

from collections.abc import Collection, Iterator

from swarmstream.errors import QUOTE_LIMIT, InvalidTool, Location, quote
from swarmstream.json_schema.errors import SchemaError
from swarmstream.json_schema.steps import SchemaSteps
from swarmstream.json_schema.validator import check_schema
from swarmstream.llm.messages import JsonObject
from swarmstream.swarm.findings import Findings
from swarmstream.swarm.payloads import AgentSpec
from swarmstream.swarm.selected_tools import MAX_TOOLS, too_many_tools
from swarmstream.tools.names import RESERVED_NAMES, is_name


def client_tools(
    spec: AgentSpec, at: Location, server_tools: Collection[str], steps: SchemaSteps, findings: Findings
) -> Iterator[JsonObject]:
    """Yield an agent's client tools in the format of OpenAI's API. `server_tools` are the names of its other tools.

    Raises:
        InvalidTool: a tool is malformed, or its name is taken.
        LimitExceeded: the agent has too many tools.
    """
    schemas = spec.tools_list_dictionary or spec.tools_dictionary or []
    if spec.tools_list_dictionary and spec.tools_dictionary:
        findings.ignore(
            (*at, "tools_dictionary"), "ignored: it is the old name of tools_list_dictionary, which is given"
        )
    at = (*at, "tools_list_dictionary" if spec.tools_list_dictionary else "tools_dictionary")
    if len(schemas) + len(server_tools) > MAX_TOOLS:
        raise too_many_tools(at)
    if undescribed := [name for schema in schemas if (name := _undescribed_name(schema))]:
        path = ".".join(map(str, at))
        findings.sentences.append(f"{path}: models can only guess what these tools are for: {', '.join(undescribed)}")
    ours = RESERVED_NAMES.union(server_tools)
    taken = set(ours)
    for index, schema in enumerate(schemas):
        function, where = _function(schema, (*at, index))
        name = function.get("name")
        if not isinstance(name, str) or not is_name(name):
            raise InvalidTool("a tool's name is 1 to 64 of a-z A-Z 0-9 _ -", location=(*where, "name"))
        if name in taken:
            owner = "a tool of this server that the agent has" if name in ours else "another tool of the agent"
            raise InvalidTool(f"{quote(name)} is the name of {owner}; choose another", location=(*where, "name"))
        taken.add(name)
        yield {"type": "function", "function": {**function, "parameters": _parameters(function, where, steps)}}


def _function(schema: JsonObject, at: Location) -> tuple[JsonObject, Location]:
    """Return the description of a tool's function without nulls, and its location.

    It stands under `function` as in OpenAI's chat completions, or beside `type`, as in its Responses API.
    """
    function, where = schema.get("function"), (*at, "function")
    if function is None:
        function, where = {key: value for key, value in schema.items() if key != "type"}, at
    if (schema.get("type") or "function") != "function" or not isinstance(function, dict):
        raise InvalidTool('a tool is {"type": "function", "function": {…}}', location=at)
    return {key: value for key, value in function.items() if value is not None}, where


def _undescribed_name(schema: JsonObject) -> str | None:
    """Return the name of a tool without description and parameters; None for any other."""
    function = schema.get("function") or schema
    name = function.get("name") if isinstance(function, dict) else None
    is_described = isinstance(function, dict) and (function.get("description") or function.get("parameters"))
    return name[:QUOTE_LIMIT] if isinstance(name, str) and not is_described else None


def _parameters(function: JsonObject, at: Location, steps: SchemaSteps) -> JsonObject:
    """Return the parameters' schema, once it and the description are checked."""
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidTool("a tool's description is text", location=(*at, "description"))
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise InvalidTool('a tool\'s parameters are a JSON schema of type "object"', location=(*at, "parameters"))
    try:
        check_schema(parameters, steps)
    except SchemaError as error:
        raise InvalidTool(f"the parameters cannot be used: {error}", location=(*at, "parameters")) from error
    return {"type": "object", **parameters}
