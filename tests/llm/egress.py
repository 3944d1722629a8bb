"""Asks models through litellm in a process that can reach nobody, and tells whom each request would have asked.

Reads `[[target, environment, image URL or null], …]` from standard input, writes `[[host, …], …]`.
"""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from swarmstream.errors import ModelError
from swarmstream.llm.base import ModelCall, Sampling
from swarmstream.llm.image_fetcher import ImageFetcher
from swarmstream.llm.model_ref import ModelRef
from swarmstream.llm.providers.litellm.model import LiteLLMModel
from swarmstream.llm.providers.litellm.setup import import_litellm
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.policy import NetworkPolicy

OUR_FETCHER = "our own image fetcher"

_asked: list[str] = []


def _refuse(event: str, arguments: Any) -> None:
    """An audit hook: whatever part of Python asks for a host or a connection comes through here."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    else:
        return
    # asyncio looks names up in other threads: in this one everybody would wait for the answer.
    waits = event != "socket.connect" and threading.current_thread() is threading.main_thread()
    _asked.append(f"{host}, while everybody waits" if waits else host)
    raise OSError("there is no network here")


async def _ours(host: str, port: int) -> list[str]:
    _asked.append(OUR_FETCHER)
    raise OSError("there is no network here")


async def _hosts(target: str, environ: dict[str, str], image: str | None) -> list[str]:
    content: Any = "?"
    if image is not None:
        content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": image}}]
    ref = ModelRef(name=target, target=target, backend="litellm")
    call = ModelCall(ref, [{"role": "user", "content": content}], Sampling(7, None, None, None, {}))
    model = LiteLLMModel(environ, images=ImageFetcher(NetworkPolicy(AllowedHosts(["*"]), resolve=_ours)))
    _asked.clear()
    os.environ.update(environ)
    try:
        await asyncio.wait_for(model.stream(call, lambda deltas: None), 60)
    except ModelError:
        return sorted(set(_asked))
    finally:
        for name in environ:
            del os.environ[name]
        await model.close()
    raise AssertionError(f"{target} has answered")


async def _all(calls: list[Any]) -> list[list[str]]:
    return [await _hosts(*call) for call in calls]


if __name__ == "__main__":
    import_litellm()
    sys.tracebacklimit = 0  # litellm formats a traceback for every failure, which takes longer than all the rest
    sys.addaudithook(_refuse)
    print(json.dumps(asyncio.run(_all(json.load(sys.stdin)))))
