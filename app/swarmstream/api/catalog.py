"""Routes that list what this server offers: swarm types, models, tools, rate limits."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from swarmstream.api.admission import Call
from swarmstream.api.catalog_shapes import (
    ConfiguredRateLimits,
    ModelDetail,
    ModelsAvailable,
    OpenAIModel,
    OpenAIModels,
    RateLimits,
    RateLimitWindow,
    RateLimitWindows,
    SwarmsAvailable,
    SwarmTypeDetail,
    ToolDetail,
    ToolsAvailable,
)
from swarmstream.clock import utc
from swarmstream.errors import AppError, NotFound
from swarmstream.swarm.swarm_types import SWARM_TYPES

router = APIRouter(prefix="/v1", tags=["catalog"])

_NO_LIMIT = (1 << 53) - 1
"""The largest integer that JavaScript reads exactly. Clients generated for the hosted API accept integers only, and
programs calculate with them: null would break both."""


@router.get("/swarms/available", summary="List the kinds of swarms", operation_id="list_swarm_types")
async def swarms_available(call: Call) -> SwarmsAvailable:
    """Every kind that this server runs; all of them stream token by token."""
    return SwarmsAvailable(
        timestamp=utc(call.state["clock"]).isoformat(),
        swarm_types=list(SWARM_TYPES),
        details=[SwarmTypeDetail(name=kind.name, description=kind.description) for kind in SWARM_TYPES.values()],
    )


@router.get("/models/available", summary="List the models", operation_id="list_models")
async def models_available(call: Call) -> ModelsAvailable:
    """The models that this server has credentials or aliases for."""
    models = call.state["registry"]
    names = models.names()
    details = [
        ModelDetail(name=alias.name, target=alias.target, is_glob=alias.is_glob, has_credentials=alias.is_callable)
        for alias in models.public_aliases()
    ]
    return ModelsAvailable(count=len(names), models=names, details=details)


@router.get("/models", summary="List the models as OpenAI does", operation_id="list_openai_models")
async def openai_models(call: Call) -> OpenAIModels:
    """The same as `/v1/models/available`."""
    return OpenAIModels(
        data=[OpenAIModel(id=name, created=0, owned_by="swarmstream") for name in call.state["registry"].names()]
    )


@router.get(
    "/models/{name:path}", summary="Tell whether there is a model, as OpenAI does", operation_id="get_openai_model"
)
async def openai_model(
    name: Annotated[str, Path(description="A model's name, with its slashes as they are.")], call: Call
) -> OpenAIModel:
    """A name that an agent may give as `model_name`, also one that is not in the list: any that an alias with a glob
    takes, and any of a provider that there are credentials for."""
    if not name or name.endswith("/"):
        raise HTTPException(404)  # the address of the list or of a model, with a slash too many
    try:
        call.state["registry"].resolve(name)
    except AppError as error:
        raise NotFound(error.detail) from error
    return OpenAIModel(id=name, created=0, owned_by="swarmstream")


@router.get("/rate/limits", summary="Tell the rate limits, of which there are none", operation_id="get_rate_limits")
async def rate_limits(call: Call) -> RateLimits:
    """In the shape of the hosted API, with the largest number for each limit."""
    now = utc(call.state["clock"])

    def window(length: timedelta) -> RateLimitWindow:
        return RateLimitWindow(
            count=0, limit=_NO_LIMIT, exceeded=False, remaining=_NO_LIMIT, reset_time=(now + length).isoformat()
        )

    return RateLimits(
        rate_limits=RateLimitWindows(
            minute=window(timedelta(minutes=1)), hour=window(timedelta(hours=1)), day=window(timedelta(days=1))
        ),
        limits=ConfiguredRateLimits(
            maximum_requests_per_minute=_NO_LIMIT,
            maximum_requests_per_hour=_NO_LIMIT,
            maximum_requests_per_day=_NO_LIMIT,
            tokens_per_agent=_NO_LIMIT,
        ),
        timestamp=now.isoformat(),
    )


@router.get("/tools/available", summary="List the tools", operation_id="list_tools")
async def tools_available(call: Call) -> ToolsAvailable:
    """The tools that agents of this key may select: the built-in ones and the operator's."""
    tools = call.tools
    names = tools.names()
    details = [
        ToolDetail(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in map(tools.get, names)
    ]
    return ToolsAvailable(tools=names, details=details)
