"""What this server offers: kinds of swarms, models, tools."""

from fastapi import APIRouter, Request

from app.api.deps import Caller, Models, Tools, parts_of
from app.api.schema import (
    ModelsAvailable,
    OpenAIModel,
    OpenAIModels,
    SwarmsAvailable,
    SwarmTypeDetail,
    ToolDetail,
    ToolsAvailable,
)
from app.clock import utc
from app.swarm.plan import SWARM_TYPES

router = APIRouter(prefix="/v1", tags=["catalog"])


@router.get("/swarms/available", summary="List the kinds of swarms", operation_id="list_swarm_types")
async def swarms_available(request: Request, _: Caller) -> SwarmsAvailable:
    """Every kind that this server runs; all of them stream token by token."""
    return SwarmsAvailable(
        timestamp=utc(parts_of(request)["clock"]).isoformat(),
        swarm_types=list(SWARM_TYPES),
        details=[SwarmTypeDetail(name=kind.name, description=kind.description) for kind in SWARM_TYPES.values()],
    )


@router.get("/models/available", summary="List the models", operation_id="list_models")
async def models_available(_: Caller, models: Models) -> ModelsAvailable:
    """The models that this server has credentials or aliases for."""
    names = models.names()
    return ModelsAvailable(count=len(names), models=names)


@router.get("/models", summary="List the models as OpenAI does", operation_id="list_openai_models")
async def openai_models(_: Caller, models: Models) -> OpenAIModels:
    """The same as `/v1/models/available`."""
    return OpenAIModels(data=[OpenAIModel(id=name, created=0, owned_by="swarmstream") for name in models.names()])


@router.get("/tools/available", summary="List the tools", operation_id="list_tools")
async def tools_available(tools: Tools) -> ToolsAvailable:
    """The tools that agents of this key may select: the built-in ones and the operator's."""
    names = tools.names()
    details = [
        ToolDetail(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in map(tools.named, names)
    ]
    return ToolsAvailable(tools=names, details=details)
