"""Health checks: the process lives, the server takes new runs."""

from fastapi import APIRouter, Request

from swarmstream.api.catalog_shapes import Status
from swarmstream.api.state import state_of
from swarmstream.errors import Unavailable

router = APIRouter(tags=["health"])


@router.get("/health", summary="Tell whether the server answers", operation_id="get_health")
async def health() -> Status:
    return Status(status="ok")


@router.get("/health/live", summary="Tell whether the process lives", operation_id="get_liveness")
async def live() -> Status:
    return Status(status="ok")


@router.get("/health/ready", summary="Tell whether new runs are welcome", operation_id="get_readiness")
async def ready(request: Request) -> Status:
    """503 from the moment the server begins to stop, and while it cannot write down what happens."""
    if not state_of(request)["supervisor"].is_ready:
        raise Unavailable("the server takes no runs at present", retry_after_seconds=1)
    return Status(status="ready")


# Uptime monitors ask with HEAD.
for _path, _endpoint in (("/health", health), ("/health/live", live), ("/health/ready", ready)):
    router.head(_path, include_in_schema=False)(_endpoint)
