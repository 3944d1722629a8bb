"""Parameters of each operation in the OpenAPI document: FastAPI's, and the headers that we read ourselves."""

import json
from typing import Any

from swarmstream.api.openapi.answers import ref

PARAMETERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Your id for the request, which the answer and the log repeat: 1 to 128 letters, digits and "
        "`_ . : -`. Anything else is replaced by an id of the server's.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
    },
    "Idempotency-Key": {
        "description": "Makes the request one run, however often it is sent within 24 hours: later ones get the same "
        "run. With another body it is refused with 422. The run goes on without its client then.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "Last-Event-ID": {
        "description": "With an `Idempotency-Key`, on a repeated request: the last event that the client has of the "
        "run. What comes begins behind it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,16}$"},
    },
    "traceparent": {
        "description": "The caller's place in a trace (W3C Trace Context), which is kept with the run.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
}
"""Headers that we read ourselves, by name."""
_COMPLETION_HEADERS = ("Idempotency-Key", "Last-Event-ID", "traceparent")


def operation_parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every parameter of an operation."""
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        _simplify(parameter)
    is_completion = operation["tags"] == ["completions"]
    headers = ("X-Request-Id", *(_COMPLETION_HEADERS if is_completion else ()))
    return [*parameters, *(ref(name, "parameters") for name in headers)]


def _simplify(parameter: dict[str, Any]) -> None:
    """Remove from a parameter what only bodies have: null, and the name again as a title."""
    schema = parameter["schema"]
    schema.pop("title", None)
    default = schema.pop("default", None)
    if default is not None:
        parameter["description"] = f"{parameter.get('description', '')} Default: `{json.dumps(default)}`.".strip()
    if "anyOf" in schema:
        branches = [branch for branch in schema["anyOf"] if branch != {"type": "null"}]
        parameter["schema"] = branches[0] if len(branches) == 1 else {"anyOf": branches}
    parameter["schema"].pop("description", None)
