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


class ModelsAvailable(BaseModel):
    """The answer of `GET /v1/models/available`."""

    success: bool = True
    count: int
    models: list[str]


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """The answer of `GET /v1/models`: OpenAI's list."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


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
