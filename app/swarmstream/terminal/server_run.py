"""A run on a server, posted and read over HTTP as JSON lines."""

import json
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any, Self, cast
from urllib.parse import quote

import httpx
from anyio import CancelScope

_TIMEOUT = httpx.Timeout(10, read=90)
"""Seconds; a server that is alive sends a heartbeat after 15 s of silence."""
_NDJSON = "application/x-ndjson"
_MAX_REFUSAL_BYTES = 64 * 1024


class ServerError(Exception):
    """The server cannot be reached, refused the run, or broke its stream off; the message is for people."""

    def __init__(self, detail: str, *, wants_key: bool = False) -> None:
        """`wants_key`: the server does not know the key, or was given none."""
        super().__init__(detail)
        self.wants_key = wants_key


class ServerRun:
    """The frames of a run. It is posted when the first one is asked for; `aclose` ends the connection.

    What becomes of the run without its connection is decided by its `on_disconnect`.
    """

    def __init__(self, server: str, key: str | None, payload: Mapping[str, Any]) -> None:
        options: Any = payload.get("stream_options")
        if options is None or isinstance(options, dict):  # anything else is for the server to refuse
            options = {**cast(dict[str, Any], options or {}), "include_output": False}
        self._payload = {**payload, "stream": True, "stream_options": options}
        self._path = "/v1/agent/completions" if "agent_config" in payload else "/v1/swarm/completions"
        self._server = server.rstrip("/")
        self._headers = {"accept": _NDJSON, **({"x-api-key": key} if key else {})}
        self._http: httpx.AsyncClient | None = None
        self._frames: AsyncGenerator[dict[str, Any]] | None = None
        self._job_id = ""
        self._reading = CancelScope()
        self._has_given_up = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """Return the next frame.

        Raises:
            ServerError: the run has not ended, and there is no next frame.
        """
        if self._has_given_up:
            raise StopAsyncIteration
        with CancelScope() as self._reading:
            try:
                if self._frames is None:
                    self._http = httpx.AsyncClient(base_url=self._server, headers=self._headers, timeout=_TIMEOUT)
                    self._frames = _frames(await self._post(self._http))
                frame = await anext(self._frames)
            except httpx.RequestError as error:
                where = "the connection broke off" if self._frames else f"cannot reach {self._server}"
                raise ServerError(f"{where}: {error or type(error).__name__}") from error
            if not self._job_id:
                self._job_id = frame["data"].get("job_id", "")
            return frame
        raise StopAsyncIteration

    async def cancel(self) -> None:
        """Ask the server to end the run. The frames stop if it cannot."""
        assert self._http is not None
        try:
            answer = await self._http.post(f"/v1/runs/{quote(self._job_id, safe='')}/cancel")
            cancelled = answer.is_success
        except httpx.RequestError:
            cancelled = False
        if not cancelled:
            self._has_given_up = True
            self._reading.cancel()

    async def aclose(self) -> None:
        if self._frames is not None:
            await self._frames.aclose()
        if self._http is not None:
            await self._http.aclose()

    async def _post(self, http: httpx.AsyncClient) -> httpx.Response:
        request = http.build_request("POST", self._path, json=self._payload)
        response = await http.send(request, stream=True, follow_redirects=False)
        kind = response.headers.get("content-type", "")
        if response.status_code == HTTPStatus.OK and kind.startswith(_NDJSON):
            return response
        try:
            wants_key = response.status_code == HTTPStatus.UNAUTHORIZED
            raise ServerError(await _refusal(response), wants_key=wants_key)
        finally:
            await response.aclose()


async def _frames(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """Yield one frame for each line, of any length; heartbeats are white space between them."""
    try:
        held: list[bytes] = []
        async for content in response.aiter_bytes():
            *lines, rest = content.split(b"\n")
            for line in lines:
                yield _frame(b"".join((*held, line)))
                held.clear()
            held.append(rest)
    finally:
        await response.aclose()


def _frame(line: bytes) -> dict[str, Any]:
    try:
        frame: Any = json.loads(line)
        if isinstance(frame["event"], str) and isinstance(frame["data"], dict):
            return frame
    except (ValueError, TypeError, KeyError):
        pass
    raise ServerError("the server sent something that is no frame of a run")


async def _refusal(response: httpx.Response) -> str:
    """Return the text of a problem (RFC 9457), with a line for each field that is wrong."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    body = bytearray()
    async for content in response.aiter_bytes():
        body += content
        if len(body) > _MAX_REFUSAL_BYTES:
            break
    try:
        problem: Any = json.loads(body)
        lines = [f"{problem['detail']} ({status}, {problem['code']})"]
        fields: list[Any] = problem.get("errors") or []
        if len(fields) > 1:
            lines += [f"  {'.'.join(str(part) for part in field['loc'])}: {field['msg']}" for field in fields]
        return "\n".join(lines)
    except (ValueError, TypeError, KeyError):
        return f"{response.url} answered {status}, which is no stream of swarmstream's"
