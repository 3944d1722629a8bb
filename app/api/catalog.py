"""What this server offers: kinds of swarms, models, tools."""

from fastapi import APIRouter, Request

from app.api.deps import Caller, Models, Tools, parts_of
from app.api.schema import (
    ModelDetail,
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


@router.get("/swarms/available", summary="The kinds of swarms")
async def swarms_available(request: Request, _: Caller) -> SwarmsAvailable:
    """Every kind that this server runs; all of them stream token by token."""
    return SwarmsAvailable(
        timestamp=utc(parts_of(request)["clock"]).isoformat(),
        swarm_types=list(SWARM_TYPES),
        details=[SwarmTypeDetail(name=kind.name, description=kind.description) for kind in SWARM_TYPES.values()],
    )


@router.get("/models/available", summary="The models")
async def models_available(_: Caller, models: Models) -> ModelsAvailable:
    """The models that this server has credentials or aliases for."""
    names = models.names()
    details = [
        ModelDetail(name=offer.name, target=offer.target, is_glob=offer.is_glob, has_credentials=offer.is_callable)
        for offer in models.offers()
    ]
    return ModelsAvailable(count=len(names), models=names, details=details)


@router.get("/models", summary="The models, as OpenAI lists them")
async def openai_models(_: Caller, models: Models) -> OpenAIModels:
    """The same as `/v1/models/available`."""
    return OpenAIModels(data=[OpenAIModel(id=name, created=0, owned_by="swarmstream") for name in models.names()])


@router.get("/tools/available", summary="The tools")
async def tools_available(tools: Tools) -> ToolsAvailable:
    """The tools that agents of this key may select: the built-in ones and the operator's."""
    names = tools.names()
    details = [
        ToolDetail(name=tool.name, description=tool.description, parameters=tool.parameters)
        for tool in map(tools.named, names)
    ]
    return ToolsAvailable(tools=names, details=details)
