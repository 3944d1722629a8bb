"""The answers of each operation in the OpenAPI document: statuses, bodies, headers."""

from typing import Any

from swarmstream.api.problems import INVALID_SCHEMA
from swarmstream.errors import RunCancelled, RunLimitReached, error_kinds

REF = "#/components/{kind}/{name}"


def ref(name: str, kind: str = "schemas") -> dict[str, str]:
    """Return a reference to one of the document's components."""
    return {"$ref": REF.format(kind=kind, name=name)}


def header(description: str, example: str, **schema: Any) -> dict[str, Any]:
    """Describe a header of an answer."""
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": header(
        "The request's id, which the log has, too: yours, if it had a sound one, else one that was made.",
        "req-af48d21d2d4ba0a3b9fe8eba",
    ),
    "Location": header(
        "Where the run's stream can be read, also again.",
        "/v1/runs/swarms-0123456789abcdef0123456789abcdef/stream",
    ),
    "Idempotent-Replayed": header(
        "There only where the run was begun by an earlier request with the same `Idempotency-Key`.",
        "true",
        const="true",
    ),
    "Retry-After": header("In how many seconds to ask again.", "1", pattern="^[0-9]+$"),
    "x-should-retry": header(
        "There where sending the request again would pay for another run; OpenAI's clients go by it.",
        "false",
        const="false",
    ),
    "WWW-Authenticate": header("The scheme by which a key can be sent (RFC 9110).", "Bearer", const="Bearer"),
}

_STARTED = ("Location", "Idempotent-Replayed")


def answer(description: str, *, headers: tuple[str, ...] = (), **content: dict[str, Any]) -> dict[str, Any]:
    """Describe an answer with these headers beside the request's id; `content` is the schema of each kind of body."""
    kinds = {"json": "application/json", "problem": "application/problem+json"}
    kinds |= {"sse": "text/event-stream", "ndjson": "application/x-ndjson", "html": "text/html"}
    response: dict[str, Any] = {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("X-Request-Id", *headers)},
    }
    if content:
        response["content"] = {kinds[kind]: {"schema": schema} for kind, schema in content.items()}
    return response


