"""One error body for every route, `application/problem+json`, that clients of RFC 9457, Swarms and OpenAI all read."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from swarmstream.api.unknown_routes import methods_of, no_such_route
from swarmstream.errors import QUOTE_LIMIT, AppError, InternalError, Location, Unavailable, quote
from swarmstream.events import Failure

INVALID_SCHEMA = "invalid_schema"
"""The code of a request in which a field is missing or of the wrong type."""

_MAX_ERRORS = 10
_MAX_DETAIL = 600
_MAX_LOCATION = 32
"""Steps of a path: agents can be nested in agents, as deep as JSON goes."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    loc: list[str | int]
    """The path to the field in the request: names, and indexes from 0."""
    msg: str
    """What is wrong with it."""
    type: str
    """The kind of mistake, in one word."""


class OpenAIError(BaseModel):
    """The same problem as OpenAI's clients look for it."""

    message: str
    """The same as `detail`."""
    type: str
    """The kind of error in OpenAI's words, such as `invalid_request_error`."""
    code: str
    """The same as the problem's `code`."""
    param: str | None
    """The dotted path of the first field in `errors`; null: none."""


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    type: str
    """A URI of the kind of problem (RFC 9457), made of its `code`."""
    title: str
    """The status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """One sentence that says what is wrong."""
    code: str
    """What a program goes by: one of the codes that docs/errors.md lists, which never change."""
    request_id: str
    """The request's id, as in `X-Request-Id` and in the server's log."""
    errors: list[FieldProblem]
    """The fields that are wrong, most important first; at most 10."""
    error: OpenAIError
    """The same for OpenAI's clients."""


def problem(
    *, status: int, code: str, detail: str, request_id: str, errors: Sequence[FieldProblem] = ()
) -> dict[str, Any]:
    """The body for a failure. `errors` name fields, most important first."""
    detail = detail[:_MAX_DETAIL]
    errors = errors[:_MAX_ERRORS]
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    param = _cut(".".join(str(part) for part in errors[0].loc)) if errors and errors[0].loc else None
    return Problem(
        type=f"urn:swarmstream:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id,
        errors=list(errors),
        error=OpenAIError(message=detail, type=kind, code=code, param=param),
    ).model_dump()


def problem_response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The answer that carries such a body."""
    status: int = body["status"]
    return Response(orjson.dumps(body), status, headers=headers, media_type="application/problem+json")


def refusal(error: AppError, request_id: str) -> Response:
    """The answer to a request that was refused."""
    errors = [_field_problem(error.location, error.detail, error.code)] if error.location else []
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    if error.status in (408, 413):
        headers["Connection"] = "close"
    body = problem(status=error.status, code=error.code, detail=error.detail, request_id=request_id, errors=errors)
    return problem_response(body, headers)


def failed_run_response(failure: Failure, request_id: str, so_far: Mapping[str, Any]) -> Response:
    """The answer to a run that failed and was not streamed; repeating it would be paid for again."""
    body = problem(status=failure.status, code=failure.code, detail=failure.message, request_id=request_id)
    headers = {"x-should-retry": "false"}
    if failure.status == 503:
        headers["Retry-After"] = "1"
    return problem_response({**body, **so_far}, headers)


def waiting_run_response(
    job_id: str, request_id: str, headers: Mapping[str, str] = {}, *, may_be_repeated: bool = True
) -> Response:
    """The answer where a run's end is still to come although nobody carries it out at present. Where the same request
    would be another run, it says that it must not be repeated."""
    detail = "the run goes on, or is told to have ended, when the server can take it up: read it then"
    body = problem(status=Unavailable.status, code=Unavailable.code, detail=detail, request_id=request_id)
    told = {**headers, "Retry-After": "1", **({} if may_be_repeated else {"x-should-retry": "false"})}
    return problem_response({**body, "job_id": job_id}, told)


async def on_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return refusal(error, request.state.request_id)


async def on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors(), request.state.request_id)


def invalid(errors: Sequence[Mapping[str, Any]], request_id: str) -> Response:
    """The answer to a payload of the wrong shape; `errors` are pydantic's. The input itself is not echoed."""
    problems = [_field_problem(error["loc"], error["msg"], error["type"]) for error in errors]
    first = problems[0]
    at = _cut(".".join(str(part) for part in first.loc))
    detail = f"{at}: {first.msg}" if at else first.msg
    if len(problems) > 1:
        detail += f" (and {len(problems) - 1} more)"
    body = problem(status=422, code=INVALID_SCHEMA, detail=detail, request_id=request_id, errors=problems)
    return problem_response(body)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no route has this path, or none takes this method."""
    assert isinstance(error, HTTPException)
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = no_such_route(request)
    elif error.status_code == 405:
        path: str = request.scope["path"]
        headers["Allow"] = ", ".join(methods_of(request.app.routes, path))
        detail = f"{quote(path)} takes {headers['Allow']}, not {quote(request.method)}"
    code = HTTPStatus(error.status_code).name.lower()
    body = problem(status=error.status_code, code=code, detail=detail, request_id=request.state.request_id)
    return problem_response(body, headers)


async def on_client_gone(_: Request, error: Exception) -> Response:
    """Nobody is there to read this: the client left while its request was still coming."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=400)


async def on_bug(request: Request, error: Exception) -> Response:
    """Starlette logs the error itself and answers with this."""
    body = problem(
        status=500,
        code=InternalError.code,
        detail="something went wrong in this server",
        request_id=request.state.request_id,
    )
    # Starlette answers for bugs outside of our middleware, which would have set the id.
    return problem_response(body, {"x-should-retry": "false", "X-Request-Id": request.state.request_id})


def _field_problem(location: Location, message: str, kind: str) -> FieldProblem:
    parts = [part if isinstance(part, int) else _cut(part) for part in location[:_MAX_LOCATION]]
    return FieldProblem(loc=parts, msg=_cut(message, 2 * QUOTE_LIMIT), type=kind)


def _cut(text: str, limit: int = QUOTE_LIMIT) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
