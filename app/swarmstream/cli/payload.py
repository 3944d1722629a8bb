"""The payload that `swarmstream run` is asked to run: a file's, standard input's, or one made of a task."""

import codecs
import errno
import sys
from pathlib import Path
from typing import Any, cast

import orjson

from swarmstream.cli.console import refuse

_MIN_TASK_WORDS = 2
"""An argument of fewer words is taken for the name of a file."""


def read_payload(source: str | None, task: str | None, model: str | None) -> dict[str, Any]:
    """Return the payload for the command's arguments.

    `source` is the name of a file, `-` for standard input, or a task. `task` and `model` take precedence over the
    payload's own.
    """
    payload = _payload(source, task)
    return payload if model is None else _with_model(payload, model)


def _payload(source: str | None, task: str | None) -> dict[str, Any]:
    if source is None:
        if task is None:
            refuse('Say what to run: a JSON file, or a task such as "Why do cats purr?".')
        return _one_agent_payload(task)
    if source == "-" or _exists(source):
        payload = _read_json(source)
        return payload if task is None else {**payload, "task": task}
    if len(source.split()) < _MIN_TASK_WORDS or source.endswith(".json"):
        refuse(f'There is no file {source}. If it is a task and no file, write: --task "{source}"')
    if task is not None:
        refuse(f"There is no file {source}, and two tasks are one too many.")
    return _one_agent_payload(source)


def _one_agent_payload(task: str) -> dict[str, Any]:
    return {"agent_config": {"agent_name": "Agent"}, "task": task}


def _exists(name: str) -> bool:
    try:
        Path(name).stat()
    except FileNotFoundError:
        return False
    except OSError as error:  # such as a folder without permission: a file was meant, unless no file can be named so
        return error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR)
    return True


def _read_json(file: str) -> dict[str, Any]:
    name = "standard input" if file == "-" else file
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        refuse(f"{name} cannot be read: {error.strerror}")
    try:
        payload = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        refuse(f"{name}, line {error.lineno}, column {error.colno}: {error.msg}")
    if not isinstance(payload, dict):
        refuse(f"{name} holds no JSON object.")
    return cast(dict[str, Any], payload)


def _with_model(payload: dict[str, Any], model: str) -> dict[str, Any]:
    """Set the model of every agent in the payload; values of a wrong type are left for the run to refuse."""

    def changed(agent: object) -> object:
        return {**cast(dict[str, Any], agent), "model_name": model} if isinstance(agent, dict) else agent

    if "agent_config" in payload:
        return {**payload, "agent_config": changed(payload["agent_config"])}
    agents = payload.get("agents")
    if not isinstance(agents, list):
        return payload
    return {**payload, "agents": [changed(agent) for agent in cast(list[object], agents)]}