def _problem(description: str, *codes: str, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    return answer(_with_codes(description, codes), headers=headers, problem=ref("Problem"))


def _failed_run(description: str, *codes: str) -> dict[str, Any]:
    headers = (*_STARTED, "x-should-retry")
    return answer(_with_codes(description, codes), headers=headers, problem=ref("RunProblem"))


def _either(description: str, *codes: str) -> dict[str, Any]:
    headers = (*_STARTED, "Retry-After", "x-should-retry")
    problem = {"anyOf": [ref("RunProblem"), ref("Problem")]}
    return answer(_with_codes(description, codes), headers=headers, problem=problem)


def _with_codes(description: str, codes: tuple[str, ...]) -> str:
    return f"{description} `code` is {' or '.join(f'`{code}`' for code in codes)}."


def _codes(status: int) -> list[str]:
    """Return the codes of all errors that have this status, sorted."""
    return sorted({kind.code for kind in error_kinds() if kind.status == status})


_AUTHENTICATE = ("WWW-Authenticate",)

PROBLEMS = {
    "InvalidKey": _problem("The API key is missing or wrong.", "invalid_api_key", headers=_AUTHENTICATE),
    "UnknownRun": _problem("There is no such run, or it belongs to another key.", "not_found"),
    "HeadTimeout": _problem("The request's line and headers did not arrive in time.", "head_timeout"),
    "HeadTooLarge": _problem("The request's line and headers are more than the operator allows.", "head_too_large"),
    "InternalError": _problem("This server has a bug; its log knows which.", "internal", headers=("x-should-retry",)),
    "Unavailable": _problem(
        "The server is full, about to stop, or cannot reach what it has stored.",
        "unavailable",
        "storage_unavailable",
        headers=("Retry-After",),
    ),
}
"""Problems that several operations share."""

_EVERYWHERE = {"408": "HeadTimeout", "431": "HeadTooLarge", "500": "InternalError", "503": "Unavailable"}

_COMPLETION = {
    "400": _problem("The payload is well formed and cannot be run as it is; `errors` names the field.", *_codes(400)),
    "402": _failed_run("Not streamed: the run's budget is spent.", *_codes(402)),
    "403": _problem("A tool is not for this key.", *_codes(403)),
    "404": _problem("The request has a cursor, and its `Idempotency-Key` no run.", "not_found"),
    "408": _problem("The request's head or its body did not arrive in time.", *_codes(408)),
    "409": _failed_run(
        "Not streamed: the run was cancelled, or made all the model calls that one may.",
        RunCancelled.code,
        RunLimitReached.code,
    ),
    "413": _problem("The body is larger than the operator allows.", *_codes(413)),
    "415": _problem("The body is declared as something else than JSON.", *_codes(415)),
    "422": _problem(
        "The body is not JSON, has the wrong shape, or came with the `Idempotency-Key` of another one.",
        *_codes(422),
        INVALID_SCHEMA,
    ),
    "431": _problem(
        "The request's head is more than the operator allows, or what stands around its body is.", *_codes(431)
    ),
    "500": _either("This server has a bug, before or in the run; its log knows which.", *_codes(500)),
    "502": _failed_run("Not streamed: a provider failed, or its answer was of no use.", *_codes(502)),
    "503": _either(
        "The server is full, about to stop, or cannot write down what happens; or, not streamed, it stopped before the "
        "run's end.",
        *_codes(503),
    ),
    "504": _failed_run("Not streamed: a time limit was reached.", *_codes(504)),
}
_QUEUED = answer("With `background`, not streamed: the run was taken on.", headers=_STARTED, json=ref("QueuedRun"))
_WRONG_PARAMETER = _problem("A parameter has the wrong shape.", INVALID_SCHEMA)


def _started(document: str, event: str) -> dict[str, Any]:
    return answer(
        "What the run came to; with `stream`, its events.",
        headers=_STARTED,
        json=ref(document),
        sse=ref(event),
        ndjson=ref(event),
    )


_EITHER_EVENT = {"anyOf": [ref("SwarmEvent"), ref("AgentEvent")]}

_OWN: dict[str, dict[str, dict[str, Any]]] = {
    "run_agent": {"200": _started("AgentAnswer", "AgentEvent"), "202": _QUEUED, **_COMPLETION},
    "run_swarm": {"200": _started("SwarmAnswer", "SwarmEvent"), "202": _QUEUED, **_COMPLETION},
    "stream_run": {
        "200": answer("The run's events.", headers=("Location",), sse=_EITHER_EVENT, ndjson=_EITHER_EVENT),
        "204": answer("The run is over, and the reader has all of it; an EventSource asks no more."),
        "400": _problem("The cursor is not the id of an event, or is beyond the run's end.", "invalid_request"),
        "401": _problem(
            "The API key or the stream token is missing, wrong or too old.",
            "invalid_api_key",
            "invalid_token",
            headers=_AUTHENTICATE,
        ),
        "422": _WRONG_PARAMETER,
    },
    "get_run": {"200": answer("The run.", json=ref("RunAnswer"))},
    "cancel_run": {"200": answer("The run.", json=ref("RunAnswer"))},
    "delete_run": {
        "204": answer("The run is deleted."),
        "409": _problem("The run goes on; cancel it first.", "still_running"),
    },
    "create_stream_token": {"200": answer("The token.", json=ref("StreamToken"))},
    "list_runs": {
        "200": answer("The page.", json=ref("RunList")),
        "400": _problem("`include` names something that there is not.", "invalid_request"),
        "404": _problem("`after` is none of this key's runs.", "not_found"),
        "422": _WRONG_PARAMETER,
    },
    "get_root": {"200": answer("A greeting; in a browser, a page.", json=ref("Status"), html={"type": "string"})},
    "get_openai_model": {
        "200": answer("The model.", json=ref("OpenAIModel")),
        "404": _problem("No agent may name this model.", "not_found"),
    },
    "list_swarm_logs": {"200": answer("The runs.", json=ref("SwarmLogs"))},
}
"""Answers by the operation's id; others are left as FastAPI describes them."""


def operation_answers(operation: dict[str, Any], path: str) -> dict[str, Any]:
    """Return every answer of an operation, by status."""
    answers: dict[str, Any] = {
        status: {**found, "description": "The answer.", "headers": {"X-Request-Id": ref("X-Request-Id", "headers")}}
        for status, found in operation["responses"].items()
        if status.startswith("2")
    }
    shared = dict(_EVERYWHERE)
    if path.startswith("/v1/"):
        shared["401"] = "InvalidKey"
    if "{job_id}" in path:
        shared["404"] = "UnknownRun"
    answers |= {status: ref(name, "responses") for status, name in shared.items()}
    return dict(sorted((answers | _OWN.get(operation["operationId"], {})).items()))
