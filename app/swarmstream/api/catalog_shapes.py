"""Shapes of the answers that list what this server offers."""

from typing import Any, Literal

from pydantic import BaseModel


class SwarmTypeDetail(BaseModel):
    name: str
    """What a request gives as `swarm_type`."""
    streams: Literal["token"] = "token"
    """How finely its answers are streamed: token by token."""
    description: str
    """Who speaks when."""


class SwarmsAvailable(BaseModel):
    """The answer of `GET /v1/swarms/available`."""

    success: bool = True
    """Always true, for clients of the hosted API."""
    status: bool = True
    """Always true, for clients of the hosted API."""
    timestamp: str
    """When this was asked, as ISO 8601 in UTC."""
    swarm_types: list[str]
    """The names that a request may give as `swarm_type`."""
    details: list[SwarmTypeDetail]
    """What each of them does."""


class ModelDetail(BaseModel):
    """An alias of the operator's."""

    name: str
    """What clients ask for: a name, or a glob such as `gpt-*` that many names fit."""
    target: str
    """The model that answers, by its name at litellm."""
    is_glob: bool
    """Whether `name` is a glob; many names lead to the model then."""
    has_credentials: bool
    """Whether it can be called here."""


class ModelsAvailable(BaseModel):
    """The answer of `GET /v1/models/available`. `details` has the aliases, in the order that globs are tried in."""

    success: bool = True
    """Always true, for clients of the hosted API."""
    count: int
    """How many there are."""
    models: list[str]
    """The names that an agent may give as `model_name`."""
    details: list[ModelDetail]
    """The operator's aliases, in the order in which globs are tried."""


class OpenAIModel(BaseModel):
    id: str
    """What an agent may give as `model_name`."""
    object: Literal["model"] = "model"
    """The kind of object."""
    created: int
    """When the model was made, in Unix seconds: always 0, since that is not known here."""
    owned_by: str
    """Always `swarmstream`."""


class OpenAIModels(BaseModel):
    """The answer of `GET /v1/models`: OpenAI's list."""

    object: Literal["list"] = "list"
    """The kind of object."""
    data: list[OpenAIModel]
    """The models."""


class RateLimitWindow(BaseModel):
    """How many requests a key has sent within a stretch of time, and how many it may."""

    count: int
    """Always 0: requests are not counted."""
    limit: int
    """The largest number that JavaScript reads: there is no limit."""
    exceeded: bool
    """Always false."""
    remaining: int
    """The same as `limit`."""
    reset_time: str
    """When the stretch of time ends that begins now, as ISO 8601 in UTC."""


class RateLimitWindows(BaseModel):
    """The stretches of time that limits are given for."""

    minute: RateLimitWindow
    """The next minute."""
    hour: RateLimitWindow
    """The next hour."""
    day: RateLimitWindow
    """The next day."""


class ConfiguredRateLimits(BaseModel):
    """The limits of a key."""

    maximum_requests_per_minute: int
    """The largest number that JavaScript reads: there is no limit."""
    maximum_requests_per_hour: int
    """The largest number that JavaScript reads: there is no limit."""
    maximum_requests_per_day: int
    """The largest number that JavaScript reads: there is no limit."""
    tokens_per_agent: int
    """The largest number that JavaScript reads: there is no limit but the model's."""


class RateLimits(BaseModel):
    """The answer of `GET /v1/rate/limits`: there are none. The hosted API's clients read numbers and fail on null."""

    success: bool = True
    """Always true, for clients of the hosted API."""
    rate_limits: RateLimitWindows
    """What is left of each limit."""
    limits: ConfiguredRateLimits
    """The limits themselves."""
    tier: Literal["unlimited"] = "unlimited"
    """Always `unlimited`."""
    timestamp: str
    """When this was asked, as ISO 8601 in UTC."""


class ToolDetail(BaseModel):
    """A tool; `parameters` is the JSON schema of its arguments."""

    name: str
    """What an agent gives in `selected_tools`."""
    description: str
    """What the model is told about the tool."""
    parameters: dict[str, Any]
    """The JSON schema of its arguments."""


class ToolsAvailable(BaseModel):
    """The answer of `GET /v1/tools/available`."""

    status: Literal["success"] = "success"
    """Always `success`, for clients of the hosted API."""
    tools: list[str]
    """The names that an agent may give in `selected_tools`."""
    details: list[ToolDetail]
    """What each of them does."""


class Status(BaseModel):
    """A word about the server."""

    status: str
    """A word about the server."""
