"""The shapes of the catalogs: what this server has and how it is."""

from typing import Any, Literal

from pydantic import BaseModel


class SwarmTypeDetail(BaseModel):
    name: str
    streams: Literal["token"] = "token"
    description: str


class SwarmsAvailable(BaseModel):
    """The answer of `GET /v1/swarms/available`."""

    success: bool = True
    status: bool = True
    timestamp: str
    swarm_types: list[str]
    details: list[SwarmTypeDetail]


class ModelDetail(BaseModel):
    """An alias of the operator's."""

    name: str
    """What clients ask for: a name, or a glob such as `gpt-*` that many names fit."""
    target: str
    """The model that answers, by its name at litellm."""
    is_glob: bool
    has_credentials: bool
    """Whether it can be called here."""


class ModelsAvailable(BaseModel):
    """The answer of `GET /v1/models/available`. `details` has the aliases, in the order that globs are tried in."""

    success: bool = True
    count: int
    models: list[str]
    details: list[ModelDetail]


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """The answer of `GET /v1/models`: OpenAI's list."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class ToolDetail(BaseModel):
    """A tool; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolsAvailable(BaseModel):
    """The answer of `GET /v1/tools/available`."""

    status: Literal["success"] = "success"
    tools: list[str]
    details: list[ToolDetail]


class Status(BaseModel):
    """A word about the server."""

    status: str
