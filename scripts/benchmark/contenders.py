"""The contenders: the start of each server, and its requests."""

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tokens
from processes import ROOT, BenchmarkError, Server, server

_KEY = "benchmark-key"
_MASTER_KEY = f"sk-{secrets.token_hex(32)}"
"""For litellm's proxy, which does not start without a strong one."""
_MAX_TOKENS = 8192
_LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


@dataclass(frozen=True, slots=True)
class Question:
    """A request, apart from the form that each contender gives it."""

    model: str
    swarm_type: str | None = None
    """The type of a swarm of three agents; without it there is one agent."""
    include_output: bool = False
    tools: tuple[str, ...] = ()
    """Names of the tools that the agent may call."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure."""

    name: str
    meaning: str
    command: Sequence[str | Path]
    health: str
    path: Callable[[Question], str]
    body: Callable[[Question], dict[str, Any]]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pattern: str = tokens.NAMED
    is_ours: bool = False
    proof: bytes = b""
    """Text that each of its answers contains."""
    open_streams: int = 1000
    """Number of silent streams that it is to hold; litellm opens at most 500 connections to one provider."""

    @contextmanager
    def serve(self, provider_url: str) -> Generator[Server]:
        """Start a server process with this provider."""
        with TemporaryDirectory() as folder:
            environ = {
                "OPENAI_API_KEY": "sk-benchmark",
                "OPENAI_BASE_URL": provider_url,
                "SWARMSTREAM_DATA_DIR": f"{folder}/data",
                **self.environ,
            }
            config = Path(folder) / "config.yaml"
            config.write_text(json.dumps(_proxy_config(provider_url)))
            command = [str(config) if word == "CONFIG" else word for word in self.command]
            with server(self.name, command, environ, self.health) as running:
                yield running

    def check(self, server: Server) -> None:
        """Check that the server runs with the settings it was given, since it ignores unknown ones."""
        question = Question("burst-1")
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {"content-type": "application/json", **self.headers}
        connection.request("POST", self.path(question), json.dumps(self.body(question)), headers)
        if self.proof not in connection.getresponse().read():
            raise BenchmarkError(f"its answer has no {self.proof.decode()}")
        connection.close()

    def order(self, question: Question) -> dict[str, Any]:
        """Return the request in this contender's form."""
        return {
            "path": self.path(question),
            "headers": dict(self.headers),
            "body": json.dumps(self.body(question)),
            "pattern": self.pattern,
        }


def _our_path(question: Question) -> str:
    return "/v1/swarm/completions" if question.swarm_type else "/v1/agent/completions"


def _our_body(question: Question) -> dict[str, Any]:
    def agent(name: str) -> dict[str, Any]:
        return {"agent_name": name, "model_name": f"openai/{question.model}", **more}

    more: dict[str, Any] = {"max_tokens": _MAX_TOKENS}
    if question.tools:
        more["selected_tools"] = list(question.tools)
    body: dict[str, Any] = {
        "task": "go",
        "stream": True,
        "stream_options": {"include_output": question.include_output},
    }
    if question.swarm_type:
        return {**body, "swarm_type": question.swarm_type, "agents": [agent(name) for name in "ABC"]}
    return {**body, "agent_config": agent("A")}


def _ours(name: str, meaning: str, lane: str, open_streams: int = 1000, **environ: str) -> Contender:
    return Contender(
        name,
        meaning,
        [ROOT / ".venv/bin/swarmstream", "serve", "--port=0"],
        "/health/live",
        _our_path,
        _our_body,
        environ={"SWARMSTREAM_API_KEYS": _KEY, "SWARMSTREAM_LANE": lane, **environ},
        headers={"x-api-key": _KEY},
        is_ours=True,
        proof=f'"lane":"{lane}"'.encode(),
        open_streams=open_streams,
    )


def _openai_body(question: Question) -> dict[str, Any]:
    return {
        "model": question.model,
        "messages": [{"role": "user", "content": "go"}],
        "max_tokens": _MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _afternoon_body(question: Question) -> dict[str, Any]:
    return {"agent_name": "A", "model_name": f"openai/{question.model}", "task": "go", "max_tokens": _MAX_TOKENS}


def _proxy_config(provider_url: str) -> dict[str, Any]:
    """YAML is read, and JSON is YAML."""
    model = {"model": "openai/*", "api_base": provider_url, "api_key": "sk-benchmark"}
    return {
        "model_list": [{"model_name": "*", "litellm_params": model}],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"disable_spend_logs": True, "disable_spend_updates": True},
    }


def _uvicorn(app: str) -> list[str]:
    return [sys.executable, "-m", "uvicorn", app, "--port=0", "--loop=uvloop", "--http=httptools", "--no-access-log"]


CONTENDERS = [
    Contender(
        "relay",
        "aiohttp in, one frame a token out, nothing in between",
        _uvicorn("relay:app"),
        "/",
        lambda _: "/v1/chat/completions",
        _openai_body,
    ),
    _ours("direct", "swarmstream, its own lane to the provider", "direct"),
    _ours("memory", "the same with its journal in memory", "direct", SWARMSTREAM_DATA_DIR=""),
    _ours("litellm", "swarmstream, its litellm lane", "litellm", open_streams=400),
    Contender(
        "afternoon",
        "FastAPI, sse-starlette and litellm as one writes it in an afternoon",
        _uvicorn("afternoon:app"),
        "/health",
        lambda _: "/v1/agent/completions",
        _afternoon_body,
        environ=_LITELLM,
        open_streams=400,
    ),
    Contender(
        "proxy",
        "litellm's own proxy",
        [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", "CONFIG", "--host", "127.0.0.1", "--port", "0"],
        "/health/liveliness",
        lambda _: "/v1/chat/completions",
        _openai_body,
        environ={**_LITELLM, "LITELLM_MASTER_KEY": _MASTER_KEY},
        headers={"authorization": f"Bearer {_MASTER_KEY}"},
        pattern=tokens.UNNAMED,
        open_streams=400,
    ),
]


def has_proxy() -> bool:
    """True if this Python can run litellm's proxy, which needs more than litellm itself."""
    probe = [sys.executable, "-c", "import litellm.proxy.proxy_server"]
    return subprocess.run(probe, env=_LITELLM, capture_output=True).returncode == 0
